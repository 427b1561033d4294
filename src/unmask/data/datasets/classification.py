"""Labelled images for training and evaluation: readable ones only, in train, val and test."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unmask.data.datasets.images import Samples
from unmask.data.datasets.splits import at_most, split_images
from unmask.data.labels import natural, some
from unmask.data.loaders.map_style import each_once
from unmask.data.modality import IMAGE
from unmask.data.sheet import check_bad, inspect
from unmask.data.source import open_source
from unmask.errors import DataError

UNEQUAL = 3  # times as many images in the largest class as in the smallest: worth saying
KEEP = 2**31  # bytes of decoded images that are kept in memory
HALF = 0.5  # of the images may be bad, where no other share is asked for


class Labelled:
    """The splits of labelled data; missing splits are drawn, stratified and seeded."""

    def __init__(
        self,
        places: Sequence[str],
        *,
        max_side: int,  # pixels, as for `decode`
        batch: int = 256,
        most: int | None = None,  # training images
        most_test: int | None = None,  # test images
        seed: int = 0,
        hold_out_val: bool = True,  # where the data has no val split; without, val may stay empty
        max_bad: float | None = None,  # share of bad images above which the data is refused; None: a half, always
        say: Callable[[str], Any] = lambda text: None,
        progress: Callable[[int, int], None] | None = None,
        modality: str | None = IMAGE,  # text of what is labelled; None: what most files are
    ):
        """Raises DataError if nothing has a label, or too little is left of a split."""
        self.source, self.batch, self.max_side = open_source(places, modality), batch, max_side
        items = self.source.items
        labelled = [i for i, item in enumerate(items) if item.label is not None]
        if not labelled:
            raise DataError(
                f"no {self.source.modality.word} in {self.source.where} has a label: put those of each class, two or"
                " more, in a folder of its own, add a labels.csv with the columns path and label, or labels to the .npz"
                + "".join(f". {remark}" for remark in self.source.remarks)
            )
        self.multi_label = self.source.multi_label
        for remark in self.source.remarks:
            say(remark)
        sheet, self.cache = inspect(
            self.source, indices=labelled, max_side=max_side, limit=len(labelled), keep_bytes=KEEP, progress=progress
        )
        check_bad(sheet, HALF if max_bad is None else max_bad, fixed=max_bad is None)
        bad = {index for index, _, _ in sheet.bad}
        if bad:
            say(f"{len(bad)} bad {self.source.modality.word}s are left out, e.g. {sheet.bad[0][1]}: {sheet.bad[0][2]}")
        good = [i for i in labelled if i not in bad]
        self.classes = sorted({name for i in good for name in self.source.classes(i) or ()}, key=natural)
        self.sheet, self.channels = sheet, sheet.channels
        self.splits = split_images(
            [item.split for item in items],
            good,
            labels=[str(item.label) for item in items],
            multi_label=self.multi_label,
            hold_out_val=hold_out_val,
            most=most,
            seed=seed,
            say=say,
        )
        self.splits["test"] = at_most(self.splits["test"], most_test, [seed, 2])
        self.said = ", ".join(f"{len(indices):,} {split}" for split, indices in self.splits.items())

    def samples(self, split: str, channels: int, rows: Sequence[int] | None = None) -> Samples:
        """The images of a split, or those at given indices, with their labels as indices into `classes`."""
        indices = self.splits[split] if rows is None else [self.splits[split][row] for row in rows]
        options = {"max_side": self.max_side, "cache": self.cache, "classes": self.classes}
        return Samples(self.source, indices, channels=channels, **options)

    def texts(self, split: str) -> list[str]:
        """The label of each image as text; several labels are joined by |."""
        return [str(self.source.items[i].label) for i in self.splits[split]]

    def class_counts(self, split: str = "train") -> dict[str, int]:
        """Images of each class in a split."""
        counts = Counter(name for i in self.splits[split] for name in self.source.classes(i) or ())
        return {name: counts[name] for name in self.classes}

    def check(self) -> list[str]:
        """Remarks for the user before training on train and testing on test.

        Raises DataError for fewer than two classes, or test images of a class that train lacks.
        """
        train, test = self.class_counts("train"), self.class_counts("test")
        learnt = [name for name, count in train.items() if count]
        if len(learnt) < (1 if self.multi_label else 2):
            raise DataError(
                f"a classifier takes two classes or more; {self.source.where} has {', '.join(learnt) or 'none'}"
            )
        foreign = [f"{name} ({test[name]})" for name in self.classes if not train[name] and test[name]]
        if foreign:
            raise DataError(
                f"the test split has classes that the train split lacks: {some(foreign)}. Add training images of"
                " them, or take them out"
            )
        missing = [name for name in self.classes if train[name] and not test[name]]
        remarks = []
        if missing:
            remarks.append(f"the test split has no image of {some(missing)}: learnt, but not tested")
        small, large = min(learnt, key=lambda n: train[n]), max(learnt, key=lambda n: train[n])
        if train[large] >= UNEQUAL * train[small]:
            remarks.append(
                f"classes are unequal: {train[large]:,} images of {large}, {train[small]:,} of {small};"
                " --balanced on draws all equally often"
            )
        return remarks

    def labels(self, split: str) -> np.ndarray:
        """n, int64: indices into `classes`. With several labels per image, n k of 0 and 1."""
        labels = self.samples(split, self.channels).labels
        assert labels is not None  # only labelled images are here
        return labels.numpy()

    def loader(
        self,
        split: str,
        channels: int,
        view: Callable[[Any], Any],
        batch: int | None = None,
        rows: Sequence[int] | None = None,
    ) -> Any:
        """A split in order, once, through a deterministic view; or some of it, as in `samples`."""
        return each_once(self.samples(split, channels, rows), view, batch or self.batch)
