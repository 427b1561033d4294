"""Area under the ROC curve for anomalous against normal, of images and of pixels, with intervals.

Intervals are by bootstrap over test images, normal and anomalous ones separately. Pixels of an image stay together,
since they are not independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from unmask.evaluation.intervals import bootstrap

RESAMPLES = 1000
BINS = 2000  # of pixel values, in which redrawn images are counted
MOST = 20_000_000  # pixels whose ranks are compared exactly; of more, a regular part


@dataclass(frozen=True)
class Auroc:
    """Area under the ROC curve with its interval, and the average precision."""

    auroc: float
    average_precision: float
    low: float
    high: float


def of_images(scores: Float[np.ndarray, "n"], labels: Int[np.ndarray, "n"], seed: int = 0) -> Auroc:
    """Computed over all images labelled 0 or 1; both must occur."""
    labelled = labels >= 0
    scores, labels = scores[labelled], labels[labelled]
    rank = np.unique(scores, return_inverse=True)[1]

    def tally(times: np.ndarray) -> np.ndarray:
        return np.stack([np.bincount(rank, times * (labels == kind)) for kind in (0, 1)], axis=1)

    return Auroc(*_areas(scores, labels), *_interval(tally, labels, seed))


def of_pixels(
    maps: Sequence[Float[np.ndarray, "h w"]], masks: Sequence[Bool[np.ndarray, "h w"]], seed: int = 0
) -> Auroc:
    """Computed over all pixels of images with a mask; both defect and normal pixels must occur."""
    step = max(1, round((sum(mask.size for mask in masks) / MOST) ** 0.5))
    values = [pixels[::step, ::step].ravel() for pixels in maps]
    labels = [mask[::step, ::step].ravel().astype(np.int64) for mask in masks]
    edges = np.unique(np.quantile(np.concatenate(values), np.linspace(0, 1, BINS + 1)[1:-1]))
    counts = np.zeros((len(values), len(edges) + 1, 2), dtype=np.float32)
    for row, (value, label) in enumerate(zip(values, labels)):
        which = np.searchsorted(edges, value, side="right")
        for kind in (0, 1):
            counts[row, :, kind] = np.bincount(which[label == kind], minlength=len(edges) + 1)
    defect = np.array([int(label.any()) for label in labels])

    def tally(times: np.ndarray) -> np.ndarray:
        return (times.astype(np.float32) @ counts.reshape(len(counts), -1)).reshape(counts.shape[1:])

    return Auroc(*_areas(np.concatenate(values), np.concatenate(labels)), *_interval(tally, defect, seed))


def _areas(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Areas under the ROC curve and under the precision-recall curve."""
    # torchmetrics puts values outside of 0..1 through a sigmoid, which makes large ones equal; ranks stay apart
    ranks = np.unique(scores, return_inverse=True)[1].astype(np.float64)
    p, y = torch.from_numpy(ranks / max(1.0, ranks.max())), torch.from_numpy(labels)
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision  # takes seconds to import

    return float(binary_auroc(p, y)), float(binary_average_precision(p, y))


def _interval(
    tally: Callable[[Int[np.ndarray, "n"]], Float[np.ndarray, "k 2"]], groups: Int[np.ndarray, "n"], seed: int
) -> tuple[float, float]:
    """tally: maps how often each image is drawn to the numbers of normal and anomalous samples at each rank."""
    members = [np.flatnonzero(groups == group) for group in (0, 1)]

    def resample(generator: np.random.Generator) -> float:
        drawn = np.concatenate([generator.choice(group, len(group)) for group in members if len(group)])
        return _area(tally(np.bincount(drawn, minlength=len(groups))))

    return bootstrap(resample, np.random.default_rng(seed), RESAMPLES)


def _area(counts: Float[np.ndarray, "k 2"]) -> float:
    """The share of pairs in which the anomalous sample ranks higher; ties count half."""
    normal, anomalous = counts.astype(np.float64).T
    below = np.cumsum(normal) - normal
    return float((anomalous * (below + normal / 2)).sum() / (anomalous.sum() * normal.sum()))
