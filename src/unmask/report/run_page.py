"""What the pages of all runs share: how it was trained, its data, how to use it; and the page of a trained task."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from unmask.files import read_json
from unmask.report.html import image_address, plan_rows, sheet_rows
from unmask.report.page import code, facts, folded, image, note, paragraph, section, table, verdict, write_page
from unmask.runs.run import CONFIG, SUMMARY
from unmask.training.log import clock

PAGE, SHEET = "report.html", "data_sheet.json"
Json = Mapping[str, Any]


def write_task_page(
    out: Path,
    *,
    noun: str,  # "classifier"
    traits: Iterable[str] = (),  # of the model, for the line below the name
    sentence: str | None,  # the result; None before the test
    numbers: Iterable[tuple[str, str]],  # words, number
    measured: str,  # how the numbers were measured
    results: Iterable[str],  # sections: what the model does well and badly
    curves: Figure | None,
    counted: str,  # what it was trained on: "labelled images"
    data: str,  # the section on the data
    use: str,  # code
) -> Path:
    """Writes the page of a folder of `transfer` and returns its path."""
    config, summary, name = read_json(out / CONFIG), read_json(out / SUMMARY), out.resolve().name
    settings = config["settings"]
    start = {"none": "from scratch", "run": str(config["asked"].get("run"))}.get(settings["init"], settings["init"])
    line = [f"{noun} of {len(config['classes'])} classes", *traits, f"{settings['protocol']} protocol"]
    line += [f"weights: {start}", "finished" if summary else "not finished"]
    tested = [verdict(sentence or ""), facts(numbers), note(f"On the test split, which was looked at once. {measured}")]
    trained = f"{config['data']['count']:,} {counted}"
    if summary:
        trained += (
            f"; {summary['steps']:,} of {config['fit']['steps']:,} steps in {clock(summary['seconds'])} on"
            f" {config['machine']['name']}; weights of step {summary['kept_step']:,} kept"
        )
    return write_page(
        out / PAGE,
        name,
        note(" · ".join(line)),
        *(tested if sentence else [note("Not tested yet: training has not finished.")]),
        *results,
        section("Curves", image(image_address(curves) if curves else None, "losses and validation score")),
        section("Training", paragraph(f"{trained}."), plan_table(config), code(config["command"])),
        data,
        section("Use it", code(use), versions(config)),
        kind=noun,
    )


def plan_table(config: dict[str, Any]) -> Markup:
    """Every setting, its value and why."""
    return table([("setting", "value", "why"), *plan_rows(config)], kinds=("", "", "why"))


def sheet_table(sheet: dict[str, Any]) -> Markup:
    return table(sheet_rows(sheet), heading=False)


def folded_sheet(sheet: dict[str, Any]) -> Markup:
    return folded("Data sheet", sheet_table(sheet))


def versions(config: Json) -> Markup:
    return note(" · ".join(f"{name} {version}" for name, version in config["versions"].items()))
