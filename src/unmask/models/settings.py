"""Which encoder a run trains, and from which weights it starts."""

from dataclasses import dataclass
from typing import Any

from unmask.files import Json


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    name: str  # a timm name, also with options: "vit_tiny_patch16_224(depth=6)"
    patch_size: int  # pixels along a side of a patch
    timm: Json  # arguments of timm.create_model that rebuild the network
    init: str = "none"  # weights to start from
    ema: bool = False  # of these weights, the moving average
    student: bool = False  # of a teacher and a student, the student
    weights_size: tuple[int, ...] | None = None  # of the images that these weights were made for, pixels

    def reading(self) -> dict[str, Any]:
        """How these weights are read, as options."""
        return {"ema": self.ema, "student": self.student, "weights_size": self.weights_size}
