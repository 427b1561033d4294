"""Opens weights of any origin: one function for --init, `unmask.load` and everything built on them.

A file or folder is read without running anything in it, recognised by the parts in `formats/`, and put into an encoder
of the wanted size. Keys are matched strictly; whatever had to be assumed is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from unmask import registry
from unmask.data.modality import make_modality
from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.names import known_name, sees_wholes
from unmask.models.state import load_strictly
from unmask.weights.architecture import architecture, default_config, model_text, one_of_a_kind, require_size
from unmask.weights.canonical import ANCHOR, IMAGENET, Canonical, State, Statistics, WeightFile, under
from unmask.weights.content import read_file, read_folder
from unmask.weights.files import require_finite
from unmask.weights.known import TIMM, require_known
from unmask.weights.licence import UNTRAINED, known_licence
from unmask.weights.positions import table_layout
from unmask.weights.reading import PLAIN, Reading
from unmask.weights.resize import (
    SAME,
    channel_mix,
    fixed_table,
    for_grid,
    mixed_statistics,
    require_channels,
    resize_decoder,
    resize_relative,
    settle_decoder,
    token_grid,
)
from unmask.weights.timm_models import pretrained

NEW = ("patch_embed.group", "patch_embed.time.weight")  # of scenes, which weights of images do not have


@dataclass(frozen=True, kw_only=True)
class Opened:
    source: str  # as it was asked for
    weights: Canonical
    model: str  # timm name with options
    grid: Grid  # that the weights were made for
    channels: int
    licence: str | None
    prefix: int = 0  # rows of the position table before those of the patches
    remarks: tuple[str, ...] = ()  # what was assumed or left out
    whole: State | None = None  # all of an objective of ours, where the source is a run

    @property
    def statistics(self) -> Statistics | None:
        """Mean and std per channel in raw units that the weights were made with; None where nobody knows."""
        return self.weights.statistics

    @property
    def decoder(self) -> State | None:
        """The decoder's state for the weights' own grid and channels, or None."""
        return self.weights.decoder

    @cached_property
    def lines(self) -> list[str]:
        """A description of the opened weights: kind, assumptions, licence."""
        kind = "predictor" if self.weights.predictor else "decoder"
        with_decoder = f" with {kind}" if self.decoder or self.weights.decoder_part else ", no decoder"
        size = " x ".join(map(str, self.grid.size))
        unit = " x ".join(map(str, self.grid.unit if len(set(self.grid.unit)) > 1 else self.grid.unit[:1]))
        first = f"{self.source}: {self.weights.layout}, {self.model}, {size} pixels, patch {unit}"
        ours = self.weights.layout in ("unmask", UNTRAINED) and not self.licence
        licence = [] if ours else [f"licence of these weights: {self.licence or 'unknown; ask whoever made them'}"]
        return [first + with_decoder, *self._normalised(), *(f"  {remark}" for remark in self.remarks), *licence]

    def _normalised(self) -> list[str]:
        """Which mean and std are used, and whose they are."""
        if self.statistics is None or self.weights.layout == "unmask":
            return []
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in self.statistics)
        return [f"  mean {mean}, std {std}: {self.weights.origin}"]

    def encoder(
        self,
        *,
        image_size: tuple[int, ...] | None = None,
        patch_size: int | None = None,
        channels: int | None = None,
        bands: Sequence[str] | None = None,
        statistics: Statistics | None = None,
    ) -> Encoder:
        """The weights in an encoder of the wanted size, in eval mode on the CPU. bands: names of the input's channels.

        statistics: mean and std of the data, raw units, for channels that the weights do not know. Raises UserError
        where they are needed and not given.
        """
        channels = channels or (len(bands) if bands else self.channels)
        mean, std = self.normalisation(channels, bands, statistics)
        encoder = create_encoder(
            self.model,
            image_size=tuple(image_size or self.grid.size),
            patch_size=patch_size or (self.grid.unit if len(self.grid.unit) != 2 else self.grid.unit[0]),
            channels=channels,
            mean=mean,
            std=std,
            **make_modality(self.weights.modality).for_encoder,
        )
        self.put(encoder, bands)
        for module in encoder.modules():
            if isinstance(module, nn.LayerNorm) and self.weights.norm_eps is not None:
                module.eps = self.weights.norm_eps  # so that features are the original's; runs that go on use timm's
        return encoder.eval()

    def normalisation(self, channels: int, bands: Sequence[str] | None, data: Statistics | None) -> Statistics:
        """Mean and std for these channels: the weights' for those they know, the data's for others; never repeated."""
        unknown = ((float("nan"),) * channels, (float("nan"),) * channels)
        mean, std = mixed_statistics(self.statistics, data or unknown, channel_mix(self.channels, channels, bands))
        if any(value != value for value in mean):
            raise UserError(
                f"{self.source} has no mean and std for {'all of ' if self.statistics else ''}these {channels}"
                " channels; give those of your data: statistics=((mean, ...), (std, ...)) in raw units, one per channel"
            )
        return mean, std

    def put(self, encoder: Encoder, bands: Sequence[str] | None = None) -> None:
        """Loads the weights into an encoder, resized to its grid and channels; UserError lists both sides where they
        do not fit."""
        mix, state = channel_mix(self.channels, encoder.channels, bands), self.weights.encoder
        if sees_wholes(self.model):
            require_channels(self.channels, encoder.channels, self.source)
        elif ANCHOR in state:
            grids = token_grid(self.model, self.grid), token_grid(self.model, encoder.grid)
            state = for_grid(state, *grids, mix, self.prefix, encoder.modality)
        new = {key: value for key, value in encoder.net.state_dict().items() if key in NEW}
        new |= {key: state[key] for key in state if not key.startswith("relative.")}
        load_strictly(encoder.net, new, self.source)
        if tables := under(state, "relative."):
            own: Any = encoder.relative
            load_strictly(own, resize_relative(tables, own.state_dict()), f"{self.source}, relative positions")

    def decoder_text(self, grid: Grid) -> str:
        """The decoder for another grid as `full(...)`, its positions stored unless they are the fixed table."""
        assert self.decoder is not None
        dim = self.decoder["embed.weight"].shape[0]
        depth = 1 + max(int(key.split(".")[1]) for key in self.decoder if key.startswith("blocks."))
        stored = ", position='stored'" if "position" in self.decoder_state(grid, self.channels) else ""
        return self.weights.predictor or f"full(dim={dim}, depth={depth}, heads={self.weights.decoder_heads}{stored})"

    def decoder_state(self, grid: Grid, channels: int, bands: Sequence[str] | None = None) -> State:
        """The decoder's state for a grid and channels; "position" is in it unless it is that grid's fixed table."""
        assert self.decoder is not None
        if self.weights.predictor is not None:  # features have no size, and its positions are made for any grid
            return dict(self.decoder)
        state = resize_decoder(self.decoder, self.grid, grid, channel_mix(self.channels, channels, bands))
        table = state.get("position")
        if table is not None and float(table[0].abs().max()) < SAME and fixed_table(table[1:], grid):
            del state["position"]
        return state


def open_weights(
    text: str | Path,
    *,
    model: str | None = None,
    reading: Reading = PLAIN,
    image_size: tuple[int, ...] | None = None,
    damaged: bool = False,
) -> Opened:
    """Opens a run folder, a file of weights, a Hugging Face or timm folder, or a timm name with timm's own weights,
    also as `timm:NAME`.

    model: a timm name with options, where the file does not tell or tells wrongly. image_size: of the images that they
    are going to see, which may be what they were made for. damaged: also open weights with values that are not finite.
    Raises UserError, one line, for what cannot be opened or is not recognised.
    """
    path, name = Path(text), str(text).removeprefix(TIMM)
    if name == str(text) and (path.is_dir() or path.is_file()):
        content, licence, whole = (read_folder if path.is_dir() else read_file)(path, reading)
        if not damaged:
            require_finite(content.state, text)
        opened = _opened(str(text), content, licence, model, whole, reading, image_size)
        registry.remark_on_parts(path if path.is_dir() else path.parent)
    else:
        if not known_name(name):  # also those that another package has registered
            require_known(text)
        reading.refuse_choice(text)
        opened = _from_timm(name)
    if reading.statistics is None:
        return opened
    if len(reading.statistics[0]) != opened.channels:
        raise UserError(
            f"--mean and --std have {len(reading.statistics[0])} numbers each; {text} has {opened.channels} channels"
        )
    return replace(opened, weights=replace(opened.weights, statistics=reading.statistics, origin="as given"))


def _opened(
    source: str,
    content: WeightFile,
    licence: str | None,
    model: str | None,
    whole: State | None,
    reading: Reading,
    image_size: tuple[int, ...] | None,
) -> Opened:
    names = sorted(registry.names("weights"), key=lambda name: name != "ours")  # whose files may hold any network
    parts = [registry.find("weights", name) for name in names]
    part = next((part for part in parts if part.recognises(content)), None)
    if part is None:
        raise UserError(f"{source}: no layout of weights known here has such keys: {', '.join([*content.state][:4])}")
    weights: Canonical = part.canonical(content)
    remarks, name = [*content.remarks, *weights.remarks], model or weights.model
    hiera = (name or "").startswith("hiera")
    state, prefix = weights.encoder, 0
    images = ANCHOR not in state or state[ANCHOR].ndim == 4  # the grid of other data is that of its size
    size = reading.size_of(images, source) or weights.image_size
    if images and "pos_embed" in state and state["pos_embed"].ndim == 3 and not sees_wholes(name or ""):
        patch = (4, 4) if hiera else (int(state[ANCHOR].shape[-2]), int(state[ANCHOR].shape[-1]))
        sizes = {"size": reading.size, "stated": weights.image_size}
        sizes["wanted"] = None if image_size is None else (int(image_size[0]), int(image_size[-1]))
        layout = table_layout(state, patch, **sizes, source=source)
        size, prefix = (layout.shape[0] * patch[0], layout.shape[1] * patch[1]), layout.prefix
        remarks += [layout.remark] if layout.remark else []
    if name is None:
        read = architecture(state, content.name, weights.heads, weights.heads_origin, bare=not prefix)
        name, remarks = read.model, [*remarks, *([read.heads] if read.heads else [])]
    if model is None:
        require_size(name, state)
    grid = _grid(name, state, size, weights.unit)
    weights, more = settle_decoder(weights, grid)
    return Opened(
        source=source,
        weights=_with_statistics(weights, name),
        model=name,
        grid=grid,
        channels=_channels(weights),
        licence=known_licence(content.name, licence or weights.licence),
        prefix=prefix,
        remarks=(*remarks, *more),
        whole=whole,
    )


def _with_statistics(weights: Canonical, model: str) -> Canonical:
    """With a mean and std: those of the only weights that there are of such an architecture, else ImageNet's."""
    channels = _channels(weights)
    if weights.statistics is not None:
        return weights
    settings = default_config(model) if one_of_a_kind(model) else {}
    if settings and channels == len(settings["mean"]):
        mean, std = (tuple(255.0 * value for value in settings[key]) for key in ("mean", "std"))
        return replace(weights, statistics=(mean, std), origin=f"as timm has them for {model}")
    if channels != len(IMAGENET[0]):
        return weights
    guess = "assumed: ImageNet's, as of most ViTs. Warning: neither the file nor its name says whose weights these are;"
    return replace(weights, statistics=IMAGENET, origin=f"{guess} --mean and --std overrule")


