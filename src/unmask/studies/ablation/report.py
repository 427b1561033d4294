"""A study's results: tables as Markdown, one self-contained HTML page, one JSON file."""

from pathlib import Path
from typing import Any

from unmask.files import write_atomically, write_json
from unmask.report.page import code, image, note, paragraph, section, table, verdict, write_page
from unmask.report.palette import save
from unmask.studies.ablation.axes import Axis, paper
from unmask.studies.ablation.figures import draw_axis
from unmask.studies.ablation.findings import BASELINE_MARK, Cells, finding, rows, scratch_row, to_json
from unmask.studies.ablation.findings import table as lines_of
from unmask.training.log import clock

RESULT, TABLES, PAGE = "ablation.json", "ablation.md", "ablation.html"


def write_results(out: Path, axes: list[Axis], cells: Cells, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes the results of the finished runs to `out`; returns the contents of `ablation.json`.

    facts: `where` (the data), `command`, `baseline` (names and values), `planned` (runs in all), `notes` (sentences).
    """
    yardstick, sections, results = scratch_row(cells), [], []
    for axis in axes:
        found = rows(axis, cells)
        if not found:
            continue
        figure, path = draw_axis(axis, found, yardstick, facts["where"]), out / f"{axis.name}.png"
        save(figure, path)
        heading, lines = lines_of([*found, yardstick] if yardstick else found)
        part = {"name": axis.name, "title": axis.title, "finding": finding(axis, found)}
        sections.append(part | {"heading": heading, "lines": lines, "image": path})
        results.append(to_json(axis, found))
    seconds = sum(sum(cell["seconds"].values()) for cell in cells.values())
    diverged = [f"{key}, seed {seed}" for (key, seed), cell in cells.items() if "diverged" in cell]
    notes = [*facts["notes"], *([f"Diverged and left out: {'; '.join(diverged)}."] if diverged else [])]
    source = {name: paper()[name] for name in ("label", "source", "setting")}
    content = {"on": facts["where"], "command": facts["command"], "baseline": dict(facts["baseline"])}
    content |= {"runs": len(cells), "planned": facts["planned"], "seconds": round(seconds, 1), "notes": notes}
    none = {name: vars(of) for name, of in yardstick.accuracy.items()} if yardstick else None
    content |= {"no_pretraining": none, "axes": results, "paper": source}
    shown = facts | {"sections": sections, "runs": len(cells), "time": clock(seconds), "paper": source, "notes": notes}
    _write(out / TABLES, _markdown(shown))
    _write_page(out / PAGE, shown)
    write_json(out / RESULT, content)
    return content


def _write_page(path: Path, shown: dict[str, Any]) -> None:
    source = shown["paper"]
    sections = [
        section(
            part["title"],
            verdict(part["finding"]),
            image(part["image"], f"{part['title']}: this data on the left, the paper on the right"),
            table([part["heading"], *part["lines"]], ("", "n"), marked=BASELINE_MARK),
        )
        for part in shown["sections"]
    ]
    write_page(
        path,
        f"Ablation on {shown['where']}",
        note(
            "The axes of the MAE paper's table 1, run again at small scale:"
            f" {shown['runs']} of {shown['planned']} runs, {shown['time']} of computing."
        ),
        table([(name, str(value)) for name, value in shown["baseline"]], heading=False),
        *(note(text) for text in shown["notes"]),
        *sections,
        section(
            "The paper's values", paragraph(f"{source['label']}: {source['setting']}."), note(f"{source['source']}.")
        ),
        section("Command", code(shown["command"])),
    )


def _markdown(shown: dict[str, Any]) -> str:
    paper_ = shown["paper"]
    parts = [f"# Ablation on {shown['where']}", f"{shown['runs']} of {shown['planned']} runs, {shown['time']}."]
    parts += ["\n".join(f"- {name}: {value}" for name, value in shown["baseline"]), *shown["notes"]]
    for part in shown["sections"]:
        lines = [part["heading"], ["---"] * len(part["heading"]), *part["lines"]]
        parts += [f"## {part['title']}", part["finding"]]
        parts += ["\n".join(f"| {' | '.join(line)} |" for line in lines)]
        parts += [f"![{part['title']}]({part['name']}.png)"]
    parts += [f"The paper's values: {paper_['label']}; {paper_['setting']}. {paper_['source']}."]
    return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
