"""The images to select from and those that are labelled: indexed, with copies of labelled images taken out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unmask.data.labels import natural
from unmask.data.source import Source
from unmask.errors import DataError
from unmask.evaluation.frozen.linear import Linear
from unmask.studies.label_curve.forecast import penalty
from unmask.tasks.retrieval.index import Index
from unmask.tasks.retrieval.neighbours import nearest


@dataclass(frozen=True)
class LabelledImages:
    """The images of some data that have a label."""

    index: Index
    source: Source
    rows: Int[np.ndarray, "m"]  # of the index
    names: list[str]  # the classes
    codes: Int[np.ndarray, "m"]  # place of each label in `names`; meaningless with several labels per image
    is_test: Bool[np.ndarray, "m"]  # of the test split, else of val where there is one: never learnt from

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def features(self) -> Float[np.ndarray, "m d"]:
        return self.index.features[self.rows]

    def name(self, place: int) -> str:
        return self.source.items[self.index.numbers[int(self.rows[place])]].name

    def label(self, place: int) -> str:
        return self.source.items[self.index.numbers[int(self.rows[place])]].label or ""

    def to_learn(self) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, "m"]]:
        """Features and classes of all but the test images."""
        return self.features[~self.is_test], self.codes[~self.is_test]

    def to_test(self) -> tuple[Float[np.ndarray, "m d"], Int[np.ndarray, "m"]] | None:
        """Features and classes of the test images of classes that are learnt; None where the data has none."""
        rows = self.is_test & np.isin(self.codes, self.codes[~self.is_test])
        return (self.features[rows], self.codes[rows]) if rows.any() else None


def labelled_images(index: Index, source: Source) -> LabelledImages:
    """Raises DataError where no image has a label, or none that may be learnt from."""
    items, word = [source.items[number] for number in index.numbers], source.modality.word
    rows = np.array([row for row, item in enumerate(items) if item.label is not None], int)
    if not len(rows):
        raise DataError(
            f"no {word} in {source.where} has a label: put the {word}s of each class in a folder of its own, or add a"
            " labels.csv with the columns path and label; with --by diverse, --on may be left out"
        )
    labels = [items[row].label or "" for row in rows]
    names = sorted(set(labels), key=natural)
    splits = [items[row].split for row in rows]
    test = "test" if "test" in splits else "val"
    is_test = np.array([split == test for split in splits])
    if is_test.all():
        raise DataError(f"all labelled {word}s of {source.where} are of the {test} split; none is left to learn from")
    return LabelledImages(index, source, rows, names, np.array([names.index(label) for label in labels]), is_test)


def is_labelled(
    pool: Index, source: Source, labelled: LabelledImages | None, threshold: float, device: str
) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Images of the pool that are labelled: those whose own data names a label for some images and not for all; and
    copies or near copies of labelled ones."""
    labels = [source.items[number].label for number in pool.numbers]
    own = np.array([label is not None for label in labels])
    own &= not own.all()  # class folders, perhaps, but then nothing would be left
    tiny, pixels = pool.tiny[own], [digest for digest, is_own in zip(pool.pixels, own) if is_own]
    if labelled is not None:
        tiny = np.concatenate([tiny, labelled.index.tiny[labelled.rows]])
        pixels += [labelled.index.pixels[row] for row in labelled.rows.tolist()]
    copies = np.isin(_numbers(pool.pixels), _numbers(pixels))
    if len(tiny):
        copies |= nearest(pool.tiny, tiny, 1, device)[0][:, 0] >= threshold
    return own, copies & ~own


def alike_in(pool: Index, threshold: float) -> Callable[[int], Bool[np.ndarray, "n"]]:
    """A function from a row to its copies and near copies, itself included."""
    tiny = pool.tiny.astype(np.float32)
    pixels = _numbers(pool.pixels)
    return lambda row: (tiny @ tiny[row] >= threshold) | (pixels == pixels[row])


def _numbers(digests: Sequence[bytes]) -> Int[np.ndarray, "n"]:
    """Digests as numbers, which NumPy compares quickly."""
    return np.array([int.from_bytes(digest[:8], "big", signed=True) for digest in digests], np.int64)


def linear_probabilities(
    labelled: LabelledImages, features: Float[np.ndarray, "n d"]
) -> tuple[list[str], Float[np.ndarray, "n k"]]:
    """Classes, and probabilities of the pool by a linear classifier on frozen features.

    Raises DataError for several labels per image, or fewer than two classes.
    """
    word = labelled.source.modality.word
    if labelled.source.multi_label:
        raise DataError(
            f"{labelled.source.where} has several labels per {word}, and the linear classifier gives one: name the"
            " folder of a classifier that was trained on them as RUN, or use --by diverse"
        )
    x, y = labelled.to_learn()
    if len(np.unique(y)) < 2:
        raise DataError(
            f"the labelled {word}s of {labelled.source.where} are all {labelled.names[int(y[0])]!r}: a classifier takes"
            " two classes or more. Label some of another class first, or use --by diverse"
        )
    part: Linear = penalty(x, y)
    codes, probabilities = part.fit_probabilities(x, y, features)
    return [labelled.names[int(code)] for code in codes], probabilities
