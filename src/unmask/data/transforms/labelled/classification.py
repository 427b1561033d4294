"""Augmentation for classification: crop, flip, RandAugment, random erasing. He et al. 2021, table 9.

RandAugment is timm's, which MAE's fine-tuning used; it works on 8-bit images with one or three channels.
"""

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from timm.data.auto_augment import rand_augment_transform
from torch import Generator, Tensor
from torchvision.transforms.v2 import RandomErasing
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from unmask.data.modality import Modality, Window
from unmask.errors import UserError


@dataclass(frozen=True)
class TrainView:
    """A random crop, then the rest. The same image and generator state give the same view.

    Raises UserError for a RandAugment text that timm cannot read.
    """

    crop: Window
    mean: tuple[float, ...]  # per channel, raw units: fills what rotations uncover, and the scale of erasing noise
    std: tuple[float, ...]
    randaug: str = "off"  # or as timm writes it, e.g. "rand-m9-mstd0.5-inc1"
    erase: float = 0.0  # probability that a rectangle becomes noise
    modality: Modality | None = None  # whose own changes come last

    def __post_init__(self):
        if self.randaug != "off":
            try:
                _ = self._policy
            except (AssertionError, ValueError, KeyError, TypeError) as error:
                given = f"--randaug {self.randaug!r} is not as timm writes it"
                why = f": {error}" if str(error) else ""
                raise UserError(f"{given}, e.g. rand-m9-mstd0.5-inc1 (or off){why}") from error

    def __call__(self, image: Any, generator: Generator) -> Shaped[Tensor, "c *size"]:
        view = self.crop(image, generator)
        if self.randaug != "off":
            view = self._augmented(view, generator)
        if self.erase and torch.rand(1, generator=generator) < self.erase:
            view = self._erased(view, generator)
        return view if self.modality is None else self.modality.masked_for_labels(view, generator)

    @cached_property
    def _policy(self) -> Any:
        fill = tuple(min(255, max(0, round(m))) for m in self.mean)
        settings: dict[str, Any] = {"img_mean": fill if len(fill) == 3 else fill[0]}
        if "mmax" not in self.randaug:  # at the full 10, posterize keeps no bit, which Pillow refuses
            settings["magnitude_max"] = 9.99
        return rand_augment_transform(self.randaug, settings)

    def _augmented(self, view: Tensor, generator: Generator) -> Tensor:
        """timm draws from Python's and numpy's global generators, which are seeded for this image and then restored."""
        seed = int(torch.randint(2**31, (1,), generator=generator))
        before = random.getstate(), np.random.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            bytes_ = view if view.dtype == torch.uint8 else view.round().clamp(0, 255).to(torch.uint8)
            return pil_to_tensor(self._policy(to_pil_image(bytes_)))
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002

    def _erased(self, view: Tensor, generator: Generator) -> Tensor:
        """Noise of the data's mean and deviation; torchvision draws from torch's global generator."""
        seed = int(torch.randint(2**31, (1,), generator=generator))
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            noise: Any = "random"  # torchvision's types know numbers only
            noisy = RandomErasing(p=1.0, scale=(0.02, 1 / 3), value=noise)((view.float() - mean) / std)
        erased = noisy * std + mean
        return erased.round().clamp(0, 255).to(torch.uint8) if view.dtype == torch.uint8 else erased
