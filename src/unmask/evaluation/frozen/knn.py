"""Weighted nearest neighbours: no training, so this measures the feature space itself. Wu et al. 2018, as in DINO
(2021)."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from unmask.errors import UserError
from unmask.evaluation.features import Whitening

__all__ = ["Knn"]
TEMPERATURE = 0.07  # DINO's
CHUNK = 2**25  # similarities held at a time: 128 MiB
Fitted = tuple[Int[np.ndarray, "k"], Callable[[np.ndarray], np.ndarray]]


class Knn:
    """The `k` nearest neighbours by cosine similarity vote for their class with weight exp(similarity /
    temperature)."""

    def __init__(self, k: int = 20, temperature: float = TEMPERATURE, whiten: bool = False):
        """k: number of neighbours; with fewer training samples, all of them vote. whiten: features are whitened over
        the training samples first; False leaves that to the validation split."""
        if k < 1 or temperature <= 0:
            raise UserError(f"k must be 1 or more and temperature above 0; got {k} and {temperature}")
        self.k, self.temperature, self.whiten = k, temperature, whiten

    def __str__(self) -> str:
        warmth = f", temperature={self.temperature:g}" if self.temperature != TEMPERATURE else ""
        return f"knn(k={self.k}{warmth}{', whiten=True' if self.whiten else ''})"

    def candidates(self) -> "list[Knn]":
        """The candidates for the validation split: itself, and the same on whitened features."""
        return [self] if self.whiten else [self, Knn(self.k, self.temperature, whiten=True)]

    def fit_predict(
        self, train_x: Float[np.ndarray, "n d"], train_y: Int[np.ndarray, "n"], test_x: Float[np.ndarray, "m d"]
    ) -> Int[np.ndarray, "m"]:
        """The class of each test sample, one of those in `train_y`."""
        classes, shares = self.fitted(train_x, train_y)
        return classes[shares(test_x).argmax(axis=1)]

    def fitted(self, train_x: Float[np.ndarray, "n d"], train_y: Int[np.ndarray, "n"]) -> Fitted:
        """The classes in `train_y`, in order, and a function from features to the share of the votes for each."""
        classes, places = np.unique(train_y, return_inverse=True)
        white = Whitening(train_x) if self.whiten else None
        train = normalize(_tensor(white(train_x) if white else train_x))
        votes = one_hot(torch.from_numpy(places), len(classes)).float()

        def shares(test_x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m k"]:
            parts = []
            for x in _tensor(white(test_x) if white else test_x).split(max(1, CHUNK // len(train))):
                similarity, nearest = (normalize(x) @ train.T).topk(min(self.k, len(train)), dim=1)
                weight = (similarity / self.temperature).softmax(dim=1)
                parts.append((votes[nearest] * weight[..., None]).sum(dim=1))  # b k classes -> b classes
            return torch.cat(parts).numpy()

        return classes, shares


def _tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(x, np.float32, "W"))  # torch warns about read-only arrays
