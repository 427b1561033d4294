"""I-JEPA's masks: several target blocks to predict, and a large block around them to predict from. Assran et al. 2023.
For clips also V-JEPA's: blocks that span all the time, many small ones and few large ones. Bardes et al. 2024,
https://arxiv.org/abs/2404.08471.

Context and targets are disjoint, but do not cover the grid. Where the paper cuts every sample of a batch down to the
smallest one, counts are fixed here beforehand, so that shapes never change: a target has the mean of its range of
sizes, the context what is left of its block if no targets overlap.
"""

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from unmask.errors import UserError, many, require_whole
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Mask, Noise, Rows, Sampler

__all__ = ["MultiBlock"]
LEAST = 2  # units that a context must keep


class MultiBlock(Sampler):
    covers = False

    def __init__(
        self,
        targets: int = 4,
        scale: tuple[float, float] = (0.15, 0.2),
        aspect: tuple[float, float] = (0.75, 1.5),
        context: tuple[float, float] = (0.85, 1.0),
        tubes: tuple[tuple[int, float], ...] = (),
    ):
        """targets: blocks to predict; scale: share of the grid in each; aspect: their height over width; context: share
        of the grid in the block that is seen, before targets are taken out of it.

        tubes: in place of these, V-JEPA's masks of clips: for each (blocks, share of a frame) a mask of its own, whose
        blocks span all the time; all that they cover is predicted at once, from all that they do not. V-JEPA has a
        short and a long range: ((8, 0.15), (2, 0.7)).
        """
        super().__init__()
        for count, share in tubes:
            require_whole("tubes", count)
            if not 0 < share < 1:
                raise UserError(f"multiblock's tubes are (blocks, share of a frame), above 0 and below 1; got {share}")
        require_whole("targets", targets)
        for name, (low, high) in (("scale", scale), ("aspect", aspect), ("context", context)):
            if not 0 < low <= high or (name != "aspect" and high > 1):
                raise UserError(f"multiblock needs 0 < smallest <= largest for its {name}; got {low} and {high}")
        self.targets, self.scale, self.aspect, self.context = targets, scale, aspect, context
        self.tubes = tuple((int(count), float(share)) for count, share in tubes)

    def sizes(self, grid: Grid) -> tuple[int, int]:
        """Units of the context and of each target; of tubes, for the mask that leaves the smaller context. Raises
        UserError for a grid that leaves no context."""
        if self.tubes:
            frame, frames = frame_of(grid)
            hidden = max(self._covered(frame, count, share) for count, share in self.tubes)
            return frames * (frame.num_units - hidden), frames * hidden
        target = max(1, round(sum(self.scale) / 2 * grid.num_units))
        seen = round(sum(self.context) / 2 * grid.num_units) - self.targets * target
        if seen < LEAST:
            left = f"a context of {seen}" if seen > 0 else "no context"
            raise UserError(
                f"{many(self.targets, 'block')} of {many(target, 'patch')} to predict leave {left} on a grid of"
                f" {grid.num_units}: use fewer or smaller ones (multiblock(targets=2)), a smaller patch or a larger"
                " image"
            )
        return seen, target

    def forward(
        self,
        batch: int,
        grid: Grid,
        device: torch.device | str,
        generator: Generator | None = None,
        rows: Rows | None = None,
        context: Context | None = None,
    ) -> Mask:
        """The context as visible units; as hidden ones those of all targets, one target after the other: a unit of two
        targets comes twice."""
        seen, targets = self.parts(batch, grid, Noise(device, generator, rows))[-1]
        return Mask(visible=seen, hidden=targets.flatten(1))

    def parts(self, batch: int, grid: Grid, noise: Noise) -> list[tuple[Int[Tensor, "b v"], Int[Tensor, "b m t"]]]:
        """What is predicted from what: units of a context, and of each target. One pair, or one for each of `tubes`,
        with a single target."""
        if not self.tubes:
            return [self.blocks(batch, grid, noise)]
        return [self._tube(batch, grid, noise, count, share) for count, share in self.tubes]

    def _tube(
        self, batch: int, grid: Grid, noise: Noise, count: int, share: float
    ) -> tuple[Int[Tensor, "b v"], Int[Tensor, "b 1 t"]]:
        """Where V-JEPA cuts every sample of a batch down to the fewest units, a mask hides a fixed number of places: as
        many as such blocks cover on average, the innermost first."""
        frame, frames = frame_of(grid)
        units = max(1, round(share * frame.num_units))
        distance = self._distances(batch, frame, noise, count, units, self.aspect).amin(dim=1)  # b n
        order = distance.argsort(dim=1)
        order = order[:, None] + frame.num_units * torch.arange(frames, device=order.device)[:, None]  # b f n
        hidden = self._covered(frame, count, share)
        return order[..., hidden:].flatten(1), order[..., :hidden].flatten(1)[:, None]

    def _covered(self, frame: Grid, count: int, share: float) -> int:
        """Places of a frame that so many blocks at random cover on average, at least one and not all."""
        return min(max(1, round((1 - (1 - share) ** count) * frame.num_units)), frame.num_units - 1)

    def blocks(self, batch: int, grid: Grid, noise: Noise) -> tuple[Int[Tensor, "b v"], Int[Tensor, "b m t"]]:
        """Units of the context, and of each target."""
        num_seen, num_target = self.sizes(grid)
        distance = self._distances(batch, grid, noise, self.targets, num_target, self.aspect)  # b m n
        targets = distance.topk(num_target, dim=2, largest=False).indices
        taken = torch.zeros(batch, grid.num_units, device=noise.device).scatter(1, targets.flatten(1), 1.0)
        share = sum(self.context) / 2
        block = self._distances(batch, grid, noise, 1, round(share * grid.num_units), (1.0, 1.0))[:, 0]
        outside = (block > 0.5 + 1e-4).float()
        order = 4 * taken + 2 * outside + noise(batch, grid.num_units)  # inside the block at random, then around it
        return order.topk(num_seen, dim=1, largest=False).indices, targets

    def _distances(
        self, batch: int, grid: Grid, noise: Noise, count: int, units: int, aspect: tuple[float, float]
    ) -> Float[Tensor, "b m n"]:
        """How far every unit lies from the centre of each of `count` blocks of about so many units, in sides of the
        block: at most a half inside."""
        shape = torch.tensor(grid.shape, dtype=torch.float32, device=noise.device)
        axes = len(grid.shape)
        stretch = torch.zeros(batch, count, axes, device=noise.device)
        if axes > 1:
            low, high = aspect
            stretch[..., 0] = (low + (high - low) * noise(batch, count, 1)[..., 0]).log() / 2
            stretch[..., 1] = -stretch[..., 0]
        side = (units / grid.num_units) ** (1 / axes) * shape
        size = (side * stretch.exp()).round().clamp(min=1).minimum(shape)
        start = (noise(batch, count, axes) * (shape - size + 1)).floor()
        at = grid.coordinates(noise.device)
        offset = (at - (start + (size - 1) / 2)[:, :, None]).abs() / size[:, :, None]  # b m n k
        return offset.amax(dim=3) + 1e-5 * noise(batch, count, grid.num_units)

    def require_grid(self, grid: Grid) -> None:
        self.sizes(grid)

    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        """How many targets hide each unit; masks are made of blocks instead."""
        _, targets = self.parts(batch, grid, noise)[-1]
        counts = torch.zeros(batch, grid.num_units, device=noise.device)
        return counts.scatter_add(1, targets.flatten(1), torch.ones_like(targets.flatten(1), dtype=torch.float32))


def frame_of(grid: Grid) -> tuple[Grid, int]:
    """The grid of a frame, and the number of frames; time is the first of three axes."""
    if len(grid.shape) < 3:
        return grid, 1
    return Grid(grid.shape[1:], grid.unit[1:]), grid.shape[0]