def _grid(model: str, state: State, size: tuple[int, ...] | None, unit: tuple[int, ...] | None) -> Grid:
    """The grid that the weights were made for; size, unit: of the images, where they are known."""
    if model.startswith("hiera"):
        return create_encoder(model, image_size=size).grid
    if sees_wholes(model):
        return Grid((1, 1), size or (224, 224))
    patch = unit or tuple(state[ANCHOR].shape[2:])
    size = size or tuple(default_config(model).get("input_size", (3, 224, 224))[1:])
    return Grid(tuple(side // unit for side, unit in zip(size, patch)), patch)


def _channels(weights: Canonical) -> int:
    state = weights.encoder
    if sees_wholes(weights.model or "") and weights.channels:
        return weights.channels
    if ANCHOR not in state:
        raise UserError(f"these weights have no {ANCHOR}: they belong to no ViT, and unmask reads no other kind")
    return state[ANCHOR].shape[1]


def _from_timm(name: str) -> Opened:
    encoder = pretrained(name)
    size = encoder.grid.size
    weights = Canonical(
        layout="timm's weights",
        encoder=dict(encoder.net.state_dict()),
        image_size=(size[0], size[1]),
        statistics=(tuple(encoder.mean.tolist()), tuple(encoder.std.tolist())),
        origin="as timm has them",
    )
    base, options = registry.parse(name)
    licence = getattr(encoder.net, "pretrained_cfg", {}).get("license")
    table: Any = getattr(encoder.net, "pos_embed", None)
    prefix = table.shape[1] - encoder.grid.num_units if table is not None and not base.startswith("hiera") else 0
    facts = {"grid": encoder.grid, "channels": encoder.channels, "prefix": prefix}
    facts |= {"weights": weights, "licence": known_licence(base, licence)}
    return Opened(source=name, model=model_text(base, options), **facts)
