"""Weights of any origin, opened: one function for --init, `unmask.load` and everything that stands on them.

A file or folder is read without running anything in it, recognised by the parts in `formats/`, and put into an encoder
of the wanted size. Keys are matched strictly; whatever had to be assumed is reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from unmask import registry
from unmask.errors import UserError
from unmask.files import Json, read_json
from unmask.masking.grid import Grid
from unmask.models.encoder import Encoder, create_encoder, known_name
from unmask.models.layers.position import sincos
from unmask.models.state import load_strictly
from unmask.training.checkpoint import LAST, newest
from unmask.weights.architecture import architecture, default_config, position_prefix, require_size
from unmask.weights.canonical import Canonical, State, Statistics, WeightFile
from unmask.weights.files import ENCODER, is_run, read_weights, require_finite
from unmask.weights.known import require_known
from unmask.weights.licence import known_licence, stated_licence
from unmask.weights.resize import SAME, channel_mix, fixed_table, mixed_statistics, resize_decoder, resize_encoder

CONFIG, CLASSIFIER = "config.json", "classifier.safetensors"
FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.safetensors")


@dataclass(frozen=True, kw_only=True)
class Opened:
    source: str  # as it was asked for
    weights: Canonical
    model: str  # timm name with options
    grid: Grid  # that the weights were made for
    channels: int
    licence: str | None
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
        """What was opened, for people: kind, what was assumed, the licence."""
        with_decoder = " with decoder" if self.decoder or self.weights.decoder_part else ", no decoder"
        size = " x ".join(map(str, self.grid.size))
        first = f"{self.source}: {self.weights.layout}, {self.model}, {size} pixels, patch {self.grid.unit[0]}"
        ours = self.weights.layout == "unmask" and not self.licence
        licence = [] if ours else [f"licence of these weights: {self.licence or 'unknown; ask whoever made them'}"]
        return [first + with_decoder, *(f"  {remark}" for remark in self.remarks), *licence]

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
            patch_size=patch_size or self.grid.unit[0],
            channels=channels,
            mean=mean,
            std=std,
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
        if "patch_embed.proj.weight" in state and not self.model.startswith("hiera"):
            prefix = position_prefix(state, (self.grid.size[0], self.grid.size[1]))
            state = resize_encoder(state, self.grid, encoder.grid, mix, prefix)
        load_strictly(encoder.net, state, self.source)

    def decoder_text(self, grid: Grid) -> str:
        """The decoder for another grid as `full(...)`. Its positions are stored unless they are the fixed table."""
        assert self.decoder is not None
        dim = self.decoder["embed.weight"].shape[0]
        depth = 1 + max(int(key.split(".")[1]) for key in self.decoder if key.startswith("blocks."))
        stored = ", position='stored'" if "position" in self.decoder_state(grid, self.channels) else ""
        return f"full(dim={dim}, depth={depth}, heads={self.weights.decoder_heads}{stored})"

    def decoder_state(self, grid: Grid, channels: int, bands: Sequence[str] | None = None) -> State:
        """The decoder's state for a grid and channels; "position" is in it unless it is that grid's fixed table."""
        assert self.decoder is not None
        state = resize_decoder(self.decoder, self.grid, grid, channel_mix(self.channels, channels, bands))
        table = state.get("position")
        if table is not None and float(table[0].abs().max()) < SAME and fixed_table(table[1:], grid):
            del state["position"]
        return state


def open_weights(text: str | Path, *, model: str | None = None, damaged: bool = False) -> Opened:
    """Opens a run folder, a file of weights, a Hugging Face or timm folder, or a timm name with timm's own weights.

    model: a timm name with options, where the file does not tell or tells wrongly. damaged: also where values are not
    finite. Raises UserError, one line, for what cannot be opened or is not recognised.
    """
    path = Path(text)
    if not path.is_dir() and not path.is_file():
        if not known_name(str(text)):  # also those that another package has registered
            require_known(text)
        return _from_timm(str(text))
    content, licence, whole = (_folder if path.is_dir() else _file)(path)
    if not damaged:
        require_finite(content.state, text)
    opened = _opened(str(text), content, licence, model, whole)
    registry.remark_on_parts(path if path.is_dir() else path.parent)
    return opened


def _opened(source: str, content: WeightFile, licence: str | None, model: str | None, whole: State | None) -> Opened:
    parts = [registry.find("weights", name) for name in registry.names("weights")]
    part = next((part for part in parts if part.recognises(content)), None)
    if part is None:
        shown = ", ".join(list(content.state)[:4])
        raise UserError(f"{source}: no layout of weights that unmask knows has these keys (they begin {shown})")
    weights: Canonical = part.canonical(content)
    remarks, name = list(weights.remarks), model or weights.model
    if name is None:
        read = architecture(weights.encoder, content.name, weights.heads)
        name, remarks = read.model, [*remarks, *([read.heads] if read.heads else [])]
    if model is None:
        require_size(name, weights.encoder)
    grid = _grid(name, weights, settings := default_config(name))
    weights, more = _decoder_checked(weights, grid)
    if weights.statistics is None and settings and _channels(weights.encoder) == len(settings["mean"]):
        assumed = tuple(tuple(255.0 * v for v in settings[key]) for key in ("mean", "std"))
        weights = replace(weights, statistics=assumed)
        remarks.append("mean and std are assumed to be those of timm's model of this name; the file does not say")
    return Opened(
        source=source,
        weights=weights,
        model=name,
        grid=grid,
        channels=_channels(weights.encoder),
        licence=known_licence(content.name, weights.licence or licence),
        remarks=(*remarks, *more),
        whole=whole,
    )


def _decoder_checked(weights: Canonical, grid: Grid) -> tuple[Canonical, list[str]]:
    """Fills in the decoder's heads, and gives its position table one row for prefix tokens, as ours has."""
    if weights.decoder is None:
        return weights, []
    decoder, remarks = dict(weights.decoder), []
    dim, heads = decoder["embed.weight"].shape[0], weights.decoder_heads
    if heads is None:
        heads = 16 if dim % 16 == 0 and dim >= 512 else max(1, dim // 32)
        remarks.append(f"{heads} attention heads in the decoder, as usual for its width; the file does not say")
    table = decoder.get("position")
    table = sincos(grid, dim) if table is None else table.reshape(-1, dim)
    prefix, units = table[: len(table) - grid.num_units], table[-grid.num_units :]
    if len(table) < grid.num_units or (len(prefix) > 1 and float((prefix - prefix[:1]).abs().max()) > 0):
        remarks.append(f"its decoder is left out: a position table of {len(table)} rows cannot be used")
        return replace(weights, decoder=None), remarks
    first = prefix[:1] if len(prefix) else torch.zeros(1, dim)
    return replace(weights, decoder=decoder | {"position": torch.cat([first, units])}, decoder_heads=heads), remarks


def _grid(model: str, weights: Canonical, settings: Json) -> Grid:
    if model.startswith("hiera"):
        return create_encoder(model, image_size=weights.image_size).grid
    patch = tuple(weights.encoder["patch_embed.proj.weight"].shape[-2:])
    size = weights.image_size
    if size is None and "pos_embed" in weights.encoder:
        rows = weights.encoder["pos_embed"].shape[1] - position_prefix(weights.encoder, None)
        side = round(rows**0.5)
        if side * side != rows:
            raise UserError(f"a position table of {rows} patches is no square, and nothing says the image's size")
        size = side * patch[0], side * patch[1]
    size = size or tuple(settings.get("input_size", (3, 224, 224))[1:])
    return Grid((size[0] // patch[0], size[1] // patch[1]), patch)


def _channels(state: State) -> int:
    key = "patch_embed.proj.weight"
    if key not in state:
        raise UserError(f"these weights have no {key}: they belong to no ViT, and unmask reads no other kind")
    return state[key].shape[1]


def _from_timm(name: str) -> Opened:
    encoder = _pretrained(name)
    size = encoder.grid.size
    weights = Canonical(
        layout="timm's weights",
        encoder=dict(encoder.net.state_dict()),
        image_size=(size[0], size[1]),
        statistics=(tuple(encoder.mean.tolist()), tuple(encoder.std.tolist())),
    )
    base, options = registry.parse(name)
    text = ", ".join(f"{key}={value!r}" for key, value in options.items())
    model = base.split(".")[0] + (f"({text})" if text else "")
    licence = getattr(encoder.net, "pretrained_cfg", {}).get("license")
    facts = {"grid": encoder.grid, "channels": encoder.channels, "licence": known_licence(base, licence)}
    return Opened(source=name, weights=weights, model=model, **facts)


def _pretrained(name: str) -> Encoder:
    """A timm model with the weights that timm has for it; needs the network the first time."""
    try:
        return create_encoder(name, pretrained=True).eval()
    except UserError:
        raise
    except Exception as error:  # whatever the hub raises: offline, unknown tag, no weights
        raise UserError(f"{name} is no run folder here, and timm could not fetch its weights: {error}") from error


def _file(path: Path) -> tuple[WeightFile, str | None, State | None]:
    state, header = read_weights(path)
    config = read_json(path.parent / CONFIG)
    ours = path.name == CLASSIFIER or (path.suffix == ".ckpt" and ("task" in config or is_run(config)))
    hub = "model_type" in config or "architecture" in config or ours
    beside = {"config": config, "preprocessor": read_json(path.parent / "preprocessor_config.json")} if hub else {}
    whole = state if "encoder.mean" in state else None
    name = path.name if path.name not in FILES else path.parent.resolve().name
    return (
        WeightFile(state=state, name=name, header=header, **beside),
        stated_licence(path.parent) if hub else None,
        whole,
    )


def _folder(path: Path) -> tuple[WeightFile, str | None, State | None]:
    config = read_json(path / CONFIG)
    ours = (CLASSIFIER,) if "task" in config else (LAST, ENCODER) if is_run(config) else ()
    saved = newest(path) if LAST in ours else None
    file = saved or next((path / name for name in (*ours, *FILES) if (path / name).is_file()), None)
    index = path / "model.safetensors.index.json"
    if file is None and not index.is_file():
        what = f"run folder has no {', '.join(ours)} yet" if ours else f"folder has neither of {', '.join(FILES)}"
        raise UserError(f"{path}: this {what}; give a run, a Hugging Face or timm folder, or a file of weights")
    if not config:
        raise UserError(
            f"{path} has no {CONFIG}, which says what {file.name if file else index.name} is; download it too"
        )
    if file is not None:
        content, licence, whole = _file(file)
        return replace(content, name=path.resolve().name, config=config), licence or stated_licence(path), whole
    shards = sorted({str(name) for name in read_json(index).get("weight_map", {}).values()})
    missing = [name for name in shards if not (path / name).is_file()]
    if missing or not shards:
        raise UserError(f"{path} lacks {', '.join(missing) or 'its parts'}, named in {index.name}; download them too")
    state = {key: value for name in shards for key, value in read_weights(path / name)[0].items()}
    beside = {"config": config, "preprocessor": read_json(path / "preprocessor_config.json")}
    return WeightFile(state=state, name=path.resolve().name, **beside), stated_licence(path), None
