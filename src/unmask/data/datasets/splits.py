"""Train, val and test: the data's own if it has them, otherwise drawn. One rule for all tasks; see docs/data.md."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unmask.data.datasets.draws import hold_out

TEST = 0.25  # share of the images that is tested on where the data has no splits
VAL = 0.2  # share of train that is held out as val where something must be chosen on it
Splits = dict[str, list[int]]


def split_images(
    splits: Sequence[str | None],  # of all images, as the data says
    good: Sequence[int],  # those that can be used
    *,
    labels: Sequence[str] | None = None,  # of all images: classes are divided alike; None: drawn from all at once
    multi_label: bool = False,  # labels are combinations of classes
    hold_out_val: bool = False,  # where there is no val split
    most: int | None = None,  # training images, val included where it is held out
    seed: int = 0,
    say: Callable[[str], Any] = lambda text: None,
) -> Splits:
    """Indices of train, val and test, each in order.

    Without a test split, the val split is tested on and chooses nothing; without both, or without a train split, a
    quarter of all is held out. Raises DataError where no class has two images, so that none can be held out.
    """
    images = {name: [i for i in good if splits[i] == name] for name in ("train", "val", "test")}
    if images["train"] and (images["val"] or images["test"]):
        if outside := sum(splits[i] is None for i in good):
            say(f"{outside:,} images are in no split and are not used")
        if not images["test"]:
            say("the data has no test split: its val split is tested on, so that it cannot choose the best weights")
            images |= {"val": [], "test": images["val"]}
    else:
        of = "the images" if labels is None else "every class"
        say(f"the data has no train and test splits: a quarter of {of} is held out to test on")
        train, test = _held_out(good, TEST, seed, labels, multi_label)
        images = {"train": train, "val": [], "test": test}
    images["train"] = at_most(images["train"], most, [seed, 1])
    if hold_out_val and not images["val"]:
        images["train"], images["val"] = _held_out(images["train"], VAL, seed, labels, multi_label)
    return images


def at_most(indices: list[int], most: int | None, seed: Sequence[int]) -> list[int]:
    """All, or so many drawn at random, in order."""
    if most is None or len(indices) <= most:
        return indices
    chosen = np.random.default_rng(seed).permutation(len(indices))[:most]
    return [indices[i] for i in np.sort(chosen)]


def _held_out(
    indices: Sequence[int], share: float, seed: int, labels: Sequence[str] | None, multi_label: bool
) -> tuple[list[int], list[int]]:
    """Indices kept and indices held out."""
    if labels is None:
        if len(indices) < 2:
            return list(indices), []
        strata = np.zeros(len(indices), dtype=np.int64)
    else:
        _, strata, counts = np.unique([labels[i] for i in indices], return_inverse=True, return_counts=True)
        if multi_label:  # combinations too rare to be divided are one stratum, else none of them would be tested
            strata = np.where(counts[strata] * share < 1, len(counts), strata)
    kept, held = hold_out(strata, share, seed)
    return [indices[i] for i in kept], [indices[i] for i in held]
