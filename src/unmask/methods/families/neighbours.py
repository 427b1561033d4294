"""Nearest neighbours among the projections of earlier images, as positives of contrastive learning. Dwibedi et al. 2021
(NNCLR), https://arxiv.org/abs/2104.14548."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from unmask.runtime.distributed.gather import gather


class Neighbours(nn.Module):
    """A queue of projections of unit length, first in, first out, the same in all processes."""

    rows: Tensor  # size d
    begin: Tensor  # 0-dim, where the next ones go
    filled: Tensor  # 0-dim, how many there are

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("begin", torch.zeros((), dtype=torch.long))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))
        self.noted: Tensor | None = None  # what goes in when the step counts

    @torch.no_grad()
    def nearest(
        self, query: Float[Tensor, "b d"], count: int = 1, chance: Float[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b d"]:
        """For each query one of its `count` nearest in the queue, by cosine; itself while the queue is empty.

        chance: numbers in [0, 1) that choose among them; None: the nearest.
        """
        query = normalize(query.float(), dim=1)
        places = torch.arange(len(self.rows), device=query.device)
        with torch.autocast(query.device.type, enabled=False):  # bf16 cannot tell near neighbours apart
            likeness = (query @ self.rows.T).masked_fill(places >= self.filled, -torch.inf)
        best = likeness.topk(min(count, len(self.rows)), dim=1).indices
        if chance is None:
            chosen = best[:, 0]
        else:
            several = self.filled.clamp(1, best.shape[1])
            chosen = best.gather(1, (chance * several).long().clamp(max=best.shape[1] - 1)[:, None])[:, 0]
        return torch.where(self.filled > 0, self.rows[chosen], query)

    @torch.no_grad()
    def note(self, keys: Float[Tensor, "b d"]) -> None:
        """Keeps this process's projections for `move`."""
        self.noted = gather(normalize(keys.float(), dim=1))[-len(self.rows) :]

    @torch.no_grad()
    def move(self, good: Tensor | None = None) -> None:
        """Puts what was noted into the queue, unless `good`, a 0-dim bool on the device, says that the step does not
        count."""
        if self.noted is None:
            return
        size, count = len(self.rows), len(self.noted)
        counts = torch.ones_like(self.begin, dtype=torch.bool) if good is None else good
        places = (self.begin + torch.arange(count, device=self.rows.device)) % size
        self.rows[places] = torch.where(counts, self.noted, self.rows[places])
        self.begin.copy_(torch.where(counts, (self.begin + count) % size, self.begin))
        self.filled.copy_(torch.where(counts, (self.filled + count).clamp(max=size), self.filled))
        self.noted = None
