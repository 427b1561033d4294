"""A frozen teacher: an encoder of any origin that a method learns from, and never trains.

It lies outside of the objective's parameters, so that no optimizer, shard or checkpoint holds it. A run records where
its weights came from, their licence and a hash; a resumed run opens them again, and refuses others.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unmask.data.modalities.joint.packing import PartAlone
from unmask.data.modality import make_modality
from unmask.data.sheet import far_channels
from unmask.errors import UserError, require_whole
from unmask.files import Json
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder
from unmask.models.layers.attention_maps import received
from unmask.models.state import model_text, same_again
from unmask.weights.canonical import Canonical, hash_of
from unmask.weights.content import learnt_from, stamp
from unmask.weights.known import require_known
from unmask.weights.licence import UNTRAINED, licence_of
from unmask.weights.open import Opened, open_weights
from unmask.weights.teacher_cache import KeptFeatures

RANDOM, SEED = "random", 0xDB07  # the source of a network that nobody trained, and of its weights


class Frozen(nn.Module, ABC):
    """A network outside of an objective's parameters, which is never trained."""

    source: str  # as it was asked for
    sha256: str  # of its tensors
    lines: Sequence[str]  # how it was opened
    word: str  # what a plan calls it

    @property
    @abstractmethod
    def facts(self) -> Json:
        """What a run records: source, model, licence, layout, sha256."""

    @property
    @abstractmethod
    def note(self) -> str:
        """What a plan says: how it sees images, and the licence."""


