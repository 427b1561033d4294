"""Weighted nearest neighbours: no training, so this measures the feature space itself. Wu et al. 2018, as in DINO
(2021)."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from unmask.errors import UserError
from unmask.evaluation.features import Whitening

__all__ = ["Knn"]
CHUNK = 2**25  # similarities held at a time: 128 MiB


class Knn:
    """The `k` nearest neighbours by cosine similarity vote for their class with weight exp(similarity /
    temperature)."""

    def __init__(self, k: int = 20, temperature: float = 0.07, whiten: bool = False):
        """k: number of neighbours; with fewer training samples, all of them vote. whiten: features are whitened over
        the training samples first; False leaves that to the validation split."""
        if k < 1 or temperature <= 0:
            raise UserError(f"k must be 1 or more and temperature above 0; got {k} and {temperature}")
        self.k, self.temperature, self.whiten = k, temperature, whiten

    def __str__(self) -> str:
        return f"knn(k={self.k}{', whiten' if self.whiten else ''})"

    def candidates(self) -> "list[Knn]":
        """The candidates for the validation split: itself, and the same on whitened features."""
        return [self] if self.whiten else [self, Knn(self.k, self.temperature, whiten=True)]

    def fit_predict(
        self, train_x: Float[np.ndarray, "n d"], train_y: Int[np.ndarray, "n"], test_x: Float[np.ndarray, "m d"]
    ) -> Int[np.ndarray, "m"]:
        """The class of each test sample, one of those in `train_y`."""
        classes, places = np.unique(train_y, return_inverse=True)
        if self.whiten:
            white = Whitening(train_x)
            train_x, test_x = white(train_x), white(test_x)
        train = normalize(_tensor(train_x))
        votes = one_hot(torch.from_numpy(places), len(classes)).float()
        predicted = []
        for x in _tensor(test_x).split(max(1, CHUNK // len(train))):
            similarity, nearest = (normalize(x) @ train.T).topk(min(self.k, len(train)), dim=1)
            weight = (similarity / self.temperature).exp()
            predicted.append((votes[nearest] * weight[..., None]).sum(dim=1).argmax(dim=1))  # b k classes -> b
        return classes[torch.cat(predicted).numpy()]


def _tensor(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.require(x, np.float32, "W"))  # torch warns about read-only arrays
