"""An audit in numbers and careful words: each group's measures, what the features say of it, and the data's shares."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from jaxtyping import Float, Int

from unmask.data.labels import natural
from unmask.evaluation.frozen.linear import Linear
from unmask.evaluation.intervals import wilson
from unmask.files import Json
from unmask.report.words import percent
from unmask.studies.auditing.measures import FALSE_ALARMS, GroupAudit, Left

CAUTION = (
    "A difference says that the model errs more on a group, not why: groups may differ in how hard their images are,"
    " and in how many of them were learnt from."
)
CORRECTION = "Benjamini-Hochberg over all groups, measures and columns, of permutation tests against the rest"


@dataclass(frozen=True)
class Reading:
    """How well a linear probe tells the group of a test image from the features of it."""

    accuracy: float
    low: float  # Wilson's, 95 %
    high: float
    commonest: float  # accuracy of always naming the commonest group

    @property
    def is_read(self) -> bool:
        return self.low > self.commonest


@dataclass(frozen=True)
class ColumnAudit:
    column: str
    groups: list[GroupAudit]
    left_out: list[Left]
    unknown: int  # test images without a value
    shares: dict[str, dict[str, float]]  # "labelled", "test", "unlabelled" -> value -> share of what has one
    association: float | None  # Cramer's V of group and label among the labelled images, 0 to 1
    association_p: float | None  # of the chi-squared test
    reading: Reading | None  # None where too few images say their group

    def sentence(self) -> str:
        """What differs, and what that does not say."""
        parts = [
            f"{m.name} {percent(m.value, m.low, m.high)} for {g.value} ({g.count}) against {percent(m.rest)} for the"
            f" rest, adjusted p {m.adjusted:.3f}"
            for g in self.groups
            for m in g.measures
            if m.differs
        ]
        text = f"{self.column}: " + (
            "the model treats groups differently: " + "; ".join(parts)
            if parts
            else "no difference between groups that chance would not make; small groups can hide one"
        )
        text += f". {self._data()}"
        small = [f"{group.value} ({group.count})" for group in self.groups if group.small]
        text += f" Few images, so hardly known: {', '.join(small)}." if small else ""
        left = [f"{group.value} ({group.count})" for group in self.left_out]
        text += f" Not judged, since a group of one has no spread: {', '.join(left)}." if left else ""
        return text + (f" {self.unknown:,} test images have no {self.column}." if self.unknown else "")

    def _data(self) -> str:
        parts = []
        if self.association is not None and self.association_p is not None:
            linked = "goes with the label" if self.association_p <= FALSE_ALARMS else "is not seen to go with the label"
            parts.append(f"In the labelled data the group {linked} (Cramer's V {self.association:.2f})")
        if "unlabelled" in self.shares:
            names = sorted(self.shares["unlabelled"], key=natural)[:6]
            listed = ", ".join(f"{name} {self.shares['unlabelled'][name]:.0%}" for name in names)
            parts.append(f"shares in the unlabelled data: {listed}")
        if self.reading is not None:
            r = self.reading
            can = "a linear probe reads the group from the features" if r.is_read else "a linear probe does not read it"
            parts.append(f"{can} ({percent(r.accuracy, r.low, r.high)}; always the commonest: {percent(r.commonest)})")
        return "; ".join(parts) + "." if parts else ""


@dataclass(frozen=True)
class Audit:
    """What `unmask.audit` returns."""

    count: int  # test images
    accuracy: float
    classifier: str  # whose answers are judged, in words
    columns: list[ColumnAudit]
    settings: Json = field(default_factory=dict)

    def sentence(self) -> str:
        return " ".join(column.sentence() for column in self.columns) + f" {CAUTION}"

    def to_json(self) -> Json:
        tables = [{"column": c.column, "table": rows(c), "sentence": c.sentence()} for c in self.columns]
        return {"sentence": self.sentence(), "correction": CORRECTION} | asdict(self) | {"tables": tables}


def rows(column: ColumnAudit) -> list[list[str]]:
    """Heading and a line for each group, in percent; * marks what differs from the rest."""
    kinds = list(column.shares)
    measures = [f"{m.name} (95 %)" for m in column.groups[0].measures]
    heading = [column.column, "test images", *measures, "balanced accuracy", *(f"of {k}" for k in kinds)]
    lines = []
    for group in column.groups:
        cells = [percent(m.value, m.low, m.high, unit="") + ("*" if m.differs else "") for m in group.measures]
        cells.append(f"{100 * group.balanced_accuracy:.1f}")
        shares = [f"{100 * column.shares[kind].get(group.value, 0.0):.1f}" for kind in kinds]
        lines.append([group.value, f"{group.count:,}", *cells, *shares])
    return [heading, *lines]


def shares_of(values: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Of several sets of images the share of each value among those that have one; sets without any are left out."""
    result = {}
    for kind, texts in values.items():
        counts = Counter(text for text in texts if text)
        if counts:
            result[kind] = {name: counts[name] / counts.total() for name in sorted(counts, key=natural)}
    return result


def association(values: Sequence[str], labels: Sequence[str]) -> tuple[float, float] | tuple[None, None]:
    """Cramer's V of group and label, and the p of the chi-squared test; None where either has one value."""
    from scipy.stats import chi2_contingency
    from scipy.stats.contingency import association as cramer

    pairs = [(value, label) for value, label in zip(values, labels) if value]
    names, classes = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    if len(names) < 2 or len(classes) < 2:
        return None, None
    table = np.zeros((len(names), len(classes)), int)
    for value, label in pairs:
        table[names.index(value), classes.index(label)] += 1
    strength = float(cramer(table, method="cramer"))
    return strength, float(chi2_contingency(table).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def read_groups(
    train: tuple[Float[np.ndarray, "n d"], Sequence[str]], test: tuple[Float[np.ndarray, "m d"], Sequence[str]]
) -> Reading | None:
    """The linear probe: learns the group on images that were learnt from, answers for test images."""
    names = sorted({value for value in train[1] if value})
    learnt_rows, test_rows = (np.array([value in names for value in values], bool) for values in (train[1], test[1]))
    if len(names) < 2 or not test_rows.any():
        return None
    y, truth = (_codes(values, names, mask) for values, mask in ((train[1], learnt_rows), (test[1], test_rows)))
    answers = Linear().fit_predict(train[0][learnt_rows], y, test[0][test_rows])
    right = int((answers == truth).sum())
    commonest = float(np.bincount(truth).max() / len(truth))
    return Reading(right / len(truth), *wilson(right, len(truth)), commonest)


def _codes(values: Sequence[str], names: list[str], mask: np.ndarray) -> Int[np.ndarray, "n"]:
    return np.array([names.index(value) for value, is_known in zip(values, mask) if is_known], int)
