"""Sections that the pages of all runs share (training, data, how to use the model), and the page of a trained task."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from unmask.files import Json, read_json
from unmask.report.page import code, facts, folded, image, note, paragraph, section, table, verdict, write_page
from unmask.runs.run import CONFIG, SUMMARY
from unmask.training.log import duration

PAGE, SHEET = "report.html", "data_sheet.json"


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
            f"; {summary['steps']:,} of {config['fit']['steps']:,} steps in {duration(summary['seconds'])} on"
            f" {config['machine']['name']}; weights of step {summary['kept_step']:,} kept"
        )
    return write_page(
        out / PAGE,
        name,
        note(" · ".join(line)),
        *(tested if sentence else [note("Not tested yet: training has not finished.")]),
        *results,
        section("Curves", image(curves, "losses and validation score")),
        section("Training", paragraph(f"{trained}."), plan_table(config), code(config["command"])),
        data,
        section("Use it", code(use), versions(config)),
        kind=noun,
    )


def class_lines(per_class: Sequence[Json], show: Callable[[float | None], str]) -> list[list[str]]:
    """Headings, then a row per class: its name, count and scores as `show` writes them; empty without classes."""
    if not per_class:
        return []
    keys = list(per_class[0])
    lines = [[str(e[k]) if k in ("name", "count") else show(e.get(k)) for k in keys] for e in per_class]
    return [[key.replace("_", " ") for key in keys], *lines]


def plan_table(config: Json) -> Markup:
    """Every setting, its value and why."""
    return table([("setting", "value", "why"), *plan_rows(config)], kinds=("", "", "why"))


def sheet_table(sheet: Json) -> Markup:
    return table(sheet_rows(sheet), heading=False)


def folded_sheet(sheet: Json) -> Markup:
    return folded("Data sheet", sheet_table(sheet))


def versions(config: Json) -> Markup:
    return note(" · ".join(f"{name} {version}" for name, version in config["versions"].items()))


SHEET_WORDS = {  # entries of a data sheet whose names say too little
    "where": "data",
    "count": "images",
    "checked": "images checked",
    "ignored": "other files",
    "bits": "bits per value",
    "min_size": "smallest height and width, pixels",
    "median_size": "median height and width, pixels",
    "max_size": "largest height and width, pixels",
    "common_sizes": "most frequent sizes, pixels",
    "classes": "images per class",
    "splits": "images per split",
    "num_duplicates": "exact copies",
    "test_in_train": "val and test images copied in train",
    "value_range": "smallest and largest value",
    "share_extreme": "share of values near either end",
    "share_bright": "share of values in the upper half",
}


def sheet_rows(sheet: Json) -> list[tuple[str, str]]:
    """The data sheet's plain entries; lists of names are replaced by their length."""
    rows = []
    for name, value in sheet.items():
        if isinstance(value, float):
            text = f"{value:.4g}"
        elif isinstance(value, list) and len(value) > 6:
            text = f"{len(value)} entries, see data_sheet.json"
        elif isinstance(value, dict):
            per_channel = name in ("mean", "std")
            keys = {k: f"as {k} channel{'s' if k != '1' else ''}" if per_channel else k for k in value}
            pairs = [f"{keys[k]}: {_rounded(v)}" for k, v in list(value.items())[:8]]
            text = ("; " if per_channel else ", ").join([*pairs, *(["..."] if len(value) > 8 else [])])
        elif isinstance(value, list):
            text = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
        else:
            text = str(value)
        if text not in ("", "None"):
            rows.append((SHEET_WORDS.get(name, name.replace("_", " ")), text))
    return rows


def _rounded(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in values)


def plan_rows(config: Json) -> list[tuple[str, str, str]]:
    """Setting, value, reason."""
    settings, reasons = config["settings"], config["reasons"]
    options = config["asked"]

    def text(value: object) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    reasons_given = {name: "asked for" for name in ("data", "run", "on") if options.get(name)}
    reasons_given |= {"init": "asked for"} if options.get("init") not in (None, "", "none") else {}
    return [
        (k, text(v), reasons.get(k) or reasons_given.get(k, "default"))
        for k, v in settings.items()
        if v not in (None, (), [])
    ]
