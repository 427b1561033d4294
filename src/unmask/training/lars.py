"""LARS: SGD whose step follows the size of each layer's weights. You et al. 2017, https://arxiv.org/abs/1708.03888.

As the linear evaluations of MoCo v3 and MAE have it: the decayed gradient g + decay * w is scaled to `TRUST` times the
norm of w. The paper, and timm after it, divide by |g| + decay * |w| instead, which is another step wherever there is
weight decay.
"""

from typing import Any

import torch

TRUST = 0.001


class Lars(torch.optim.Optimizer):
    """Matrices move by a share of their own norm, whatever the norm of their gradient. Vectors, such as biases and
    norms, take plain steps without weight decay."""

    def __init__(self, params: list[dict[str, Any]], momentum: float = 0.9):
        """params: groups with their own "weight_decay". The learning rate is set at every step."""
        super().__init__(params, {"lr": 0.0, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    gradient = weight.grad.clone()
                    if weight.ndim > 1:
                        gradient.add_(weight, alpha=group["weight_decay"])
                        gradient.mul_(_trust(weight, gradient))
                    momentum = self.state[weight].get("momentum_buffer")
                    if momentum is None:
                        momentum = self.state[weight]["momentum_buffer"] = torch.zeros_like(gradient)
                    weight.sub_(momentum.mul_(group["momentum"]).add_(gradient), alpha=group["lr"])


def _trust(weight: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The factor on a decayed gradient, 0-dim; 1 where weight or gradient is zero."""
    size, slope = weight.norm(), gradient.norm()
    return torch.where((size > 0) & (slope > 0), TRUST * size / slope, 1.0)
