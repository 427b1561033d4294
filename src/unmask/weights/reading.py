"""What a caller may say of weights where their file does not tell, or where it holds several networks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unmask.errors import UserError
from unmask.plain import numbers


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Raises UserError for a mean without a std, and for numbers that are none."""

    mean: tuple[float, ...] | None = None  # per channel; overrules what the weights say
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None  # height and width of the images that the weights were made for, pixels
    ema: bool = False  # take the moving average of the weights
    student: bool = False  # take the student of a teacher and a student

    def __post_init__(self):
        if (self.mean is None) != (self.std is None):
            raise UserError("give --mean and --std together, one number per channel each")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise UserError(
                    f"--mean has {len(self.mean)} numbers and --std has {len(self.std)}: one per channel each"
                )
            if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
                raise UserError(f"--mean must be finite and --std above 0, got {self.mean} and {self.std}")
        if self.ema and self.student:
            raise UserError("give --ema or --student, not both: one network is read")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Reading":
        """From options by name, `weights_size` among them; others are passed over, and those that are not given."""
        mean, std, size = (tuple(numbers(options.get(name) or ())) for name in ("mean", "std", "weights_size"))
        if len(size) not in (0, 1, 2):
            raise UserError(f"--weights-size is one number or height and width, got {size}")
        copies = {name: bool(options.get(name)) for name in ("ema", "student")}
        side = size * 2 if len(size) == 1 else size
        return cls(mean=mean or None, std=std or None, size=(side[0], side[1]) if side else None, **copies)

    def refuse_choice(self, text: object) -> None:
        """Raises UserError for options that choose among weights, where there is nothing to choose from."""
        given = [f"--{flag}" for flag, value in (("ema", self.ema), ("student", self.student)) if value]
        given += ["--weights-size"] if self.size else []
        if given:
            raise UserError(f"{' and '.join(given)}: {text} is a name of timm's, not a file with several networks")

    def size_of(self, images: bool, source: str) -> tuple[int, int] | None:
        """The given size. Raises UserError where it is given for weights of other data than images."""
        if self.size and not images:
            raise UserError(f"--weights-size is for weights of images, and those of {source} are not")
        return self.size

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and std in raw units, 0..255. Numbers that are all at most 1 are of pixels scaled to 0..1, as
        torchvision and preprocessor_config.json write them."""
        if self.mean is None or self.std is None:
            return None
        scale = 255.0 if max(map(abs, (*self.mean, *self.std))) <= 1 else 1.0
        return tuple(scale * m for m in self.mean), tuple(scale * s for s in self.std)


PLAIN = Reading()
READING = ("mean", "std", "weights_size", "ema", "student")  # options that say how weights are read
