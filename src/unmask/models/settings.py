"""Which encoder a run trains, and from which weights it starts."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    name: str  # a timm name, also with options: "vit_tiny_patch16_224(depth=6)"
    patch_size: int  # pixels along a side of a patch
    timm: dict[str, Any]  # arguments of timm.create_model that rebuild the network
    init: str = "none"  # weights to start from