class FrozenTeacher(Frozen):
    """Features of raw samples for the units of a student's grid, without a gradient.

    Weights are in fp32; under autocast the network computes as the student's does. The encoder follows its input to its
    device. It is always in eval mode, and neither it nor its mean and std are in `state_dict`.
    """

    word = "teacher"
    only_images = False  # that it can see; else what the student sees
    mean: Tensor  # c 1 1, raw units
    std: Tensor

    def __init__(
        self,
        source: str,
        student: Encoder | PartAlone,
        model: str | None = None,
        size: int | Sequence[int] | None = None,
    ):
        """source: a run folder, a file or folder of weights, or a timm name, as `open_weights` takes them; or
        "random": a network like the student, with random weights that are always the same (dBOT's first teacher).

        student: tells the channels of the samples with their mean and std, and the usual grid. model: a timm name,
        where a file does not tell. size: height and width at which the teacher sees an image, pixels; None: about as
        many pixels as it was made for, in the image's shape. Raises UserError for weights that cannot be opened.
        """
        super().__init__()
        # plans are made on the meta device, where weights have no values; a network that is opened draws random numbers
        # before it is filled, which must not change what the student gets
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            sees = student.channels, self.only_images
            shared = _random(student) if source == RANDOM else _open(source, model, *sees, stamp(source))
            self._encoder = [shared.encoder]  # in a list: no child of this module
            self.opened, self.sha256, self.dim = shared.opened, shared.sha256, shared.encoder.dim
            self.source, self.lines = source, shared.opened.lines
            data = None if student.mean.is_meta else student.statistics
            mean, std = _statistics(self.opened, student.channels, data)
            self.own_units = data is None or not far_channels(data, (mean, std))
            mean, std = (mean, std) if data is None or self.own_units else data
            self.statistics = mean, std
            self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.size, self.usual = _whole_units(size, self.encoder.grid, source), student.grid
        self.kept: KeptFeatures | None = None
        self.register_state_dict_pre_hook(_write_kept)

    def keep_in(self, folder: Path) -> None:
        """Keeps features on the disk from now on, for views that come again; a checkpoint finds them written."""
        self.kept = KeptFeatures(folder)

    @property
    def bytes_per_view(self) -> int:
        """Of the features that a student of the usual size learns from."""
        return 4 * self.usual.num_units * self.dim

    @property
    def encoder(self) -> Encoder:
        """The teacher's network; takes normalised samples."""
        return self._encoder[0]

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c h w"], grid: Grid) -> Float[Tensor, "b n d"]:
        """Features of the units of `grid`, in reading order, for raw samples that it covers."""
        if self.kept is None:
            return self._compute(x, grid)
        cast = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.device.type
        made_by = f"{self.sha256} {self.size_for(grid.size)} {grid} {self.statistics} {cast}"
        return self.kept.of(x, made_by, partial(self._compute, x, grid))

    def _compute(self, x: Shaped[Tensor, "b c h w"], grid: Grid) -> Float[Tensor, "b n d"]:
        return self._on(grid, self.encoder(self._seen(x, grid)).units.float())

    @torch.no_grad()
    def attention(self, x: Shaped[Tensor, "b c h w"], grid: Grid, block: int = -1) -> Float[Tensor, "b n"]:
        """How much its class token attends to the units of `grid` in a block, or all of its units do where there is
        none: the mean over heads. Of ViTs: see `layers/attention_maps.py`."""
        return self._on(grid, received(self.encoder, self._seen(x, grid), block).mean(dim=1)[..., None])[..., 0]

    @torch.no_grad()
    def maps(
        self, x: Shaped[Tensor, "b c h w"], grid: Grid, mask: Mask, block: int = -1
    ) -> Float[Tensor, "b heads t t"]:
        """How much its tokens attend to each other in a block where they see visible units of `grid` only: the samples
        are brought to a size at which it has this grid."""
        size = tuple(side * unit for side, unit in zip(grid.shape, self.encoder.grid.unit))
        return self.encoder.attention(self._seen(x, grid, size), block, mask)

    def _seen(
        self, x: Shaped[Tensor, "b c h w"], grid: Grid, size: tuple[int, ...] | None = None
    ) -> Float[Tensor, "b c _ _"]:
        """Raw samples as the encoder takes them: at its size, or the one given, by its mean and std."""
        if self.encoder.mean.device != x.device:
            self.encoder.to(x.device)
        pixels = (x.float() - self.mean.to(x.device)) / self.std.to(x.device)
        size = size or self.size_for(grid.size)
        return pixels if size == tuple(x.shape[2:]) else interpolate(pixels, size, mode="bilinear", antialias=True)

    def _on(self, grid: Grid, units: Float[Tensor, "b m d"]) -> Float[Tensor, "b n d"]:
        """Values of its own units, resampled to those of the student's grid."""
        own = self.encoder.grid.covering(self.size_for(grid.size))
        if own.shape == grid.shape:
            return units
        maps = units.transpose(1, 2).unflatten(2, own.shape)
        return interpolate(maps, grid.shape, mode="bilinear", antialias=True).flatten(2).transpose(1, 2)

    def size_for(self, size: Sequence[int]) -> tuple[int, ...]:
        """Height and width at which the teacher sees an image of this size: whole units, the image's shape, and about
        as many pixels as it was made for."""
        if self.size is not None:
            return self.size
        unit, scale = self.encoder.grid.unit, math.sqrt(math.prod(self.encoder.grid.size) / math.prod(size))
        return tuple(max(1, round(side * scale / whole)) * whole for side, whole in zip(size, unit))

    def _placed(self, own: Grid) -> str:
        """What a note says of the units that features are for."""
        if own.shape == self.usual.shape:
            return ""
        return f", its {_text(own.shape)} features are resampled to {_text(self.usual.shape)}"

    @property
    def facts(self) -> Json:
        """What a run records."""
        names = ("source", "model", "licence")
        return {name: getattr(self.opened, name) for name in names} | {
            "layout": self.opened.weights.layout,
            "sha256": self.sha256,
        }

    @property
    def note(self) -> str:
        """What a plan says: how it sees images, and the licence."""
        size = self.size_for(self.usual.size)
        own = self.encoder.grid.covering(size)
        seen = f"frozen; sees images at {_text(size)} pixels{self._placed(own)}"
        if not self.own_units:
            seen += "; the data's mean and std, which are far from its own"
        return f"{seen}; licence: {licence_of(self.facts)}"


def _write_kept(teacher: FrozenTeacher, prefix: str, keep_vars: bool) -> None:
    """So that a run that goes on from a checkpoint finds the features that were kept before it."""
    if teacher.kept is not None:
        teacher.kept.write()


