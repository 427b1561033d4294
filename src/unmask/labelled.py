"""Labelled pictures, ready to be judged on: good ones only, in train, val and test, seen whole."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from unmask.encoder import Encoder
from unmask.errors import DataError
from unmask.features import Features, extract, pixels
from unmask.judge import hold_out
from unmask.layout import natural
from unmask.loader import each_once
from unmask.samples import Samples
from unmask.sheet import check_bad, inspect
from unmask.source import Source, open_source
from unmask.views import WholePicture

KEEP = 2**31  # bytes of decoded pictures that are kept in memory


class Labelled:
    """The splits of labelled data; what the data does not have is held out, stratified and seeded."""

    def __init__(
        self,
        places: Sequence[str],
        *,
        max_side: int,  # pixels, as for `decode`
        batch: int = 256,
        most: int | None = None,  # training pictures
        seed: int = 0,
        say: Callable[[str], Any] = lambda text: None,
        progress: Callable[[int, int], None] | None = None,
    ):
        """Raises DataError where nothing has a label, or too little is left of a split."""
        self.source, self.batch, self.max_side = open_source(places), batch, max_side
        items = self.source.items
        labelled = [i for i, item in enumerate(items) if item.label is not None]
        if not labelled:
            raise DataError(
                f"no picture in {self.source.where} has a label: put the pictures of each class in a folder of its own,"
                " or add a labels.csv with the columns path and label, or labels to the .npz"
                + "".join(f". {remark}" for remark in self.source.remarks)
            )
        sheet, self.cache = inspect(
            self.source, indices=labelled, max_side=max_side, limit=len(labelled), keep_bytes=KEEP, progress=progress
        )
        check_bad(sheet, 0.5)
        bad = {index for index, _, _ in sheet.bad}
        if bad:
            say(f"{len(bad)} bad pictures are left out, e.g. {sheet.bad[0][1]}: {sheet.bad[0][2]}")
        good = [i for i in labelled if i not in bad]
        self.classes = sorted({str(items[i].label) for i in good}, key=natural)
        self.channels = sheet.channels
        self.splits = _splits(self.source, good, most, seed, say)
        self.said = ", ".join(f"{len(indices):,} {split}" for split, indices in self.splits.items())

    def features(
        self, encoder: Encoder, split: str, device: torch.device | str, autocast: torch.dtype | None
    ) -> Features:
        """All poolings of an encoder that is on `device` already."""
        return extract(encoder, self._loader(split, encoder.channels, encoder.grid.size), device, autocast=autocast)

    def pixels(self, split: str, channels: int, size: tuple[int, ...]) -> Features:
        """The pictures themselves, at the size that the encoder sees, at most 32 pixels."""
        return pixels(self._loader(split, channels, size))

    def _loader(self, split: str, channels: int, size: tuple[int, ...]) -> Any:
        options = {"max_side": self.max_side, "cache": self.cache, "classes": self.classes}
        samples = Samples(self.source, self.splits[split], channels=channels, **options)
        return each_once(samples, WholePicture((size[0], size[1])), self.batch)


def _splits(
    source: Source, good: list[int], most: int | None, seed: int, say: Callable[[str], Any]
) -> dict[str, list[int]]:
    """Train, val and test; a missing test split is the val split, or a quarter of everything; a missing val split is a
    fifth of train. Pooling and penalty are chosen on val, never on test."""
    of = {name: [i for i in good if source.items[i].split == name] for name in ("train", "val", "test")}
    if not of["train"] or not (of["val"] or of["test"]):
        say("the data has no train and test splits: a quarter of every class is held out to test on")
        train, test = _held(source, good, 0.25, seed)
        of = {"train": train, "val": [], "test": test}
    elif not of["test"]:
        say("the data has no test split: its val split is tested on")
        of = {"train": of["train"], "val": [], "test": of["val"]}
    if most is not None and len(of["train"]) > most:
        chosen = np.random.default_rng([seed, 1]).permutation(len(of["train"]))[:most]
        of["train"] = [of["train"][i] for i in np.sort(chosen)]
    if not of["val"]:
        train, val = _held(source, of["train"], 0.2, seed)
        of = {"train": train, "val": val, "test": of["test"]}
    return of


def _held(source: Source, indices: list[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    names = np.unique([str(source.items[i].label) for i in indices], return_inverse=True)[1]
    keep, held = hold_out(names, share, seed)
    return [indices[i] for i in keep], [indices[i] for i in held]
