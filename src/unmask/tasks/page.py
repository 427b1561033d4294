"""The report page of a trained model: what the pages of all tasks share, made from the files in its folder alone."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from unmask.files import RESULT, read_json, write_atomically
from unmask.report.html import image_address, plan_rows, sheet_rows, template
from unmask.runs.run import CONFIG, SUMMARY
from unmask.training.log import METRICS, clock, read

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito's palette


def write_task_page(
    out: Path,
    name: str,  # of the template
    headline: Callable[[dict[str, Any], list[str]], str],
    images: Mapping[str, str],  # files of the folder by their names in the template
    draw: Callable[[list[dict[str, Any]], list[dict[str, Any]]], Figure],  # curves, of the steps and of all records
    own: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],  # what else the template takes, of test and sheet
    not_listed: tuple[str, ...] = (),  # entries of the data sheet that the template shows otherwise
) -> Path:
    """Writes `report.html`; returns its path."""
    config, sheet = read_json(out / CONFIG), read_json(out / "data_sheet.json")
    test = read_json(out / RESULT).get("test", {})
    records = list(read(out / METRICS))
    steps = [record for record in records if "loss" in record and "epoch" in record]
    page = template(name).render(
        name=out.resolve().name,
        config=config,
        test=test,
        sentence=headline(test, config["classes"]) if test else None,
        images={key: image_address(out / file) for key, file in images.items()},
        curves=image_address(draw(steps, records)) if steps else None,
        summary=read_json(out / SUMMARY),
        plan=plan_rows(config),
        sheet_rows=sheet_rows({key: value for key, value in sheet.items() if key not in not_listed}),
        clock=clock,
        **own(test, sheet),
    )
    write_atomically(out / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return out / "report.html"


def draw_curves(
    steps: list[dict[str, Any]],
    records: list[dict[str, Any]],
    losses: Mapping[str, str],  # labels by name in the records; one alone needs no legend
    scores: Mapping[str, str],  # likewise, of the val split, from 0 to 1
    titles: tuple[str, str],  # of both plots
) -> Figure:
    """The losses while training, and beside them what was scored on the val split, in percent."""
    looks = [record for record in records if any(name in record for name in scores)]
    figure = Figure(figsize=(11, 3.3), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2 if looks else 1, squeeze=False)[0]
    _draw_lines(axes[0], steps, losses, COLOURS, {"lw": 1.4})
    axes[0].set(xlabel="step", title=titles[0])
    if looks:
        _draw_lines(axes[1], looks, scores, COLOURS[1:], {"marker": "o", "ms": 3}, times=100)
        axes[1].set(xlabel="step", title=titles[1])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.title.set_fontsize(9.5)
    return figure


def _draw_lines(axis: Any, records: list[dict[str, Any]], labels: Mapping[str, str], colours: Any, style: Any,
                times: float = 1) -> None:  # fmt: skip
    for (name, label), colour in zip(labels.items(), colours):
        points = [(record["step"], times * record[name]) for record in records if record.get(name) is not None]
        if points:
            axis.plot(*zip(*points), color=colour, label=label, **style)
    if len(axis.get_lines()) > 1:
        axis.legend(frameon=False, fontsize=8)


def class_table(test: dict[str, Any], text: Callable[[float | None], str]) -> list[list[str]]:
    """Headings, then a row per class that is tested; text: of a figure from 0 to 1."""
    if not test or not test["per_class"]:
        return []
    keys = list(test["per_class"][0])
    rows = [[str(row[k]) if k in ("name", "count") else text(row.get(k)) for k in keys] for row in test["per_class"]]
    return [[key.replace("_", " ") for key in keys], *rows]


def percent(value: float | None) -> str:
    """A share in words."""
    return "not tested" if value is None else f"{100 * value:.1f} %"
