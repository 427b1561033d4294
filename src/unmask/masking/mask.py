"""A mask names both sides, so nobody has to remember whether True means kept or removed."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid


class Mask(NamedTuple):
    visible: Int[Tensor, "b v"]  # indices of the units the encoder may see
    hidden: Int[Tensor, "b h"]  # indices of the units to predict


class Rows(NamedTuple):
    """Position of this micro-batch within the whole batch of a step.

    Random numbers are drawn for the whole batch, and each process takes its own rows: every sample gets the same mask,
    however many processes and micro-batches share the batch.
    """

    seed: int  # of the step
    first: int  # row of the micro-batch's first sample
    here: int  # samples in the micro-batch
    total: int  # samples in the batch of the step, over all micro-batches and processes


Context = Mapping[str, Tensor]  # what a method tells its sampler, by the names in `Sampler.needs`


class Sampler(ABC):
    """Draws masks. A sampler only scores the units; `hide_top` hides exactly as many in every sample."""

    needs: frozenset[str] = frozenset()  # what it must be told: "teacher_attention", "features", "progress"
    covers = True  # visible and hidden units together are all units; they are disjoint always
    scattered = False  # scores are independent, so that any subset of their order is a fair mask too

    def __init__(self, ratio: float = 0.75):
        """ratio: share of units to hide, between 0 and 1."""
        if not 0 < ratio < 1:
            raise UserError(f"the mask ratio must lie between 0 and 1, both excluded; got {ratio}")
        self.ratio = ratio

    @abstractmethod
    def score(self, batch: int, grid: Grid, noise: "Noise", context: Context) -> Float[Tensor, "b n"]:
        """One score per unit; the highest are hidden. context: what it `needs`."""

    def __call__(
        self,
        batch: int,
        grid: Grid,
        device: torch.device | str,
        generator: Generator | None = None,
        rows: Rows | None = None,
        context: Context | None = None,
    ) -> Mask:
        """Masks for `batch` samples; the same `rows`, `generator` state or global seed give the same masks.

        rows: where these samples lie in the batch of a training step; no generator is needed then.
        """
        return hide_top(self.score(batch, grid, Noise(device, generator, rows), context or {}), self.ratio)

    def loss(self) -> Tensor | None:
        """The loss of a sampler that learns, of its last masks; None for others."""
        return None

    def require(self, method: str, told: Collection[str] = (), whole: bool = False) -> None:
        """Raises UserError where a method does not tell this sampler what it needs, or needs masks of the whole grid
        and this sampler leaves out units."""
        if lacking := self.needs - set(told):
            name = type(self).__name__.lower()
            raise UserError(f"the mask {name} needs {' and '.join(sorted(lacking))}, which {method} does not have")
        if whole and not self.covers:
            name = type(self).__name__.lower()
            raise UserError(
                f"{method} needs a mask in which every patch is either visible or hidden, once; {name} leaves some out"
                " and hides others twice. Use block or random"
            )

    def several(self, count: int, batch: int, grid: Grid, device: torch.device | str, rows: Rows | None = None) -> Mask:
        """`count` masks for each of `batch` samples, those of a sample in a row: b count v and b count h, flattened.

        If scores are scattered and there are enough units, no unit is visible in two masks of a sample, so that
        together they show most of it: all of it with ratio 0.75 and 4 masks (EMAE, Li et al. 2023). Otherwise each is
        drawn alone.
        """
        visible = grid.num_units - num_hidden(grid.num_units, self.ratio)
        if not self.scattered or not self.covers or count * visible > grid.num_units:
            return self(batch * count, grid, device, rows=rows)
        order = self.score(batch, grid, Noise(device, rows=rows), {}).argsort(dim=1)
        turned = torch.stack([order.roll(-visible * number, dims=1) for number in range(count)], dim=1).flatten(0, 1)
        return Mask(visible=turned[:, :visible], hidden=turned[:, visible:])


class Noise:
    """Uniform random numbers in [0, 1) on a device: what a sampler needs to be seedable.

    The first axis is the sample; where several draws belong to one sample, they lie side by side.
    """

    def __init__(self, device: torch.device | str, generator: Generator | None = None, rows: Rows | None = None):
        self.device, self.generator, self.rows = device, generator, rows
        if rows is not None:
            self.generator = Generator(device).manual_seed(rows.seed)

    def __call__(self, *shape: int) -> Float[Tensor, "..."]:
        if self.rows is None:
            return torch.rand(*shape, device=self.device, generator=self.generator)
        per_sample, rest = divmod(shape[0], self.rows.here)
        if rest:
            raise UserError(f"noise of shape {shape}: its first axis must be the {self.rows.here} samples")
        whole = torch.rand(per_sample * self.rows.total, *shape[1:], device=self.device, generator=self.generator)
        return whole[per_sample * self.rows.first :][: shape[0]]


def num_hidden(num_units: int, ratio: float) -> int:
    """How many of `num_units` are hidden: all but floor(n * (1 - ratio)), as in MAE, and at least one on each side.

    The 1e-6 makes up for rounding: 10 * (1 - 0.9) is 0.9999999999999998 and must keep one.
    """
    if num_units < 2:
        raise UserError(f"a mask needs at least 2 units, the grid has {num_units}: use a smaller patch or larger image")
    return num_units - min(max(int(num_units * (1 - ratio) + 1e-6), 1), num_units - 1)


def hide_top(scores: Float[Tensor, "b n"], ratio: float) -> Mask:
    """Hides the highest-scoring `ratio` of units: exactly as many in every sample, whatever the scores."""
    order = scores.argsort(dim=1)
    num_visible = scores.shape[1] - num_hidden(scores.shape[1], ratio)
    return Mask(visible=order[:, :num_visible], hidden=order[:, num_visible:])


def as_bool(index: Int[Tensor, "b m"], num_units: int) -> Bool[Tensor, "b n"]:
    """For models that want a boolean mask, such as Hiera: True at `index`."""
    return torch.zeros(len(index), num_units, dtype=torch.bool, device=index.device).scatter(1, index, True)
