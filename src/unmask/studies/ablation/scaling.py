"""How accuracy grows with the size of the model: a power law of the error, where the measurements hold one.

error = c * parameters^-b is a straight line between logarithms. It is fitted to each seed alone, so that the interval
of b is Student's over seeds. Kaplan et al. 2020 (https://arxiv.org/abs/2001.08361) for the form; whether the error of
an MAE follows it at small scale is what is asked here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from unmask.evaluation.intervals import student
from unmask.studies.ablation.axes import Axis
from unmask.studies.ablation.findings import METRICS, Row

SIZES = 4  # that a law needs at least
FACTOR = 10.0  # between the smallest and the largest model that a law needs at least
STRAIGHT = 0.8  # R^2 of the line through the means that a law needs at least


@dataclass(frozen=True)
class Law:
    """error = c * parameters^-exponent."""

    exponent: float  # mean over seeds
    low: float | None  # Student's 95 % interval; None for one seed
    high: float | None
    r2: float  # of the line through the means over seeds, between logarithms
    sizes: int
    factor: float  # between the smallest and the largest model

    @property
    def lacks(self) -> str:
        """Why the measurements hold no law; empty where they do."""
        if self.sizes < SIZES:
            return f"{self.sizes} sizes are too few ({SIZES} are needed)"
        if self.factor < FACTOR:
            return f"the range of sizes, a factor of {self.factor:.3g}, is too small for one ({FACTOR:g} at least)"
        if self.low is None or self.high is None:
            return "one seed gives no interval"
        if self.low <= 0:
            return "the interval of the exponent does not leave out zero"
        if self.r2 < STRAIGHT:
            return f"the points do not lie on a line (R\N{SUPERSCRIPT TWO} {self.r2:.2f})"
        return ""


def fit_law(sizes: Float[np.ndarray, "k"], errors: Float[np.ndarray, "s k"]) -> Law:
    """sizes: parameters of the models; errors: for each seed, 0 to 1. Errors of zero count as half of the smallest
    other one: a logarithm needs more than zero."""
    least = errors[errors > 0].min() / 2 if (errors > 0).any() else 1e-6
    x, y = np.log(sizes), np.log(np.maximum(errors, least))
    slopes = [-float(np.polyfit(x, line, 1)[0]) for line in y]
    mean = y.mean(axis=0)
    rest = mean - np.polyval(np.polyfit(x, mean, 1), x)
    spread = float(((mean - mean.mean()) ** 2).sum())
    r2 = 1 - float((rest**2).sum()) / spread if spread > 0 else 0.0
    low, high = student(slopes) or (None, None)
    return Law(float(np.mean(slopes)), low, high, r2, len(sizes), float(sizes.max() / sizes.min()))


def laws(axis: Axis, rows: Sequence[Row]) -> dict[str, Law]:
    """By metric, over the seeds that all sizes have; empty for an axis that is not of models, or of one size only."""
    if not axis.name.startswith("model") or not axis.unit:
        return {}
    by_size = {row.value.x: row for row in rows if row.value.x}
    seeds = sorted(set.intersection(*(set(row.seeds) for row in by_size.values()))) if by_size else []
    if len(by_size) < 2 or not seeds:
        return {}
    sizes = np.array(sorted(by_size))
    laws = {}
    for metric in METRICS:
        accuracies = [[by_size[x].accuracy[metric].values[by_size[x].seeds.index(s)] for x in sizes] for s in seeds]
        laws[metric] = fit_law(sizes, 1 - np.array(accuracies))
    return laws


def sentence(axis: Axis, rows: Sequence[Row]) -> str:
    """What can be said of the growth with size; empty where it was not asked."""
    parts = []
    for metric, law in laws(axis, rows).items():
        interval = "" if law.low is None or law.high is None else f" ({law.low:.3f} to {law.high:.3f})"
        exponent = f"{law.exponent:.3f}{interval}"
        if law.lacks:
            parts.append(f"{METRICS[metric]}: no power law: {law.lacks}; a fitted exponent of {exponent} is no more")
        else:
            parts.append(
                f"{METRICS[metric]}: over a factor of {law.factor:.3g} in parameters the error falls with their power"
                f" of {exponent}, R\N{SUPERSCRIPT TWO} {law.r2:.2f}"
            )
    return f"Size of the model: {'; '.join(parts)}." if parts else ""
