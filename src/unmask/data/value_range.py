"""The range of the values of images: those of one data set have to share it. One image with values up to 2e9 among
8-bit ones sets everybody's mean, and a batch with it is lost."""

import math
from dataclasses import dataclass

from unmask.data.codecs.image import BadImage, DecodedImage

Ends = tuple[float, float]  # smallest and largest value
EIGHT_BITS: Ends = (0.0, 255.0)


def ends_of(image: DecodedImage) -> Ends | None:
    """Of values that are as stored; None where they were brought to 0..255."""
    return (float(image.pixels.min()), float(image.pixels.max())) if image.as_stored else None


def magnitude(ends: Ends | None) -> int | None:
    """The power of ten below the largest value; None for values brought to 0..255, and for stored values that are 0."""
    largest = max(map(abs, ends)) if ends else 0
    return math.ceil(math.log10(largest)) - 1 if largest else None


def comparable(one: int | None, usual: int | None) -> bool:
    """True if images of these magnitudes can be learnt from together."""
    if one == usual:
        return True
    if one is not None and usual is not None:
        return -4 <= one - usual <= 3
    measured = usual if one is None else one  # 8-bit values among measurements, or the other way round
    return measured is not None and 0 <= measured <= 2  # above 1, up to 1000


@dataclass(frozen=True)
class UsualRange:
    """What most images of a data set share."""

    magnitude: int | None
    ends: Ends

    def fault(self, ends: Ends | None) -> str | None:
        """Why an image with these values cannot be used beside the others; None where it can."""
        low, high = ends or EIGHT_BITS
        if not (low or high) or comparable(magnitude(ends), self.magnitude):
            return None
        usual = f"{self.ends[0]:g} to {self.ends[1]:g}"
        return f"has values from {low:g} to {high:g}, most others from {usual}: bring all to one range"

    def require(self, ends: Ends | None) -> None:
        """Raises BadImage for a sample whose values are unlike those of the others."""
        if fault := self.fault(ends):
            raise BadImage(fault)
