"""Optimizers against steps computed by hand, in NumPy and float64."""

import numpy as np
import pytest
import torch
from torch import nn

from unmask.training.lars import Lars


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.5])
def test_lars_takes_the_official_steps_with_and_without_weight_decay(decay):
    """MoCo v3's and MAE's: matrices by trust * |w| / |g + decay w|, vectors plainly and without decay."""
    random = np.random.default_rng(0)
    shapes = {"matrix": (16, 8), "kernel": (4, 3, 2, 2), "fresh head": (4, 16), "bias": (16,), "scale": ()}
    values = {name: random.normal(size=shape) for name, shape in shapes.items()}
    values["fresh head"] = np.zeros(shapes["fresh head"])  # no norm to follow yet
    weights = {name: nn.Parameter(torch.tensor(value)) for name, value in values.items()}
    optimizer = Lars([{"params": list(weights.values()), "weight_decay": decay}], momentum=0.9)
    speed = {name: np.zeros(shape) for name, shape in shapes.items()}
    for rate in (0.1, 1.0, 3.0, 0.5):
        for name, weight in weights.items():
            gradient = random.normal(size=shapes[name]) if rate != 3.0 else np.zeros(shapes[name])
            weight.grad = torch.tensor(gradient)
            if values[name].ndim > 1:
                gradient = gradient + decay * values[name]
                size, slope = np.linalg.norm(values[name].ravel()), np.linalg.norm(gradient.ravel())
                gradient = gradient * (0.001 * size / slope if size > 0 and slope > 0 else 1.0)
            speed[name] = 0.9 * speed[name] + gradient
            values[name] = values[name] - rate * speed[name]
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        for name, weight in weights.items():
            np.testing.assert_allclose(weight.detach().numpy(), values[name], rtol=1e-12, atol=1e-15, err_msg=name)
