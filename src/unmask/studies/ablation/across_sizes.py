"""Accuracy at other image sizes than that of pretraining, with frozen features and fine-tuned.

Positions are resampled to the other grid, as by `transfer` (`weights/resize.py`); rotary ones are computed for it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from unmask.evaluation.intervals import student
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.models.state import load_strictly
from unmask.report.palette import SERIES, make_figure, style
from unmask.report.words import percent
from unmask.runs.config import Config
from unmask.runs.run import make_encoder
from unmask.studies.ablation.axes import Axis, Value
from unmask.studies.ablation.findings import METRICS, Cells
from unmask.weights.resize import resize_encoder

AT = "at_sizes"  # of a recorded run: by the factor on the size, its accuracies


def size_at(config: Config, factor: float) -> tuple[int, int]:
    """Height and width in pixels: whole patches, two at least."""
    patch = config.model.patch_size
    height, width = (max(2, round(factor * side / patch)) * patch for side in config.data.image_size)
    return height, width


def resized(encoder: Encoder, config: Config, size: tuple[int, int]) -> Encoder:
    """A copy of a run's encoder for images of another size."""
    copy = make_encoder(config.at_size(size))
    state = {name: value.detach().cpu() for name, value in encoder.net.state_dict().items()}
    table, channels = state.get("pos_embed"), torch.eye(encoder.channels)
    prefix = 0 if table is None else table.shape[1] - encoder.grid.num_units
    load_strictly(copy.net, resize_encoder(state, encoder.grid, copy.grid, channels, prefix), "the run")
    return copy


Curves = dict[str, dict[float, list[float]]]  # by metric and factor: the accuracies of the seeds


def curves(value: Value, cells: Cells) -> Curves:
    """A value's accuracies by factor, over its finished seeds; that of pretraining itself among them."""
    mine = [cell for (key, _), cell in sorted(cells.items()) if key == value.key and AT in cell]
    factors = sorted({float(factor) for cell in mine for factor in cell[AT]} | ({1.0} if mine else set()))
    return {
        metric: {
            factor: [cell[metric] if factor == 1 else cell[AT][f"{factor:g}"][metric] for cell in mine]
            for factor in factors
        }
        for metric in METRICS
    }


def table(values: Sequence[Value], cells: Cells) -> list[list[str]]:
    """A heading and a line per value and metric; empty where no other size was asked for."""
    lines: list[list[str]] = []
    for value in values:
        for metric, by_factor in curves(value, cells).items():
            if by_factor:
                lines.append([value.label, METRICS[metric], *map(_text, by_factor.values())])
    factors = next((list(c) for value in values if (c := curves(value, cells)["linear"])), [])
    return [["", "", *(f"{factor:g} x size, %" for factor in factors)], *lines] if lines else []


def draw(axis: Axis, cells: Cells) -> Figure:
    """A line per value, over the factors."""
    figure = make_figure(10.5, 3.8)
    panels = figure.subplots(1, len(METRICS), squeeze=False)[0]
    for panel, (metric, words) in zip(panels, METRICS.items()):
        for number, value in enumerate(axis.values):
            by_factor = curves(value, cells)[metric]
            means = [100 * float(np.mean(accuracies)) for accuracies in by_factor.values()]
            panel.plot(list(by_factor), means, "-o", color=SERIES[number % len(SERIES)], ms=5, label=value.label)
        panel.set_xlabel("image size, times that of pretraining")
        panel.set_ylabel(f"{words}, accuracy in %")
        panel.legend(frameon=False, fontsize=7)
        style(panel, grid="y")
    figure.suptitle(f"{axis.title}: across image sizes", fontsize=12, fontweight="bold", x=0.01, ha="left")
    return figure


def to_json(axis: Axis, cells: Cells) -> Json:
    """By value, metric and factor: the accuracies of the seeds."""
    return {
        value.label: {metric: {f"{x:g}": y for x, y in of.items()} for metric, of in curves(value, cells).items()}
        for value in axis.values
    }


def image_of(axis: Axis, out: Path) -> Path:
    return out / f"{axis.name}-sizes.png"


def _text(accuracies: list[float]) -> str:
    low, high = student(accuracies) or (None, None)
    mean = float(np.mean(accuracies))
    if low is None or high is None:
        return percent(mean, unit="")
    return percent(mean, max(0.0, low), min(1.0, high), unit="")
