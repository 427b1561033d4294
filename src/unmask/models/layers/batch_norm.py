"""Batch norm over the samples of all processes, on any device: torch's SyncBatchNorm refuses CPUs.

Ioffe & Szegedy 2015; in the projection heads of SimCLR, BYOL and MoCo v3.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from unmask.errors import UserError


class BatchNorm(nn.BatchNorm1d):
    """As torch's BatchNorm1d on b d, with the mean and variance of all processes in training. In fp32."""

    def forward(self, input: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        x = input.float()
        if not self.training:
            return super().forward(x)
        count = len(x) * (dist.get_world_size() if _several() else 1)
        if count < 2:
            raise UserError("a batch norm needs at least 2 samples in a batch, got 1: give a larger --batch")
        if not _several():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            mean = _sum(x.sum(dim=0)) / count
            variance = _sum((x - mean).square().sum(dim=0)) / count
            with torch.no_grad():
                assert self.running_mean is not None  # made with the layer
                assert self.running_var is not None
                assert self.momentum is not None
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
            x = (x - mean) * (variance + self.eps).rsqrt()
            return x if not self.affine else x * self.weight + self.bias


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sum(x: Tensor) -> Tensor:
    return cast(Tensor, _Sum.apply(x))


class _Sum(Function):
    """The sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total
