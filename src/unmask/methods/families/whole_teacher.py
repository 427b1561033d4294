"""A frozen teacher that shows whole images: a vector, and maps with the strides that they have for a student."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.errors import UserError, closest
from unmask.masking.grid import Grid
from unmask.models.encoder import Encoder
from unmask.weights.frozen_teacher import FrozenTeacher

POOLINGS = ("mean", "cls")
COLOURS = {1, 3}  # channels of images of which either can be made of the other


class Level(NamedTuple):
    """A feature map of a network."""

    dim: int  # channels
    stride: float  # pixels of the student's images between its positions


class Shown(NamedTuple):
    """What a network makes of images."""

    pooled: Float[Tensor, "b d"]
    maps: list[Float[Tensor, "b _ _ _"]]  # as many as it has levels


class WholeTeacher(FrozenTeacher):
    def __init__(
        self,
        source: str,
        student: Encoder,
        model: str | None = None,
        size: int | Sequence[int] | None = None,
        pooling: str = "mean",
    ):
        """As for `FrozenTeacher`. pooling: mean of its patches, or cls, its class token. Raises UserError for a teacher
        without one, and for one of channels that are not those of the student's images."""
        super().__init__(source, student, model, size)
        if pooling not in POOLINGS:
            raise UserError(f"no pooling {pooling!r}{closest(pooling, POOLINGS)} There are: {', '.join(POOLINGS)}")
        if pooling == "cls" and getattr(self.encoder.net, "cls_token", None) is None:
            raise UserError(f"the teacher {source} has no class token: leave pooling='cls' out")
        own = self.opened.channels
        if own != student.channels and {own, student.channels} != COLOURS:
            raise UserError(
                f"the teacher {source} sees images of {own} channels, the student those of {student.channels}: it does"
                f" not know what they are; give data of {own} channels, or --channels {own} if it can be brought there"
            )
        self.cls, self.usual = pooling == "cls", self.encoder.grid.covering(self.size_for(student.input_size))
        self.levels = levels_of(self.encoder, self.size_for(student.input_size)[0] / student.input_size[0])
        self.shapes: dict[tuple[int, ...], list[torch.Size]] = {}  # size of images -> of the maps, without the batch

    @torch.no_grad()
    def shown(self, x: Shaped[Tensor, "b c h w"]) -> Shown:
        """Vector and maps of raw images."""
        whole, size = Grid((1, 1), (int(x.shape[2]), int(x.shape[3]))), tuple(x.shape[2:])
        if size not in self.shapes:
            self._compute(x[:1], whole)
        flat, shapes = self(x, whole)[:, 0], self.shapes[size]
        pooled, *maps = flat.split([self.dim, *(shape.numel() for shape in shapes)], dim=1)
        return Shown(pooled, [m.unflatten(1, shape) for m, shape in zip(maps, shapes)])

    def _compute(self, x: Shaped[Tensor, "b c h w"], grid: Grid) -> Float[Tensor, "b 1 _"]:
        """All of it as one vector, which can be kept on the disk."""
        pooled, maps = self.encoder.seen(self._seen(x, grid), self.cls)
        self.shapes[grid.size] = [m.shape[1:] for m in maps]
        return torch.cat([pooled.float(), *(m.flatten(1).float() for m in maps)], dim=1)[:, None]

    @property
    def bytes_per_view(self) -> int:
        places = sum(level.dim * (self.usual.size[0] * self.usual.size[1]) / level.stride**2 for level in self.levels)
        return 4 * (self.dim + round(places))


def levels_of(encoder: Encoder, scale: float = 1.0) -> list[Level]:
    """Of the maps that `Encoder.seen` gives. scale: pixels that the encoder sees along a side, for one of the image."""
    if not encoder.staged:
        return [Level(encoder.dim, encoder.grid.unit[0] / scale)]
    numbers = range(encoder.num_maps)
    return [Level(d, s / scale) for d, s in zip(encoder.feature_dims(numbers), encoder.feature_strides(numbers))]
