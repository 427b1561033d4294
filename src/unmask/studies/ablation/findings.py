"""Results of a study: one line per finished run, and a summary of each axis over the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unmask.evaluation.intervals import student
from unmask.files import Json
from unmask.report.words import percent
from unmask.studies.ablation.axes import BASELINE, Axis, Value, paper
from unmask.studies.engine import Key, Records

CELLS = "cells.jsonl"
FIELDS = ("key", "seed")  # of a recorded run: what was changed, and its seed
SCRATCH = "no pretraining"
BASELINE_MARK = " (baseline)"  # behind the label in tables
METRICS = {"finetune": "fine-tuned", "linear": "linear probe"}
Cells = Mapping[Key, Json]  # (what was changed, seed) -> the line


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with Student's 95 % interval; no interval for a single seed."""

    mean: float
    low: float | None
    high: float | None
    values: list[float]  # in the order of the seeds

    @property
    def apart(self) -> bool:
        """True if the interval excludes zero. Accuracies are counts of images, so that a few seeds may agree by chance:
        no spread at all is no evidence."""
        if self.low is None or self.high is None:
            return False
        return self.low < self.high and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Row:
    """One value of an axis, over its finished seeds."""

    value: Value
    seeds: list[int]
    accuracy: dict[str, Interval]  # by metric, 0 to 1
    difference: dict[str, Interval]  # to the baseline of the same seed; empty for the baseline itself
    flops: float  # per image, forward and backward of pretraining
    gflops: float  # of the whole pretraining, in 10^9
    seconds: float  # of pretraining, mean over seeds
    loss: float | None  # at the end of pretraining
    paper: dict[str, float]  # finetune and linear, in percent, where the paper has this value


def interval(values: Sequence[float]) -> Interval:
    """Student's interval over seeds."""
    return Interval(float(np.mean(values)), *(student(values) or (None, None)), list(values))


def rows(axis: Axis, cells: Cells) -> list[Row]:
    """The axis's values in order, without those that have no finished run."""
    published = {point["key"]: point for point in axis.points}
    axis_rows = []
    for value in axis.values:
        point = {k: v for k, v in published.get(value.paper or "", {}).items() if k != "key"}
        if (row := make_row(value, cells, point)) is not None:
            axis_rows.append(row)
    return axis_rows


def make_row(value: Value, cells: Cells, point: dict[str, float]) -> Row | None:
    """One value's figures; None if no seed of it is finished."""
    cells = {place: cell for place, cell in cells.items() if "diverged" not in cell}
    mine = {int(seed): cell for (key, seed), cell in cells.items() if key == value.key}
    mine = dict(sorted(mine.items()))
    if not mine:
        return None
    base = {int(seed): cell for (key, seed), cell in cells.items() if key == BASELINE}
    both = [seed for seed in mine if seed in base] if value.key != BASELINE else []
    first = next(iter(mine.values()))
    return Row(
        value=value,
        seeds=list(mine),
        accuracy={name: interval([cell[name] for cell in mine.values()]) for name in METRICS},
        difference={name: interval([mine[s][name] - base[s][name] for s in both]) for name in METRICS if both},
        flops=first["flops"],
        gflops=first["flops"] * first["images"] / 1e9,
        seconds=float(np.mean([cell["seconds"]["pretrain"] for cell in mine.values()])),
        loss=None if first["loss"] is None else float(np.mean([cell["loss"] for cell in mine.values()])),
        paper=point,
    )


def scratch() -> Value:
    """The baseline: the same encoder, evaluated and fine-tuned without pretraining."""
    return Value(SCRATCH, {"length": 0.0})


def scratch_row(cells: Cells) -> Row | None:
    return make_row(scratch(), cells, paper()["scratch"])


def finding(axis_rows: list[Row]) -> str:
    """The result of an axis in one sentence, which claims no more than the intervals support."""
    parts = []
    for metric, words in METRICS.items():
        apart = [row for row in axis_rows if row.difference and row.difference[metric].apart]
        phrases = [f"{row.value.label} {_points(row.difference[metric])}" for row in apart]
        if phrases:
            parts.append(f"{words}: different from the baseline beyond the seeds: {'; '.join(phrases)}")
        else:
            parts.append(f"{words}: no value differs from the baseline beyond the seeds")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def table(axis_rows: list[Row], published: bool = True, word: str = "image") -> tuple[list[str], list[list[str]]]:
    """Heading and lines, as text. published: with the paper's numbers; word: what a sample is called."""
    heading = ["", "fine-tuned, %", "to baseline", "linear probe, %", "to baseline", f"MFLOP/{word}", "x baseline"]
    heading += ["TFLOP", "seconds", "loss", "seeds", *(["paper ft / lin, %"] if published else [])]
    reference = next((row.flops for row in axis_rows if row.value.key == BASELINE), None)
    return heading, [_line(row, reference)[: len(heading)] for row in axis_rows]


def _line(row: Row, reference: float | None) -> list[str]:
    mark = BASELINE_MARK if row.value.key == BASELINE else ""
    cells = [row.value.label + mark]
    for metric in METRICS:
        cells += [_percent(row.accuracy[metric])]
        cells += [_points(row.difference[metric]) if row.difference else ""]
    cells += [f"{row.flops / 1e6:,.1f}", f"{row.flops / reference:.2f}" if reference else ""]
    cells += [f"{row.gflops / 1e3:.3g}", f"{row.seconds:,.1f}", "" if row.loss is None else f"{row.loss:.4f}"]
    published = [f"{row.paper[name]:.1f}" if name in row.paper else "-" for name in METRICS]
    flops = f" ({row.paper['flops']:g} x FLOPs)" if "flops" in row.paper else ""
    return [*cells, str(len(row.seeds)), " / ".join(published) + flops if row.paper else ""]


def to_json(axis: Axis, axis_rows: list[Row]) -> Json:
    """Plain values; accuracies are shares, 0 to 1, the paper's in percent as printed there."""
    lines = []
    for row in axis_rows:
        line: Json = {"label": row.value.label, "x": row.value.x, "changes": row.value.changes}
        line |= {"baseline": row.value.key == BASELINE, "seeds": row.seeds}
        for name in METRICS:
            line[name] = vars(row.accuracy[name])
            if row.difference:
                line[f"{name}_difference"] = vars(row.difference[name])
        cost = {"flops_per_image": row.flops, "gflops": row.gflops, "seconds": row.seconds}
        lines.append(line | cost | {"loss": row.loss, "paper": row.paper})
    return {"name": axis.name, "title": axis.title, "finding": finding(axis_rows), "values": lines}


def records_in(out: Path) -> Records:
    """The finished runs of a study's folder."""
    return Records(out / CELLS, FIELDS)


def _percent(of: Interval) -> str:
    if of.low is None or of.high is None:
        return percent(of.mean, unit="")
    return percent(of.mean, max(0.0, of.low), min(1.0, of.high), unit="")


def _points(of: Interval) -> str:
    if of.low is None or of.high is None:
        return f"{100 * of.mean:+.1f}"
    return f"{100 * of.mean:+.1f} ({100 * of.low:+.1f} to {100 * of.high:+.1f})"
