"""Losses over prototypes: a teacher's (or another view's) assignment of a sample is the label of the student's.

Assignments are kept from collapsing by a centre and a low temperature (DINO, Caron et al. 2021) or by Sinkhorn's
balancing (SwAV, Caron et al. 2020; Cuturi 2013).
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from unmask.runtime.distributed.gather import several

UNIFORM, ONE = 0.01, 0.05  # sharpness and entropy below which assignments say nothing about any image


class Centre(nn.Module):
    """A moving average of a teacher's outputs, over all processes and parts of a batch; it is taken off the outputs."""

    centre: Float[Tensor, "k"]
    total: Float[Tensor, "k"]
    count: Float[Tensor, ""]

    def __init__(self, dim: int, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("total", torch.zeros(dim), persistent=False)
        self.register_buffer("count", torch.zeros(()), persistent=False)

    @torch.no_grad()
    def note(self, outputs: Float[Tensor, "b k"], counts: Tensor | None = None) -> None:
        """Counts the outputs of a part of a batch. counts: b, which of them count; None: all."""
        weights = torch.ones(len(outputs), device=outputs.device) if counts is None else counts.float()
        with torch.autocast(outputs.device.type, enabled=False):  # the product would be rounded to bf16
            self.total += weights @ outputs.float()
        self.count += weights.sum()

    @torch.no_grad()
    def move(self, good: Tensor | None = None) -> None:
        """Takes in what was counted, unless the update was skipped. Called once in a step by every process."""
        both = torch.cat([self.total, self.count[None]])
        if several():
            dist.all_reduce(both)
        mean = both[:-1] / both[-1].clamp(min=1)
        moved = torch.where(both[-1] > 0, self.centre * self.momentum + mean * (1 - self.momentum), self.centre)
        self.centre.copy_(moved if good is None else torch.where(good, moved, self.centre))
        self.total.zero_()
        self.count.zero_()


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "b k"], temperature: float = 0.05, iterations: int = 3, weights: Tensor | None = None
) -> Float[Tensor, "b k"]:
    """Assignments of the samples of all processes in which every prototype gets an equal share; rows sum to 1.

    weights: b, 1 for rows that count and 0 for the others, whose assignment is not balanced.
    """
    logits = scores.float() / temperature
    largest = logits.max()
    if several():
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    q = (logits - largest).exp()
    if weights is not None:
        q = q * weights[:, None]
    q = q / _sum(q.sum()).clamp(min=1e-30)
    for _ in range(iterations):
        q = q / _sum(q.sum(dim=0, keepdim=True)).clamp(min=1e-30)
        q = q / q.sum(dim=1, keepdim=True).clamp(min=1e-30)
    return q


def swapped(logits: Sequence[Float[Tensor, "b k"]], targets: Sequence[Float[Tensor, "b k"]]) -> Float[Tensor, ""]:
    """Cross-entropy of every view's logits with every other view's target, averaged. Target i belongs to view i;
    logits are divided by their temperature already."""
    losses = [
        -(target * log_softmax(student.float(), dim=1)).sum(dim=1).mean()
        for place, target in enumerate(targets)
        for other, student in enumerate(logits)
        if other != place
    ]
    return torch.stack(losses).mean()


def entropy(probabilities: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Of the mean assignment, as a share of the largest possible: 0 if all samples go to one prototype."""
    mean = probabilities.detach().float().mean(dim=0)
    return -(mean * mean.clamp(min=1e-12).log()).sum() / torch.log(torch.tensor(float(mean.numel())))


def sharpness(probabilities: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """How far single assignments are from uniform: 1 minus their mean entropy, as a share of the largest."""
    x = probabilities.detach().float()
    entropies = -(x * x.clamp(min=1e-12).log()).sum(dim=1)
    return 1 - entropies.mean() / torch.log(torch.tensor(float(x.shape[1])))


def usage(scores: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """How evenly samples choose their first prototypes: the entropy of the choices as a share of the largest possible.
    0 if all choose the same. For assignments that are balanced, whose mean says nothing."""
    number, count = scores.shape
    chosen = torch.zeros(count, device=scores.device).index_add(
        0, scores.detach().argmax(dim=1), torch.ones(number, device=scores.device)
    )
    shares = chosen / number
    most = torch.log(torch.tensor(float(max(2, min(number, count)))))
    return -(shares * shares.clamp(min=1e-12).log()).sum() / most


def _sum(x: Tensor) -> Tensor:
    if several():
        x = x.clone()
        dist.all_reduce(x)
    return x
