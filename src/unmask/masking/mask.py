"""A mask names both sides, so nobody has to remember whether True means kept or removed."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import NamedTuple, TypedDict, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid

LEVELS = 5  # ratios between the first and the last: each has shapes of its own, which compiled blocks are made for
Ratio = float | tuple[float, float]  # of hidden units; or the first and the last one of a training
IN_WORDS = {
    "teacher_attention": "a teacher's attention",
    "features": "a teacher's features",
    "pixels": "the images",
    "progress": "the progress of the training",
    "errors": "the error of each hidden patch",
}


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


class Context(TypedDict, total=False):
    """What a method tells its sampler of the images whose masks it draws, by the names in `Sampler.needs`."""

    progress: float  # share of the training that is behind, 0 to 1; the end where nothing is said
    teacher_attention: Float[Tensor, "b n"]  # how much a teacher attends to each unit
    features: Float[Tensor, "b n d"]  # a teacher's
    pixels: Float[Tensor, "b n p"]  # normalised, as `Grid.cut` gives them
    empty: Bool[Tensor, "b n"]  # units without a value, such as what a short recording is filled up with


class Sampler(nn.Module, ABC):
    """Draws masks. A sampler only scores the units; exactly as many are hidden in every sample.

    It is a module of the objective: what it learns, or keeps, lies in the objective's state.
    """

    needs: frozenset[str] = frozenset()  # names of `Context`; "errors" where it learns from those of hidden units
    covers = True  # visible and hidden units together are all units; they are disjoint always
    placed = False  # masks units that have places of their own: it needs no rows and columns
    scattered = False  # scores are independent, so that any subset of their order is a fair mask too
    settled = False  # without chance: equal masks whenever it is told the same
    of: str | None = None  # the weights of the teacher that it needs; None: the method's own
    model: str | None = None  # a timm name, where these weights do not tell
    block: int = -1  # of the teacher's, whose attention it needs

    def __init__(self, ratio: Ratio = 0.75):
        """ratio: share of units to hide, between 0 and 1; or the first and the last one, between which it moves in
        LEVELS steps of equal length over the training."""
        super().__init__()
        first, last = (ratio, ratio) if isinstance(ratio, int | float) else ratio
        for share in (first, last):
            if not 0 < share < 1:
                raise UserError(f"the mask ratio must lie between 0 and 1, both excluded; got {ratio}")
        self.ratios, self.ratio = (float(first), float(last)), float(last)
        if self.changes:
            self.needs = self.needs | {"progress"}

    @property
    def changes(self) -> bool:
        """True where the ratio moves over the training."""
        return self.ratios[0] != self.ratios[1]

    def ratio_at(self, progress: float) -> float:
        """The share of units that is hidden at a progress of the training, from 0 to 1."""
        level = min(max(int(progress * LEVELS), 0), LEVELS - 1)
        first, last = self.ratios
        return round(first + (last - first) * level / (LEVELS - 1), 6)

    @property
    def dearest(self) -> float:
        """The progress at which the most units are visible, so that a step costs the most."""
        return 0.0 if self.ratios[0] < self.ratios[1] else 1.0

    def places(self, grid: Grid) -> int:
        """How many choices a mask consists of: one for each unit, or for each group that is hidden together."""
        return grid.num_units

    def count(self, grid: Grid, progress: float = 1.0) -> int:
        """How many units are hidden."""
        places = self.places(grid)
        return num_hidden(places, self.ratio_at(progress)) * (grid.num_units // places)

    @abstractmethod
    def score(self, batch: int, grid: Grid, noise: "Noise", context: Context) -> Float[Tensor, "b n"]:
        """One score per unit; the highest are hidden. context: what it `needs`."""

    def forward(
        self,
        batch: int,
        grid: Grid,
        device: torch.device | str,
        generator: Generator | None = None,
        rows: Rows | None = None,
        context: Context | None = None,
    ) -> Mask:
        """Masks for `batch` samples; the same `rows`, `generator` state or global seed give the same masks.

        rows: where these samples lie in the batch of a training step; no generator is needed then. generator: may be
        the CPU's, whatever the device, so that masks are the same on all. Raises UserError where the context lacks
        what the sampler needs.
        """
        told = context or Context()
        if lacking := self.needs - told.keys() - {"progress", "errors"}:
            raise UserError(f"the mask {self.name} needs {_listed(lacking)} to be drawn")
        with torch.autocast(torch.device(device).type, enabled=False):  # in bf16 many scores would be equal
            scores = self.score(batch, grid, Noise(device, generator, rows), told)
        if (empty := told.get("empty")) is not None:  # hidden before all others: there is nothing to see in them
            scores = scores.masked_fill(empty, math.inf)
        return _split(scores, self.count(grid, told.get("progress", 1.0)))

    def steady(
        self,
        batch: int,
        grid: Grid,
        device: torch.device | str,
        generator: Generator,
        context: Context | None = None,
    ) -> Mask:
        """Masks that depend on chance alone, to compare one time of a training with another: the sampler's own, or
        random ones of as many units where it looks at the images."""
        empty = context.get("empty") if context else None
        if not self.needs - {"progress"}:
            told = Context() if empty is None else Context(empty=empty)
            return self(batch, grid, device, generator, context=told)
        noise = Noise(device, generator)(batch, grid.num_units)
        return _split(noise if empty is None else noise.masked_fill(empty, math.inf), self.count(grid))

    def loss(
        self, index: Int[Tensor, "b m"], errors: Float[Tensor, "b m"], grid: Grid, context: Context
    ) -> Float[Tensor, ""] | None:
        """The loss of a sampler that learns; None for others. Its gradient reaches the sampler alone.

        index: the units that were predicted, of hidden ones; errors: how badly; context: that the mask was drawn with.
        """
        return None

    @property
    def name(self) -> str:
        """As error messages call it: by its file, or by its class where it is from outside of the package."""
        package, _, file = type(self).__module__.rpartition(".")
        return file if package == f"{__package__}.samplers" else type(self).__name__.lower()

    def note(self, grid: Grid) -> str:
        """What a plan says beside its text: a ratio that moves, and what it means for this grid."""
        if not self.changes:
            return ""
        shares = ", ".join(f"{self.ratio_at((level + 0.5) / LEVELS):.3g}" for level in range(LEVELS))
        return f"hides {shares} of the patches, each for {1 / LEVELS:.0%} of the training; measured where most is seen"

    def require(self, method: str, told: Collection[str] = (), whole: bool = False) -> None:
        """Raises UserError where a method does not tell this sampler what it needs, or needs masks of the whole grid
        and this sampler leaves out units, or where the method itself decides how many units are hidden."""
        if lacking := self.needs - set(told):
            raise UserError(
                f"the mask {self.name} needs {_listed(lacking)}, which {method} does not have; mae and simmim do"
            )
        if whole and not self.covers:
            raise UserError(
                f"{method} needs a mask in which every patch is either visible or hidden, once; {self.name} leaves some"
                " out and hides others twice. Use block or random"
            )
        if whole and self.changes:
            raise UserError(f"{method} draws itself how many patches are hidden: give one ratio, not {self.ratios}")

    def require_grid(self, grid: Grid) -> None:
        """Raises UserError for a grid of which nothing stays visible at some ratio, or that cannot be masked."""
        if grid.space and not self.placed:
            raise UserError(
                f"the mask {self.name} hides by rows and columns, and clouds of points have none: use random"
            )
        places, most = self.places(grid), max(self.ratios)
        if places > 1 and _num_visible(places, most) < 1:
            allowed = math.floor(1000 * (1 - 1 / places)) / 1000
            raise UserError(
                f"{self.name} with a ratio of {most:g} leaves none of {places} patches visible. The most is"
                f" {allowed:g}; a smaller --patch-size or a larger --image-size makes more patches"
            )
        num_hidden(places, most)
        if not self.needs and not grid.space:
            self(1, grid, "cpu", Generator())

    def several(
        self,
        count: int,
        batch: int,
        grid: Grid,
        device: torch.device | str,
        rows: Rows | None = None,
        context: Context | None = None,
    ) -> Mask:
        """`count` masks for each of `batch` samples, those of a sample in a row: b count v and b count h, flattened.

        If scores are scattered and there are enough units, no unit is visible in two masks of a sample, so that
        together they show most of it: all of it with ratio 0.75 and 4 masks (EMAE, Li et al. 2023). Otherwise each is
        drawn alone.
        """
        told = context or Context()
        visible = grid.num_units - self.count(grid, told.get("progress", 1.0))
        if not self.scattered or not self.covers or count * visible > grid.num_units or "empty" in told:
            return self(batch * count, grid, device, rows=rows, context=repeated(told, count))
        order = self.score(batch, grid, Noise(device, rows=rows), told).argsort(dim=1)
        turned = torch.stack([order.roll(-visible * number, dims=1) for number in range(count)], dim=1).flatten(0, 1)
        return Mask(visible=turned[:, :visible], hidden=turned[:, visible:])


def repeated(context: Context, count: int) -> Context:
    """What is told of each sample, `count` times in a row."""
    told = {k: v.repeat_interleave(count, dim=0) if isinstance(v, Tensor) else v for k, v in context.items()}
    return cast(Context, told)


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
            drawn_on = self.device if self.generator is None else self.generator.device
            return torch.rand(*shape, device=drawn_on, generator=self.generator).to(self.device)
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
    return num_units - min(max(_num_visible(num_units, ratio), 1), num_units - 1)


def _num_visible(num_units: int, ratio: float) -> int:
    return int(num_units * (1 - ratio) + 1e-6)


def hide_top(scores: Float[Tensor, "b n"], ratio: float) -> Mask:
    """Hides the highest-scoring `ratio` of units: exactly as many in every sample, whatever the scores."""
    return _split(scores, num_hidden(scores.shape[1], ratio))


def _split(scores: Float[Tensor, "b n"], hidden: int) -> Mask:
    """Hides as many of the highest-scoring units."""
    order = scores.argsort(dim=1)
    num_visible = scores.shape[1] - hidden
    return Mask(visible=order[:, :num_visible], hidden=order[:, num_visible:])


def _listed(needs: Collection[str]) -> str:
    return " and ".join(IN_WORDS.get(name, name) for name in sorted(needs))


def as_bool(index: Int[Tensor, "b m"], num_units: int) -> Bool[Tensor, "b n"]:
    """For models that want a boolean mask, such as Hiera: True at `index`."""
    return torch.zeros(len(index), num_units, dtype=torch.bool, device=index.device).scatter(1, index, True)
