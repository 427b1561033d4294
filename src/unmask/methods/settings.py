"""How a run learns without labels: the method and its parts, each as text that the registry reads."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    name: str  # also with options: "mae(symmetric=True)"
    mask: str
    target: str
    decoder: str
    masks_per_image: int = 1
    decoder_warmup: int | None = None  # first steps that train only a fresh decoder; None: the decoder is not fresh
