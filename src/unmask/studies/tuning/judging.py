"""Judges an encoder on validation images: every labelled image that is not for testing, each judged once by a
classifier that has not seen it.

The test split stays untouched: what is chosen here can be judged there afterwards. The images are dealt into parts; a
part is predicted by a classifier that is fitted on the others, of which the last part chooses pooling and strength. The
parts are the same for all encoders, so that differences are paired.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int

from unmask import registry
from unmask.data.datasets.classification import Labelled
from unmask.errors import DataError, many
from unmask.evaluation.compare import choose
from unmask.evaluation.features import Features, split_features
from unmask.models.encoder import Encoder

PARTS = 4
JUDGED = ("train", "val")  # splits


def deal(labels: Int[np.ndarray, "n"], seed: int) -> Int[np.ndarray, "n"]:
    """The part of each image: every class is dealt out evenly, in an order that the seed shuffles. Raises DataError for
    a class that is too small."""
    part = np.empty(len(labels), dtype=np.int64)
    generator = np.random.default_rng([seed, 0x7A2E])
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        if len(rows) < PARTS:
            raise DataError(
                f"a class has {many(len(rows), 'labelled sample')} beside those for testing; tune needs {PARTS} or more"
                " of each"
            )
        part[rows] = (np.arange(len(rows)) + label) % PARTS
    return part


def validation_features(
    labelled: Labelled, encoder: Encoder, device: torch.device | str, autocast: torch.dtype | None
) -> Features:
    """Of the train and val splits together."""
    encoder.to(device).eval()
    train, val = (split_features(labelled, encoder, split, device, autocast) for split in JUDGED)
    pools = {name: np.concatenate([train.pools[name], val.pools[name]]) for name in train.pools}
    labels, index = np.concatenate([train.labels, val.labels]), np.concatenate([train.index, val.index])
    return Features(pools, labels, index)


def judge_on_validation(features: Features, evaluator: str, seed: int) -> Bool[np.ndarray, "n"]:
    """Whether each image was classified correctly. evaluator: a part of evaluation/frozen; seed: of the parts."""
    part, place = registry.build("evaluator", evaluator), deal(features.labels, seed)
    correct = np.zeros(len(place), dtype=bool)
    for number in range(PARTS):
        held_out, chooses = place == number, place == (number + 1) % PARTS
        fitted, judged = features.take(~held_out & ~chooses), features.take(held_out)
        _, pooling, best = choose(part, fitted, features.take(chooses))
        rest = features.take(~held_out)
        predicted = best.fit_predict(rest.pools[pooling], rest.labels, judged.pools[pooling])
        correct[held_out] = predicted == judged.labels
    return correct
