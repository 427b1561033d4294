"""Mean, deviation and range of pixel values, added image by image: exact counts for uint8, float64 for others."""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from unmask.data.modality import Modality

EDGE = 0.1  # of the range of values, at either end: what counts as extreme
PROBE = 1024  # values kept of each float image, evenly spaced, to judge its range by
ROUNDING = 1e-7  # of the mean: a deviation that float32's rounding makes of equal values
PROBES = 2000  # float images that are probed; the first in order


@dataclass
class Moments:
    """Moments of images with one number of channels. Sums are added in a fixed order, so they are exactly
    repeatable."""

    counts: np.ndarray  # channels 256, int64: how often each 8-bit value occurs
    total: np.ndarray  # channels, float64: of the float images, as are the next three
    squares: np.ndarray  # channels, float64: sum of squared distances from the mean
    num_values: int = 0  # per channel
    low: float = float("inf")
    high: float = float("-inf")

    @property
    def num_pixels(self) -> int:
        """Over all images."""
        return int(self.counts[0].sum()) + self.num_values

    @classmethod
    def empty(cls, channels: int) -> "Moments":
        return cls(np.zeros((channels, 256), np.int64), np.zeros(channels), np.zeros(channels))

    def add(self, pixels: Shaped[Tensor, "c *size"]) -> None:
        """One sample. NaN stands for no value."""
        if pixels.dtype == torch.uint8:
            for channel, values in enumerate(pixels):
                self.counts[channel] += torch.bincount(values.flatten(), minlength=256).numpy()
            return
        values = pixels.flatten(1).double()
        mean = values.mean(dim=1)
        if not mean.isfinite().all():
            values = values[:, values.isfinite().all(dim=0)]
            if not values.shape[1]:
                return
            mean = values.mean(dim=1)
        self._merge(
            values.shape[1], mean.numpy() * values.shape[1], (values - mean[:, None]).square().sum(dim=1).numpy()
        )
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def merge(self, other: "Moments") -> None:
        """Adds the moments of another set of images after its own."""
        self.counts += other.counts
        self._merge(other.num_values, other.total, other.squares)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def mean_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Per channel over all values, 8-bit and float; raw units. The deviation of a constant channel is 1, so that it
        becomes 0 instead of being divided by 0."""
        mean, std = self._mean_std()
        return mean, np.where(std > ROUNDING * np.abs(mean), std, 1.0)

    def constant(self) -> dict[int, float]:
        """Channels, from 1 on, that have one value throughout, and that value."""
        mean, std = self._mean_std()
        return {c: float(m) for c, (m, s) in enumerate(zip(mean, std), 1) if s <= ROUNDING * abs(m)}

    def _mean_std(self) -> tuple[np.ndarray, np.ndarray]:
        both = Moments(np.zeros_like(self.counts), self.total, self.squares, self.num_values)
        size = int(self.counts[0].sum())
        levels = np.arange(256.0)
        mean = self.counts @ levels / max(size, 1)
        both._merge(size, mean * size, (self.counts * (levels - mean[:, None]) ** 2).sum(axis=1))
        count = max(both.num_values, 1)
        return both.total / count, np.sqrt(both.squares / count)

    def value_range(self) -> tuple[float, float]:
        """The smallest and largest value."""
        seen = np.flatnonzero(self.counts.sum(axis=0))
        ends = [*((float(seen[0]), float(seen[-1])) if len(seen) else ()), self.low, self.high]
        ends = [end for end in ends if np.isfinite(end)]
        return (min(ends), max(ends)) if ends else (0.0, 0.0)

    def _merge(self, count: int, total: np.ndarray, squares: np.ndarray) -> None:
        if count == 0:
            return
        if self.num_values:  # Chan et al. 1979: stable where the mean is far from zero
            apart = total / count - self.total / self.num_values
            squares = squares + apart**2 * (count * self.num_values / (count + self.num_values))
        self.num_values, self.total, self.squares = self.num_values + count, self.total + total, self.squares + squares


@dataclass
class Statistics:
    """Statistics for planning and normalisation, for every number of channels that the images can be converted to."""

    moments: dict[int, Moments] = field(default_factory=dict)  # by number of channels
    probes: list[np.ndarray] = field(default_factory=list)  # evenly spaced values of float images

    def add(self, content: object, modality: Modality) -> None:
        """One sample; where grey and RGB can stand for each other, they count in both forms."""
        have = modality.num_channels(content)
        for channels in (1, 3) if have in (1, 3) and modality.colour else (have,):
            if channels not in self.moments:
                self.moments[channels] = Moments.empty(channels)
            self.moments[channels].add(modality.values(modality.fitted(content, channels)))
        pixels = modality.values(content)
        if pixels.is_floating_point() and len(self.probes) < PROBES:
            flat = pixels.flatten()
            flat = flat[flat.isfinite()]
            self.probes.append(flat[:: max(1, len(flat) // PROBE)][:PROBE].numpy().copy())

    def merge(self, other: "Statistics") -> None:
        for channels, moments in other.moments.items():
            if channels in self.moments:
                self.moments[channels].merge(moments)
            else:
                self.moments[channels] = moments
        self.probes += other.probes[: PROBES - len(self.probes)]

    def shares(self, channels: int) -> tuple[float, float]:
        """Share of values near either end of the range, and in its brighter half.

        The range is 0..255 for 8-bit images, and for others the middle 99 % of the values, so that a single hot
        pixel does not stretch it.
        """
        counts = self.moments[channels].counts.sum(axis=0)
        size, edge = int(counts.sum()), int(255 * EDGE)
        extreme, bright = int(counts[: edge + 1].sum() + counts[255 - edge :].sum()), int(counts[128:].sum())
        if self.probes:
            values = np.concatenate(self.probes).astype(np.float64)
            low, high = np.quantile(values, (0.005, 0.995))
            place = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
            weight = self.moments[channels].num_values * channels / len(values)
            extreme += weight * float(((place <= EDGE) | (place >= 1 - EDGE)).sum())
            bright += weight * float((place > 0.5).sum())
            size += self.moments[channels].num_values * channels
        return (extreme / size, bright / size) if size else (0.0, 0.0)


def remarks_on_constant(moments: Moments | None) -> list[str]:
    """A remark where channels never change."""
    if moments is None or not (constant := moments.constant()):
        return []
    if len(constant) == len(moments.counts):
        values = ", ".join(f"{v:g}" for v in constant.values())
        return [f"all images together have one colour ({values}): there is nothing to learn; std is set to 1"]
    if len(constant) == 1:
        ((channel, value),) = constant.items()
        return [f"channel {channel} is {value:g} everywhere: nothing is learnt from it, and its std is set to 1"]
    which = ", ".join(map(str, constant))
    return [f"channels {which} are the same everywhere: nothing is learnt from them, and their std is set to 1"]
