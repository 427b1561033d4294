"""Batch norm over the samples of all processes, on any device: torch's SyncBatchNorm refuses CPUs.

Ioffe & Szegedy 2015; in the projection heads of SimCLR, BYOL and MoCo v3.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.runtime.distributed.gather import processes, several, summed


class BatchNorm(nn.BatchNorm1d):
    """As torch's BatchNorm1d on b d, with the mean and variance of all processes in training. In fp32."""

    def forward(self, input: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        x = input.float()
        if not self.training:
            return super().forward(x)
        count = len(x) * processes()
        if count < 2:
            raise UserError("a batch norm needs at least 2 samples in a batch, got 1: give a larger --batch")
        if not several():
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            mean = summed(x.sum(dim=0)) / count
            variance = summed((x - mean).square().sum(dim=0)) / count
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
