"""Rows of all processes in one tensor, with a gradient: for objectives that compare samples across devices.

As needed by contrastive losses (SimCLR, Chen et al. 2020, appendix B.3; MoCo v3, Chen et al. 2021).
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.autograd import Function


def gather(x: Shaped[Tensor, "b *d"]) -> Shaped[Tensor, "c *d"]:
    """The rows of every process in order of rank, as in the batch of a single process; `x` itself where there is one.

    All processes must bring equally many rows. The gradient of a row is the sum over all processes; with the mean that
    data parallelism takes over processes, weights get the gradient of the mean loss.
    """
    return cast(Tensor, _Gather.apply(x)) if several() else x


def several() -> bool:
    """True if this process trains with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def processes() -> int:
    """How many train together."""
    return dist.get_world_size() if several() else 1


def own_rows(count: int, device: torch.device) -> Int[Tensor, "b"]:
    """Where this process's rows lie among those of all."""
    rank = dist.get_rank() if several() else 0
    return torch.arange(count, device=device) + rank * count


def summed(x: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """The sum over processes, with the gradient of one process; `x` itself where there is one."""
    return gather(x[None]).sum(dim=0) if several() else x


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous().clone()
        dist.all_reduce(whole)
        return whole[dist.get_rank() * ctx.rows :][: ctx.rows]
