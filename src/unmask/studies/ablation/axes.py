"""The axes of the MAE paper's ablations, as data: what each value changes in a run. He et al. 2021, table 1.

The paper's numbers are in `mae_table1.json`, with their source. Sizes that depend on the model (the decoder's width,
the length of the schedule) have the same ratio to the baseline as in the paper.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from unmask.errors import UserError, closest
from unmask.files import Json
from unmask.models.decoder import essence
from unmask.registry import parse
from unmask.runs.config import Config

RATIOS = (10, 20, 30, 40, 50, 60, 70, 75, 80, 90)  # percent
SAMPLING = (("random", 75), ("block", 50), ("block", 75), ("grid", 75))
DEPTHS = (1, 2, 4, 8, 12)
WIDTHS = {"128": 0.25, "256": 0.5, "512": 1.0, "768": 1.5, "1024": 2.0}  # the paper's, as shares of its baseline's
SCHEDULES = {"100": 1 / 8, "200": 1 / 4, "400": 1 / 2, "800": 1.0, "1600": 2.0}
JITTER = 0.4
BASELINE = "baseline"  # the key of its runs
IMAGES, FLOPS = "images", "flops"  # what the pretrainings of a study have the same number of
Changes = Mapping[
    str, str | float | tuple[str, ...] | tuple[int, ...]
]  # settings of a run by the names of their options, and `length`, a share of its steps
BASE = {"mask": "random(ratio=0.75)", "target": "pixels", "method": "mae"}  # settings that the axes change
NAMES = ("ratio", "sampling", "depth", "width", "tokens", "target", "augmentation", "schedule")


@dataclass(frozen=True)
class Value:
    """One value of an axis."""

    label: str
    changes: Changes = field(default_factory=dict)  # to the baseline; none: the baseline itself
    x: float | None = None  # place on an axis of numbers
    paper: str | None = None  # the paper's name of the same value, where it has one

    @property
    def key(self) -> str:
        """Identifies a run: the same key for the same settings, on any axis."""
        return ", ".join(f"{name}={value}" for name, value in sorted(self.changes.items())) or BASELINE


@dataclass(frozen=True)
class Axis:
    name: str
    title: str
    values: list[Value]
    unit: str = ""  # of x, for the image; empty: the values are names, not numbers
    logarithmic: bool = False
    published: bool = True  # the paper has it too

    @property
    def points(self) -> list[Json]:
        """The paper's results of this axis."""
        return paper()["axes"][self.name] if self.published else []


@cache
def paper() -> Json:
    """The paper's results from `mae_table1.json`."""
    return json.loads(Path(__file__).with_name("mae_table1.json").read_text(encoding="utf-8"))


