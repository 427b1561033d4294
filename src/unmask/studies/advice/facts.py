"""What the rules may ask: facts about images, labels and machine, as plain numbers and words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.annotations.form import forms
from unmask.data.modality import IMAGE
from unmask.data.sheet import Sheet
from unmask.data.source import open_source
from unmask.errors import DataError
from unmask.runtime.machine import Machine
from unmask.studies.advice.appearance import KINDS, Appearance, guess_kind

MOST_FOLDERS = 16  # in which annotations are looked for
UNKNOWN = -1.0  # of a number that nobody knows; of words, "unknown"


@dataclass(frozen=True)
class Facts:
    """Shares are from 0 to 1. A rule (rules.ini) names these fields; decisions are added as they are made."""

    images: int  # of the training split, or all
    looked: int  # of these, looked at
    unseen: int  # the others
    bad_share: float  # of those looked at, that cannot be read
    channels: int
    side: int  # median shorter side, pixels
    size_ratio: float  # largest height or width over the smallest
    kind: str  # of KINDS
    evidence: str  # for a kind that was guessed
    guessed: bool  # from pixels, not said by a person
    near_share: float  # of the images looked at, that have a near copy among these
    framed_alike: float
    grey_as_colour: float  # share of images without colour that are stored with three channels
    leaked: int  # val and test images that are copies of training images
    classes: int  # 0: no labels
    labels_per_class: int  # training images of the rarest class; 0: no labels
    annotated: str  # boxes or masks, where there are such annotations and no classes; else none
    device: str  # cpu, mps or cuda
    memory: float  # of the device, GB free
    image_size: float = UNKNOWN  # that the plan chooses, pixels: shorter side, as are the next two
    patches: float = UNKNOWN
    lost: float = UNKNOWN  # share of the variance that is gone at this size
    epochs: float = UNKNOWN  # that the plan chooses
    hours_for_100: float = UNKNOWN  # epochs, at the measured speed
    start: str = "unknown"  # decisions, by topic
    weights: str = "unknown"
    method: str = "unknown"
    mask: str = "unknown"
    judge: str = "unknown"

    @property
    def words(self) -> dict[str, str | int | float]:
        """Every fact by name, to be filled into a rule's text; `kind_words` is the kind in words."""
        return vars(self) | {"kind_words": KINDS[self.kind]}


@dataclass(frozen=True)
class LabelCounts:
    """How many images of each class there are to learn from."""

    where: str
    counts: dict[str, int]  # class -> images of the train split, or of all where there are no splits
    tested: int  # images of val and test
    several: bool = False  # an image may have several labels
    annotated: str = "none"  # as of Facts

    @property
    def least(self) -> int:
        return min(self.counts.values(), default=0)

    def sentence(self, word: str = "image") -> str:
        """In words, for a line of the answer. word: what a sample is called."""
        if self.annotated != "none":
            return f"{self.annotated} of objects, no classes of {word}s"
        if not self.counts:
            return "none"
        most = max(self.counts.values())
        each = f"{most:,}" if self.least == most else f"{self.least:,} to {most:,}"
        kind = f"classes (several per {word})" if self.several else "classes"
        return f"{len(self.counts):,} {kind}, {each} {word}s to learn from each; {self.tested:,} {word}s to test on"


def count_labels(places: Sequence[str], *, required: bool, modality: str | None = IMAGE) -> LabelCounts:
    """Counts labels without decoding a sample. required: DataError where none has one; modality: as for `open_source`.

    Folders beside annotations of boxes or masks are no classes.
    """
    source = open_source(places, modality)
    word = source.modality.word
    if word == IMAGE and (annotated := find_annotations(places)) != "none":
        return LabelCounts(source.where, {}, 0, annotated=annotated)
    own = [i for i, item in enumerate(source.items) if item.split in (None, "train")]
    counts = Counter(name for i in own for name in source.classes(i) or ())
    tested = sum(item.split in ("val", "test") and item.label is not None for item in source.items)
    if required and not counts:
        raise DataError(
            f"--on {source.where}: no {word} has a label; put the {word}s of each class in a folder of its own, or add"
            " a labels.csv with the columns path and label"
        )
    return LabelCounts(source.where, dict(counts), tested, source.multi_label)


def find_annotations(places: Sequence[str]) -> str:
    """boxes or masks, where folders hold annotations that `transfer` reads; else none. Looks at names only."""
    folders = [place for place in places if Path(place).is_dir()]
    folders += [str(inner) for place in folders for inner in Path(place).iterdir() if inner.is_dir()]
    for kind in ("boxes", "masks"):
        for place in folders[:MOST_FOLDERS]:
            parts = list(forms().values())
            if any(part.find(place) if kind == "boxes" else part.holds_maps(Path(place)) for part in parts):
                return kind
    return "none"


def gather(
    sheet: Sheet, appearance: Appearance, labels: LabelCounts, machine: Machine, kind: str | None = None
) -> Facts:
    """kind: of KINDS, where a person said it; otherwise it is guessed."""
    guess, evidence = guess_kind(appearance, sheet)
    smallest, largest = min(sheet.min_size), max(sheet.max_size)
    return Facts(
        images=sheet.count,
        looked=sheet.checked,
        unseen=sheet.count - sheet.checked,
        bad_share=len(sheet.bad) / max(1, sheet.checked),
        channels=sheet.channels,
        side=min(sheet.median_size),
        size_ratio=largest / max(1, smallest),
        kind=kind or guess,
        evidence="said with --kind" if kind else evidence,
        guessed=kind is None,
        near_share=appearance.near_copies / max(1, appearance.count),
        framed_alike=appearance.framed_alike,
        grey_as_colour=appearance.grey_as_colour,
        leaked=sheet.test_in_train,
        classes=len(labels.counts),
        labels_per_class=labels.least,
        annotated=labels.annotated,
        device=machine.device,
        memory=machine.memory / 2**30,
    )
