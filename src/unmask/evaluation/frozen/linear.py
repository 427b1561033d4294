"""Multinomial logistic regression with an L2 penalty on standardised features.

Objective and minimum equal scikit-learn's (a test compares them). torch's L-BFGS is preconditioned: an encoder's
features vary by orders of magnitude along their principal axes, where plain L-BFGS takes hundreds of steps and this one
tens.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from unmask.errors import UserError

__all__ = ["Linear"]
GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)  # 1e-4 suits raw pixels of CIFAR-10, 1000 some encoders
ENDS = (1e-8, 1e7)  # beyond which the grid is not widened: nothing but the intercept, hardly any penalty
FEW = 10  # C times the number of features, where no validation split chooses; |x|^2 grows with that number
STEPS, TOLERANCE = 200, 1e-4  # the latter for each entry of the preconditioned gradient, of about unit curvature
WIDE = 4096  # features; beyond, the preconditioner's matrix costs more than it saves


class Linear:
    """C: scikit-learn's inverse strength of the penalty; None: chosen by the judge, or 10 / d where it is not."""

    def __init__(self, C: float | None = None):
        if C is not None and not C > 0:
            raise UserError(f"C, the inverse strength of the penalty, must be above 0; got {C}")
        self.C = C

    def __str__(self) -> str:
        return "linear" if self.C is None else f"linear(C={self.C:g})"

    def candidates(self) -> "list[Linear]":
        """The candidates to choose from on a validation split."""
        return [Linear(C) for C in GRID] if self.C is None else [self]

    def beyond(self, tried: "Sequence[Linear]") -> "list[Linear]":
        """What to try next where this is the best of `tried`: one step further if it lies at an end of the grid."""
        if self.C is None or len(tried) < 2:
            return []
        strengths = [candidate.C or 0.0 for candidate in tried]
        step = 10.0 if self.C == max(strengths) else 0.1 if self.C == min(strengths) else 0.0
        return [Linear(self.C * step)] if step and ENDS[0] <= self.C * step <= ENDS[1] else []

    def fit_predict(
        self, train_x: Float[np.ndarray, "n d"], train_y: Int[np.ndarray, "n"], test_x: Float[np.ndarray, "m d"]
    ) -> Int[np.ndarray, "m"]:
        """The class of each test sample, one of those in `train_y`."""
        classes, logits = self._logits(train_x, train_y, test_x)
        return classes[logits.argmax(dim=1).numpy()]

    def fit_probabilities(
        self, train_x: Float[np.ndarray, "n d"], train_y: Int[np.ndarray, "n"], test_x: Float[np.ndarray, "m d"]
    ) -> tuple[Int[np.ndarray, "k"], Float[np.ndarray, "m k"]]:
        """The classes in `train_y`, in order, and the probability of each for every test sample."""
        classes, logits = self._logits(train_x, train_y, test_x)
        return classes, logits.softmax(dim=1).numpy()

    def _logits(
        self, train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray
    ) -> tuple[Int[np.ndarray, "k"], Float[Tensor, "m k"]]:
        classes, layer = self.fitted(train_x, train_y)
        return classes, layer(torch.from_numpy(np.require(test_x, np.float32, "W")))

    def fitted(
        self, train_x: Float[np.ndarray, "n d"], train_y: Int[np.ndarray, "n"]
    ) -> tuple[Int[np.ndarray, "k"], "StandardisedLinear"]:
        """The classes in `train_y`, in order, and the layer from features to a logit for each."""
        classes, places = np.unique(train_y, return_inverse=True)
        layer = StandardisedLinear(train_x.shape[1], len(classes))
        if len(classes) > 1:
            layer.mean, layer.std = (torch.from_numpy(x) for x in _mean_std(train_x))
            train = torch.from_numpy(train_x - layer.mean.numpy()).div_(layer.std)
            layer.weight, layer.bias = fit(train, torch.from_numpy(places), self.C or FEW / train.shape[1])
        return classes, layer


class StandardisedLinear(nn.Module):
    """weight ((x - mean) / std) + bias; all are buffers, zero until they are set."""

    mean: Tensor  # d
    std: Tensor
    weight: Tensor  # k d
    bias: Tensor

    def __init__(self, dim: int, classes: int):
        super().__init__()
        shapes = {"mean": (dim,), "std": (dim,), "weight": (classes, dim), "bias": (classes,)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.ones(shape) if name == "std" else torch.zeros(shape))

    def forward(self, x: Float[Tensor, "m d"]) -> Float[Tensor, "m k"]:
        return linear((x - self.mean).div_(self.std), self.weight, self.bias)


def fit(x: Float[Tensor, "n d"], y: Int[Tensor, "n"], C: float) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k"]]:
    """Weight and bias that minimise mean cross-entropy + |weight|^2 / (2 C n); y holds 0 .. k - 1."""
    if len(x) < x.shape[1]:  # the minimum lies in the span of the samples, so few samples make a small problem
        basis = torch.linalg.qr(x.T).Q  # d n
        weight, bias = fit(x @ basis, y, C)
        return weight @ basis.T, bias
    num_classes, penalty = int(y.max()) + 1, 1 / (C * len(x))
    curvature = (num_classes - 1) / num_classes**2  # of the cross-entropy where all classes are equally likely
    factor = _factor(x, curvature, penalty)
    free = torch.zeros(num_classes, x.shape[1], requires_grad=True)
    offset = torch.zeros(num_classes, requires_grad=True)
    search = {"max_iter": STEPS, "tolerance_grad": TOLERANCE, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([free, offset], **search)

    def model() -> tuple[Tensor, Tensor]:
        weight = free if factor is None else torch.linalg.solve_triangular(factor, free, upper=False, left=False)
        return weight, offset / math.sqrt(curvature)

    def closure() -> Tensor:
        optimizer.zero_grad()
        weight, bias = model()
        loss = cross_entropy(linear(x, weight, bias), y) + weight.square().sum() * penalty / 2
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    with torch.no_grad():
        return model()


def _factor(x: Tensor, curvature: float, penalty: float) -> Tensor | None:
    """Cholesky factor of the approximate Hessian; a share of the rows suffices, since it only speeds up the search.

    In float64: features of a trained encoder are so correlated that in float32, under a weak penalty, rounding makes
    the matrix indefinite.
    """
    if x.shape[1] > WIDE:
        return None
    some = x[:: max(1, len(x) // (3 * x.shape[1]))].double()
    hessian = some.T @ some * (curvature / len(some))
    hessian.diagonal().add_(penalty + 1e-6 * curvature)  # the latter where features are linearly dependent
    return torch.linalg.cholesky(hessian).to(x.dtype)


def _mean_std(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each feature. A feature that is constant up to float32 rounding is not scaled, so gets no
    weight."""
    mean, std = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    constant = std <= 1e-6 * np.maximum(np.abs(mean), np.abs(x).max(axis=0))
    return mean.astype(np.float32), np.where(constant, 1, std).astype(np.float32)
