"""A study's results for people: tables as Markdown, one self-contained HTML page, one JSON file."""

from pathlib import Path
from typing import Any

from unmask.files import write_atomically, write_json
from unmask.report.html import image_address, template
from unmask.studies.ablation.axes import Axis, paper
from unmask.studies.ablation.figures import draw_axis
from unmask.studies.ablation.findings import Cells, finding, rows, scratch_row, table, to_json
from unmask.training.log import clock

RESULT, TABLES, PAGE = "ablation.json", "ablation.md", "ablation.html"


def write_results(out: Path, axes: list[Axis], cells: Cells, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes all that the finished runs allow into `out`; returns what `ablation.json` holds.

    facts: `where` (the data), `command`, `baseline` (names and values), `planned` (runs in all), `notes` (sentences).
    """
    yardstick, sections, results = scratch_row(cells), [], []
    for axis in axes:
        found = rows(axis, cells)
        if not found:
            continue
        figure, image = draw_axis(axis, found, yardstick, facts["where"]), out / f"{axis.name}.png"
        write_atomically(image, lambda part, figure=figure: figure.savefig(part, format="png"))
        heading, lines = table([*found, yardstick] if yardstick else found)
        section = {"name": axis.name, "title": axis.title, "finding": finding(axis, found)}
        sections.append(section | {"heading": heading, "lines": lines, "image": image_address(image)})
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
    _write(out / PAGE, template("ablation.html.jinja").render(shown))
    write_json(out / RESULT, content)
    return content


def _markdown(shown: dict[str, Any]) -> str:
    paper_ = shown["paper"]
    parts = [f"# Ablation on {shown['where']}", f"{shown['runs']} of {shown['planned']} runs, {shown['time']}."]
    parts += ["\n".join(f"- {name}: {value}" for name, value in shown["baseline"]), *shown["notes"]]
    for section in shown["sections"]:
        lines = [section["heading"], ["---"] * len(section["heading"]), *section["lines"]]
        parts += [f"## {section['title']}", section["finding"]]
        parts += ["\n".join(f"| {' | '.join(line)} |" for line in lines)]
        parts += [f"![{section['title']}]({section['name']}.png)"]
    parts += [f"The paper's values: {paper_['label']}; {paper_['setting']}. {paper_['source']}."]
    return "\n\n".join(parts) + "\n"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
