"""report.html: one self-contained page of a run, made from the files in its folder and nothing else."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.files import write_atomically
from unmask.report.html import image_address, plan_rows, read_json, sheet_rows, template
from unmask.report.reconstruction import filmstrip
from unmask.runs.config import Config
from unmask.runs.run import SUMMARY, Run
from unmask.tasks.classification.report import write_classifier_report
from unmask.tasks.detection.report import write_detector_report
from unmask.tasks.segmentation.report import write_segmenter_report
from unmask.training.log import METRICS, ROLLED_BACK, clock, read
from unmask.training.timing import waiting_advice, waiting_share

BLUE, GREY, ORANGE = "#0072B2", "#777777", "#D55E00"  # Okabe and Ito's palette, readable without red and green
IMAGES = ("panel", "filmstrip", "evaluation", "labels", "panel_before", "panel_after")
YARDSTICKS = {
    "unit_mean": "true mean of each hidden unit",
    "visible_mean": "average visible unit",
    "nearest": "copy of the nearest visible unit",
}


def write_report(out: Path) -> Path:
    """Writes `report.html` from what the run folder holds so far; returns its path."""
    run = Run(out)
    if run.task:
        of = {"classify": write_classifier_report, "segment": write_segmenter_report, "detect": write_detector_report}
        return of[run.task](out)
    config = run.config
    records = list(read(out / METRICS))
    steps = [r for r in records if "loss" in r and "epoch" in r]  # not updates that were left out
    waited, frames = waiting_share(records), _frames(out)
    if len(frames) > 2:
        filmstrip(frames, out / "filmstrip.png")
    evaluation = read_json(out / "evaluation.json")
    page = template("report.html.jinja").render(
        name=out.resolve().name,
        config=config,
        sheet=read_json(out / "data_sheet.json"),
        sheet_rows=sheet_rows(read_json(out / "data_sheet.json")),
        plan=plan_rows(run.record),
        last=steps[-1] if steps else None,
        context=_context_rows(config, steps),
        curves=image_address(_curves(steps, records, config)) if steps else None,
        images={name: image_address(out / f"{name}.png") for name in IMAGES},
        evaluation=evaluation,
        labels=read_json(out / "labels.json"),
        continued=read_json(out / "continued.json"),
        bad=_bad(out),
        summary=read_json(out / SUMMARY),
        back=sum(record.get("event") == ROLLED_BACK for record in records),
        waited=waited,
        advice=waiting_advice(waited, config.data, config.runtime.device, config.record.machine["cores"]),
        skipped=steps[-1]["skipped"] if steps else 0,
        snippet=_snippet(config.model.timm),
        clock=clock,
    )
    write_atomically(out / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return out / "report.html"


def _curves(steps: list[dict[str, Any]], records: list[dict[str, Any]], config: Config) -> Figure:
    probes = [r for r in records if any(key.startswith("probe_") for key in r)]
    figure = Figure(figsize=(11, 3.4), dpi=110, layout="constrained")
    loss, rate, *rest = figure.subplots(1, 3 if probes else 2, width_ratios=[2.2, 1, 1][: 3 if probes else 2])
    epochs = [r["epoch"] for r in steps]
    loss.plot(epochs, [r["loss"] for r in steps], color=BLUE, lw=1.6, label="loss on hidden units")
    top = max(r["loss"] for r in steps)
    for name, words in YARDSTICKS.items():
        value = config.record.context.get(name)
        if value is not None and value < 1.6 * max(top, 1.0):
            loss.axhline(value, color=GREY, lw=0.9, ls="--")
            style = {"ha": "right", "fontsize": 7.5, "color": GREY}
            loss.annotate(words, (epochs[-1], value), xytext=(0, 2), textcoords="offset points", **style)
    loss.set(xlabel="epoch", ylabel="mean squared error", title="Loss, and what trivial predictors reach on this data")
    rate.plot(epochs, [r["images_per_second"] for r in steps], color=BLUE, lw=1.2)
    rate.set(xlabel="epoch", title="Images per second", ylim=(0, None))
    if probes:
        batch, count = config.training.batch, config.data.count
        keys = sorted({key for r in probes for key in r if key.startswith("probe_")})
        for key, color in zip(keys, (ORANGE, BLUE, GREY)):
            points = [(r["step"] * batch / count, 100 * r[key]) for r in probes if key in r]
            rest[0].plot(*zip(*points), "o-", color=color, label=key.removeprefix("probe_"), ms=4)
        rest[0].legend(frameon=False, fontsize=8)
        rest[0].set(xlabel="epoch", title="Probe accuracy, %")
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(9.5)
    return figure


def _context_rows(config: Config, steps: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Who, loss, share of variance explained: this model between the trivial predictors."""
    context = config.record.context
    if not steps or not context.get("data_mean"):
        return []
    variance = context["data_mean"]
    rows = [
        (words, context[name], 1 - context[name] / variance) for name, words in YARDSTICKS.items() if name in context
    ]
    rows += [("average of the data (the zero point)", variance, 0.0)]
    rows += [("this model", steps[-1]["loss"], 1 - steps[-1]["loss"] / variance)]
    return sorted(rows, key=lambda row: row[1])


def _frames(out: Path) -> list[tuple[str, Path]]:
    folder = out / "film"
    fixed = [(name, folder / f"{name}.png") for name in ("input", "masked")]
    steps = [(f"step {int(path.stem):,}", path) for path in sorted(folder.glob("[0-9]*.png"))]
    return [frame for frame in fixed + steps if frame[1].exists()]


def _snippet(timm: dict[str, Any]) -> str:
    arguments = {k: v for k, v in timm.items() if k != "model_name"}
    given = ", ".join(f"{k}={tuple(v) if isinstance(v, list) else v!r}" for k, v in arguments.items())
    name = timm["model_name"]
    return f'net = timm.create_model("{name}", checkpoint_path="encoder.safetensors", {given})'


def _bad(out: Path) -> list[str]:
    path = out / "bad_files.txt"
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[:40] if path.exists() else []
