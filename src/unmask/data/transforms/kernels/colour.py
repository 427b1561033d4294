"""Changes of colour: jitter, grey, blur and solarisation, by torchvision's kernels, with all chance from one generator.

Any number of channels. Brightness, contrast, blur and solarisation mean something for every channel; saturation, hue
and grey need the three of a colour image and are left out for others, as `lost` says. Images deeper than 8 bits are
changed on the scale between their own smallest and largest value.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as F

from unmask.errors import UserError

SMALL = 40  # pixels: views up to this side are not blurred, as in SimCLR on CIFAR-10 (Chen et al. 2020, appendix B.9)


@dataclass(frozen=True)
class Colours:
    """Each change happens with its own chance; changes that cannot happen draw no random numbers."""

    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    jitter_chance: float = 1.0
    grey: float = 0.0  # chance to lose all colour
    blur: float = 0.0  # chance of a Gaussian blur
    sigma: tuple[float, float] = (0.1, 2.0)  # its deviation, pixels
    solarise: float = 0.0  # chance that values above the middle are inverted

    def __post_init__(self):
        for name in ("jitter_chance", "grey", "blur", "solarise"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must lie between 0 and 1; got {getattr(self, name)}")
        if any(not 0 <= amount <= 1 for amount in self.jitter):
            raise UserError(f"colour jitter must lie between 0 and 1; got {self.jitter}")
        if not 0 < self.sigma[0] <= self.sigma[1]:
            raise UserError(f"the blur needs 0 < smallest <= largest deviation; got {self.sigma}")

    def __call__(self, image: Shaped[Tensor, "c h w"], generator: Generator) -> Shaped[Tensor, "c h w"]:
        """The same image and generator state give the same result; the dtype stays."""
        if not self:
            return image
        low, span = 0.0, 1.0
        if image.is_floating_point():
            low, high = float(image.min()), float(image.max())
            span = (high - low) or 1.0
            image = (image - low) / span
        if any(self.jitter) and _happens(self.jitter_chance, generator):
            image = jittered(image, self.jitter, generator)
        if self.grey and image.shape[0] == 3 and _happens(self.grey, generator):
            image = F.rgb_to_grayscale(image, num_output_channels=3)
        if self.blur and min(image.shape[1:]) > SMALL and _happens(self.blur, generator):
            image = F.gaussian_blur(image, _kernel(image), [_uniform(*self.sigma, generator)])
        if self.solarise and _happens(self.solarise, generator):
            middle = 0.5 if image.is_floating_point() else 128
            image = F.solarize(image[:, None], middle)[:, 0]  # each channel as a grey image: torchvision takes 1 or 3
        return image * span + low if image.is_floating_point() else image

    def __bool__(self) -> bool:
        """True if anything can change."""
        return bool((any(self.jitter) and self.jitter_chance) or self.grey or self.blur or self.solarise)

    def lost(self, channels: int, side: int) -> list[str]:
        """Which changes have no meaning for images of this many channels and views of this side."""
        colours = [("saturation", self.jitter[2]), ("hue", self.jitter[3]), ("grey", self.grey)]
        lost = [name for name, amount in colours if amount and channels != 3]
        return lost + (["blur"] if self.blur and side <= SMALL else [])


def jittered(
    image: Shaped[Tensor, "c h w"], amounts: tuple[float, float, float, float], generator: Generator
) -> Shaped[Tensor, "c h w"]:
    """Brightness, contrast and saturation each times a number from 1 - amount to 1 + amount, and hue turned by at most
    its amount (of the circle, at most a half), in random order; all but three channels have neither saturation nor hue.

    These are torchvision's ColorJitter. Values lie in 0..255 (uint8) or 0..1 (float).
    """
    order = torch.randperm(4, generator=generator).tolist()
    factors = [_uniform(max(0.0, 1 - amount), 1 + amount, generator) for amount in amounts[:3]]
    hue = _uniform(-min(0.5, amounts[3]), min(0.5, amounts[3]), generator)
    coloured = image.shape[0] == 3
    image = image if coloured else image[:, None]  # channels that are no colours: each as a grey image
    changes = [
        lambda x: F.adjust_brightness(x, factors[0]),
        lambda x: F.adjust_contrast(x, factors[1]),
        lambda x: F.adjust_saturation(x, factors[2]),
        lambda x: F.adjust_hue(x, hue),
    ]
    for place in order:
        if amounts[place] and (place < 2 or coloured):
            image = changes[place](image)
    return image if coloured else image[:, 0]


def _kernel(image: Tensor) -> list[int]:
    """An odd number of pixels near a tenth of each side, as in SimCLR."""
    return [max(3, 2 * (side // 20) + 1) for side in (image.shape[2], image.shape[1])]  # width, height


def _happens(chance: float, generator: Generator) -> bool:
    return bool(torch.rand(1, generator=generator) < chance) if chance < 1 else True


def _uniform(low: float, high: float, generator: Generator) -> float:
    return torch.empty(1).uniform_(low, high, generator=generator).item()