def chosen(names: tuple[str, ...], others: bool = False) -> tuple[str, ...]:
    """The requested axes of the paper, or all; UserError for an unknown axis. others: axes of one's own are requested
    too, so that no name means none."""
    for name in names:
        if name not in NAMES:
            raise UserError(f"no axis {name!r}{closest(name, NAMES)} There are: {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in names or not (names or others))


def make_axes(names: tuple[str, ...], config: Config, steps: int) -> tuple[list[Axis], list[str]]:
    """The axes for a baseline and its number of optimizer steps, and remarks for the user."""
    makers = {"ratio": _ratio, "sampling": _sampling, "depth": _depth, "width": _width, "tokens": _tokens}
    makers |= {"target": _target, "augmentation": _augmentation}
    axes = [_schedule(steps) if name == "schedule" else makers[name](config) for name in names]
    remarks = []
    if "augmentation" in names and config.data.channels not in (1, 3):
        remarks.append(f"colour jitter is left out: {config.data.channels} bands have no colours")
    if "augmentation" in names and config.data.flip == "off":
        remarks.append("images are not mirrored on any axis: the plan for this data says so")
    return axes, remarks


def _ratio(config: Config) -> Axis:
    values = [Value(f"{r} %", _mask("random", r), r, str(r)) for r in RATIOS]
    return Axis("ratio", "Mask ratio", values, "share of patches hidden, %")


def _sampling(config: Config) -> Axis:
    values = [Value(f"{name}, {r} %", _mask(name, r), paper=f"{name} {r}") for name, r in SAMPLING]
    return Axis("sampling", "Mask sampling", values)


def _depth(config: Config) -> Axis:
    own = decoder_size(config)
    depths = sorted({*DEPTHS, own["depth"]})
    values = [Value(_blocks(d), _decoder(config, depth=d), d, str(d) if d in DEPTHS else None) for d in depths]
    return Axis("depth", "Decoder depth", values, "blocks in the decoder", logarithmic=True)


def _width(config: Config) -> Axis:
    own, values = decoder_size(config), []
    for name, share in WIDTHS.items():
        dim = max(8, round(own["dim"] * share))
        heads = next(h for h in range(max(1, round(own["heads"] * share)), 0, -1) if dim % h == 0)  # heads keep width
        values.append(Value(str(dim), _decoder(config, dim=dim, heads=heads), dim, name))
    return Axis("width", "Decoder width", values, "width of the decoder", logarithmic=True)


def _tokens(config: Config) -> Axis:
    values = [Value("without", {}, paper="without"), Value("with", {"method": "mae(symmetric=True)"}, paper="with")]
    return Axis("tokens", "Mask tokens in the encoder", values)


def _target(config: Config) -> Axis:
    size = config.data.channels * config.model.patch_size**2
    components = max(1, min(96, size // 8))  # the paper keeps 96 of 768
    values = [
        Value("raw pixels", {"target": "pixels(normalize=False)"}, paper="raw pixels"),
        Value("normalised pixels", {}, paper="normalised pixels"),
        Value(f"PCA, {components} of {size}", {"target": f"pca(components={components})"}, paper="PCA"),
    ]
    return Axis("target", "What is rebuilt", values)


def _augmentation(config: Config) -> Axis:
    values = [
        Value("none", {"crop_kind": "whole", "flip": "off"}, paper="none"),
        Value("crop, fixed size", {"crop_kind": "fixed"}, paper="crop, fixed size"),
        Value("crop, random size", {}, paper="crop, random size"),
    ]
    if config.data.channels in (1, 3):
        values.append(Value("+ colour jitter", {"views": (f"crops(jitter={JITTER})",)}, paper="+ colour jitter"))
    return Axis("augmentation", "Augmentation", values)


def _schedule(steps: int) -> Axis:
    values = []
    for name, share in SCHEDULES.items():
        count = steps_of({"length": share}, steps)
        values.append(Value(f"{count:,} steps", {} if share == 1 else {"length": share}, count, name))
    return Axis("schedule", "Length of the schedule", values, "optimizer steps", logarithmic=True)


def steps_of(changes: Changes, steps: int) -> int:
    """Optimizer steps of a run when the baseline has `steps`."""
    return max(1, round(steps * length_of(changes)))


def length_of(changes: Changes) -> float:
    """Of a run, as a share of the baseline's steps."""
    length = changes.get("length", 1.0)
    assert isinstance(length, float | int)  # a share
    return float(length)


def changed(config: Config, changes: Changes, seed: int) -> Config:
    """The configuration of one run: the baseline's with a value's changes, except for the run's length."""
    return config.with_options({name: value for name, value in changes.items() if name != "length"} | {"seed": seed})


def decoder_size(config: Config) -> dict[str, int]:
    """dim, depth and heads of the baseline's decoder. Raises UserError for a decoder without such options."""
    options, names = essence(config.method.decoder or "full")[1], ("dim", "depth", "heads")
    if config.method.decoder is None or not set(names) <= set(options):
        raise UserError(f"the axes depth and width need a decoder with {', '.join(names)}: not {config.method.decoder}")
    return {name: options[name] for name in names}


def _decoder(config: Config, **changed: int) -> Changes:
    """The baseline's decoder with another size."""
    own = decoder_size(config)
    name, arguments = parse(config.method.decoder or "full")
    options = ", ".join(f"{key}={value!r}" for key, value in (own | arguments | changed).items())
    return {} if own | changed == own else {"decoder": f"{name}({options})"}


def _mask(name: str, percent: int) -> Changes:
    text = f"{name}(ratio={percent / 100:g})"
    return {} if text == BASE["mask"] else {"mask": text}


def _blocks(depth: int) -> str:
    return f"{depth} block{'' if depth == 1 else 's'}"
