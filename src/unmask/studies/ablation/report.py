"""A study's results: tables as Markdown, one self-contained HTML page, one JSON file."""

from dataclasses import dataclass
from pathlib import Path

from unmask.files import Json, write_atomically, write_json
from unmask.report.page import code, image, note, paragraph, section, table, verdict, write_page
from unmask.report.palette import save
from unmask.studies.ablation import across_sizes, scaling
from unmask.studies.ablation.axes import Axis, paper
from unmask.studies.ablation.figures import draw_axis
from unmask.studies.ablation.findings import BASELINE_MARK, Cells, finding, rows, scratch_row, to_json
from unmask.studies.ablation.findings import table as lines_of
from unmask.training.log import clock

RESULT, TABLES, PAGE = "ablation.json", "ablation.md", "ablation.html"


@dataclass(frozen=True)
class Facts:
    """Facts about a study for its report, besides its results."""

    where: str  # the data
    command: str
    baseline: list[tuple[str, str]]  # names and values
    planned: int  # runs in all
    notes: list[str]  # sentences
    word: str  # what a sample is called


@dataclass(frozen=True)
class Part:
    """What the report says of one axis."""

    name: str
    title: str
    finding: str
    lines: list[list[str]]  # a table with its heading
    image: Path
    sizes: list[list[str]]  # a table of accuracies at other image sizes; empty where none was asked for
    of_sizes: Path  # their image


def write_results(out: Path, axes: list[Axis], cells: Cells, facts: Facts) -> Json:
    """Writes the results of the finished runs to `out`; returns the contents of `ablation.json`."""
    yardstick, results = scratch_row(cells), []
    parts: list[Part] = []
    for axis in axes:
        axis_rows = rows(axis, cells)
        if not axis_rows:
            continue
        path = out / f"{axis.name}.png"
        save(draw_axis(axis, axis_rows, yardstick, facts.where), path)
        heading, lines = lines_of([*axis_rows, yardstick] if yardstick else axis_rows, axis.published, facts.word)
        sizes = across_sizes.table(axis.values, cells)
        of_sizes = across_sizes.image_of(axis, out)
        if sizes:
            save(across_sizes.draw(axis, cells), of_sizes)
        law = scaling.sentence(axis, axis_rows)
        said = f"{finding(axis_rows)} {law}".strip()
        parts.append(Part(axis.name, axis.title, said, [heading, *lines], path, sizes, of_sizes))
        laws = {metric: vars(fit) | {"lacks": fit.lacks} for metric, fit in scaling.laws(axis, axis_rows).items()}
        result = to_json(axis, axis_rows) | ({"power_laws": laws, "scaling": law} if law else {})
        results.append(result | ({"sizes": across_sizes.to_json(axis, cells)} if sizes else {}))
    seconds = sum(sum(cell.get("seconds", {}).values()) for cell in cells.values())
    diverged = [f"{key}, seed {seed}" for (key, seed), cell in cells.items() if "diverged" in cell]
    notes = [*facts.notes, *([f"Diverged and left out: {'; '.join(diverged)}."] if diverged else [])]
    content = {"on": facts.where, "command": facts.command, "baseline": dict(facts.baseline)}
    content |= {"runs": len(cells), "planned": facts.planned, "seconds": round(seconds, 1), "notes": notes}
    none = {name: vars(of) for name, of in yardstick.accuracy.items()} if yardstick else None
    source = {name: paper()[name] for name in ("label", "source", "setting")}
    published = any(axis.published for axis in axes)
    content |= {"no_pretraining": none, "axes": results} | ({"paper": source} if published else {})
    progress = f"{len(cells)} of {facts.planned} runs, {clock(seconds)}"
    _write(out / TABLES, _markdown(facts, parts, notes, progress, published))
    _write_page(out / PAGE, facts, parts, notes, progress, published)
    write_json(out / RESULT, content)
    return content


def _write_page(path: Path, facts: Facts, parts: list[Part], notes: list[str], progress: str, published: bool) -> None:
    sections = [
        section(
            part.title,
            verdict(part.finding),
            image(part.image, f"{part.title}: accuracy on this data, and in the paper where it has this axis"),
            table(part.lines, ("", "n"), marked=BASELINE_MARK),
            *([image(part.of_sizes, f"{part.title}: accuracy at other image sizes")] if part.sizes else []),
            *([table(part.sizes, ("", "", "n"))] if part.sizes else []),
        )
        for part in parts
    ]
    write_page(
        path,
        f"Ablation on {facts.where}",
        note(
            f"The axes of the MAE paper's table 1, run again at small scale: {progress} of computing."
            if published
            else f"One option varied at a time: {progress} of computing."
        ),
        table(facts.baseline, heading=False),
        *(note(text) for text in notes),
        *sections,
        *([section("The paper's values", *_source())] if published else []),
        section("Command", code(facts.command)),
    )


def _table(heading: list[str], lines: list[list[str]]) -> list[str]:
    return ["\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *lines))]


def _source() -> tuple[str, str]:
    source = paper()
    return paragraph(f"{source['label']}: {source['setting']}."), note(f"{source['source']}.")


def _markdown(facts: Facts, parts: list[Part], notes: list[str], progress: str, published: bool) -> str:
    source = paper()
    texts = [f"# Ablation on {facts.where}", f"{progress}."]
    texts += ["\n".join(f"- {name}: {value}" for name, value in facts.baseline), *notes]
    for part in parts:
        heading, *lines = part.lines
        texts += [f"## {part.title}", part.finding]
        texts += _table(heading, lines)
        texts += [f"![{part.title}]({part.name}.png)"]
        if part.sizes:
            heading, *lines = part.sizes
            texts += ["At other image sizes:", *_table(heading, lines), f"![across sizes]({part.of_sizes.name})"]
    if published:
        texts += [f"The paper's values: {source['label']}; {source['setting']}. {source['source']}."]
    return "\n\n".join(texts) + "\n"


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