def teachers_of(objective: nn.Module) -> list[Frozen]:
    """The frozen networks that an objective learns from, usually none."""
    return [module for module in objective.modules() if isinstance(module, Frozen)]


def require_same(objective: nn.Module, recorded: Sequence[Json]) -> None:
    """Raises UserError where a teacher's weights are not those that a run was begun with. recorded: `facts` of then."""
    then = {facts["source"]: facts["sha256"] for facts in recorded}
    for teacher in teachers_of(objective):
        source, now = teacher.source, teacher.sha256
        if then.get(source, now) != now:
            raise UserError(
                f"the weights of the {teacher.word} {source} are not those that the run was begun with (SHA-256"
                f" {now[:12]} now, {then[source][:12]} then), so it cannot be continued exactly. Put those weights"
                " back, or start in a new folder with --out"
            )


@dataclass(frozen=True)
class _Shared:
    """A teacher's network, shared by the objectives that a plan builds one after the other."""

    encoder: Encoder  # its mean is 0 and its std 1
    opened: Opened  # without tensors
    sha256: str


@lru_cache(maxsize=1)
def _open(source: str, model: str | None, channels: int, images: bool, stamp: tuple[float, ...]) -> _Shared:
    """images: that it is to see nothing else; stamp: of the files, so that changed ones are opened anew."""
    place = Path(source).expanduser() if Path(source).expanduser().exists() else source
    try:
        require_known(place)
        opened = open_weights(place, model=model)
    except UserError as error:
        text = str(error).replace("--model ", "model=")  # an option of the part
        raise UserError(f"the teacher cannot be opened: {text}") from error
    kind, own = make_modality(opened.weights.modality), ", ".join(learnt_from(source))
    if kind.for_encoder.get("parts") or (images and len(opened.grid.unit) != 2):
        needed = f"sees {kind.word}s, and one that sees images is needed"
        raise UserError(f"the teacher {source} {needed}{own and f'; its own teacher was {own}'}")
    sha256, neutral = hash_of(opened.weights.encoder), ((0.0,) * channels, (1.0,) * channels)
    encoder = opened.encoder(channels=channels, statistics=neutral).requires_grad_(False)
    encoder.mean.zero_()
    encoder.std.fill_(1)
    weights = replace(opened.weights, encoder={}, decoder=None)
    return _Shared(encoder, replace(opened, source=source, weights=weights, whole=None), sha256)


def _random(student: Encoder | PartAlone) -> _Shared:
    """A network of the student's kind and size with random weights, which depend on nothing else."""
    if isinstance(student, PartAlone):
        raise UserError(
            f"the teacher {RANDOM!r} is a network like the student, which sees other data; name a trained one"
        )
    twin = copy.deepcopy(student).to_empty(device="cpu")  # a plan's student has no values to read
    twin.mean.zero_()
    twin.std.fill_(1)
    torch.default_generator.manual_seed(SEED)
    encoder = same_again(twin).requires_grad_(False).eval()
    weights = Canonical(layout=UNTRAINED, encoder={})
    opened = Opened(
        source=RANDOM,
        weights=weights,
        model=model_text(twin),
        grid=encoder.grid,
        channels=encoder.channels,
        licence=None,
    )
    return _Shared(encoder, opened, hash_of(encoder.net.state_dict()))


def _statistics(
    opened: Opened, channels: int, data: tuple[list[float], list[float]] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std per channel: the weights' for channels that they know, the data's for others."""
    stand_in = ((0.0,) * channels, (1.0,) * channels)
    return opened.normalisation(channels, None, stand_in if data is None else (tuple(data[0]), tuple(data[1])))


def _whole_units(size: int | Sequence[int] | None, grid: Grid, source: str) -> tuple[int, ...] | None:
    """Height and width, given as one number or two. Raises UserError for a size that is not of whole units."""
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    for side in sides:
        require_whole("size", side)
    if len(sides) != 2:
        raise UserError(f"size is one number or height and width, got {size}")
    try:
        return grid.covering(sides).size
    except UserError as error:
        raise UserError(f"size {size} of the teacher {source}: {error}") from error


def _text(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
