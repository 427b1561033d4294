"""A codebook: every vector becomes the nearest of its codes, which follow the vectors that they stand for.

Codes are moving averages of their vectors, as in VQ-VAE (van den Oord et al. 2017, appendix A.1); the gradient passes
by them. They start at the centres of k-means, and a code that stands for hardly any vector starts anew at one of the
batch (Dhariwal et al. 2020, Jukebox). With `unit=True` vectors and codes have length 1, as in ViT-VQGAN (Yu et al.
2021) and BEiT v2.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from unmask.errors import UserError, require_whole
from unmask.runtime.distributed.gather import gather, several

DEAD = 0.03  # share of an even usage below which a code counts as dead
ROUNDS = 10  # of k-means
AT_ONCE = 2**26  # distances that are in memory at a time
SPARE, STRIDE = 4, 7  # vectors of each image for codes that start anew, and units between them


class Quantised(NamedTuple):
    vectors: Float[Tensor, "b n d"]  # the codes, with the gradient of what they stand for
    ids: Int[Tensor, "b n"]
    commitment: Float[Tensor, ""]  # mean squared distance of vectors from their codes, with a gradient to the vectors
    perplexity: Float[Tensor, ""]  # of the ids: how many codes are in use, were they used equally often


class Codebook(nn.Module):
    codes: Float[Tensor, "k d"]
    counts: Float[Tensor, "k"]  # vectors of a step that a code stands for, a moving average
    sums: Float[Tensor, "k d"]  # of these vectors
    moves: Int[Tensor, ""]

    def __init__(self, num: int, dim: int, decay: float = 0.99, unit: bool = False):
        """num: codes; dim: of a vector; decay: of the averages, for each step, but at the very first."""
        super().__init__()
        require_whole("codes", num)
        require_whole("dim", dim)
        if num < 2:
            raise UserError(f"a codebook has 2 codes or more, got {num}")
        if not 0 <= decay < 1:
            raise UserError(f"the codes' decay is 0 or more and below 1, got {decay}")
        self.decay, self.unit = decay, unit
        codes = self._brought(torch.randn(num, dim))
        self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.ones(num))
        self.register_buffer("sums", codes.clone())
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))
        self.forget()

    def forget(self) -> None:
        """Forgets what was noted since the last move."""
        self._noted: list[tuple[Tensor, Tensor, Tensor]] = []  # counts, sums, vectors to start anew from

    def forward(self, x: Float[Tensor, "b n d"]) -> Quantised:
        """Quantises in fp32; in training, notes what the codes stand for."""
        with torch.autocast(x.device.type, enabled=False):
            x = self._brought(x.float())
            ids = self.nearest(x.detach())
            codes = self.codes[ids]
            frequency = self._frequency(ids)
            if self.training and torch.is_grad_enabled():
                self._note(x.detach(), ids)
            commitment = (x - codes).square().sum(dim=-1).mean() / (1 if self.unit else x.shape[-1])
            share = frequency / frequency.sum()
            perplexity = torch.exp(-(share * share.clamp(min=1e-10).log()).sum())
            return Quantised(x + (codes - x).detach(), ids, commitment, perplexity)

    @torch.no_grad()
    def nearest(self, x: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The ids of vectors; of length 1 if the codes are."""
        length, parts = self.codes.square().sum(dim=1), x.flatten(0, -2).split(max(1, AT_ONCE // len(self.codes)))
        return torch.cat([(length - 2 * part @ self.codes.T).argmin(dim=1) for part in parts]).view(x.shape[:-1])

    def ids(self, x: Float[Tensor, "*b d"]) -> Int[Tensor, "*b"]:
        """The ids of any vectors, in fp32."""
        with torch.autocast(x.device.type, enabled=False):
            return self.nearest(self._brought(x.float()))

    @torch.no_grad()
    def start(self, x: Float[Tensor, "m d"]) -> None:
        """Puts the codes at the centres of k-means over some vectors, the same ones for the same vectors."""
        x = self._brought(x.float())
        generator = torch.Generator().manual_seed(len(x))
        order = torch.randperm(len(x), generator=generator).to(x.device)
        first = order[torch.arange(len(self.codes), device=x.device) % len(x)]
        apart = 1e-3 * x.std() * torch.randn(self.codes.shape, generator=generator).to(x.device)
        self.codes.copy_(self._brought(x[first] + (0 if len(x) >= len(self.codes) else apart)))
        for _ in range(ROUNDS):
            ids = self.nearest(x)
            counts, sums = self._frequency(ids), torch.zeros_like(self.codes).index_add_(0, ids, x)
            means = self._brought(sums / counts.clamp(min=1)[:, None])
            self.codes.copy_(torch.where(counts[:, None] > 0, means, self.codes))
        self.counts.fill_(1.0)
        self.sums.copy_(self.codes)

    def _note(self, x: Float[Tensor, "b n d"], ids: Int[Tensor, "b n"]) -> None:
        sums = torch.zeros_like(self.codes).index_add_(0, ids.flatten(), x.flatten(0, 1))
        spare = torch.arange(SPARE * len(x), device=x.device)  # a few units of each image, others in every step
        unit = STRIDE * (self.moves + spare) % x.shape[1]
        self._noted.append((self._frequency(ids), sums, x[spare // SPARE, unit]))

    @torch.no_grad()
    def move(self, good: Tensor | None = None) -> None:
        """Moves the codes to what they stood for in this step, over all processes. good: a 0-dim bool, False where the
        step does not count."""
        if not self._noted:
            return
        counts, sums = (torch.stack([note[i] for note in self._noted]).sum(dim=0) for i in (0, 1))
        others = gather(torch.cat([note[2] for note in self._noted]))
        self.forget()
        if several():
            dist.all_reduce(counts)
            dist.all_reduce(sums)
        # at first the vectors move fast and the averages are short, so that codes that are left behind are noticed
        new = 1 - ((1 + self.moves) / (10 + self.moves)).clamp(max=self.decay)
        counts, sums = (old + new * (now - old) for old, now in ((self.counts, counts), (self.sums, sums)))
        codes = self._brought(sums / counts.clamp(min=1e-6)[:, None])
        dead = counts < DEAD * counts.mean()
        turn = dead.cumsum(dim=0) - 1  # the first dead code takes the first of the other vectors, and so on
        anew = dead & (turn < len(others))
        codes = torch.where(anew[:, None], others[turn.clamp(0, len(others) - 1)], codes)
        counts = torch.where(anew, counts.mean(), counts)
        sums = torch.where(anew[:, None], codes * counts[:, None], sums)
        for old, new in ((self.codes, codes), (self.counts, counts), (self.sums, sums), (self.moves, self.moves + 1)):
            old.copy_(new if good is None else torch.where(good, new, old))

    def _frequency(self, ids: Int[Tensor, "*b"]) -> Float[Tensor, "k"]:
        ones = torch.ones(ids.numel(), device=ids.device)
        return torch.zeros(len(self.codes), device=ids.device).index_add_(0, ids.flatten(), ones)

    def _brought(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return normalize(x, dim=-1) if self.unit else x
