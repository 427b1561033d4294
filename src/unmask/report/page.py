"""Report pages: one self-contained HTML file of sections, which consist of a few kinds of blocks."""

import base64
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

from unmask.files import write_atomically
from unmask.report.palette import PAGE

Lines = Sequence[Sequence[str]]  # of a table: rows of cells


def write_page(path: Path, title: str, *blocks: str, kind: str = "") -> Path:
    """Writes the page and returns its path. kind: of the folder, for the browser's title: "classifier"."""
    page = template("page.html.jinja").render(title=title, kind=kind, blocks=blocks)
    write_atomically(path, lambda part: part.write_text(page, encoding="utf-8", errors="backslashreplace"))
    return path


def section(title: str, *blocks: str) -> Markup:
    """A heading with blocks below it; empty if all blocks are empty."""
    content = Markup("\n").join(block for block in blocks if block)
    return Markup("<h2>{}</h2>\n{}").format(title, content) if content else Markup("")


def paragraph(text: str, kind: str = "") -> Markup:
    """kind: "verdict" for the main result, "note" for explanations; empty for an empty text."""
    start = Markup('<p class="{}">').format(kind) if kind else Markup("<p>")
    return start + Markup("{}</p>").format(text) if text else Markup("")


def note(text: str) -> Markup:
    return paragraph(text, "note")


def verdict(text: str) -> Markup:
    return paragraph(text, "verdict")


def code(text: str) -> Markup:
    return Markup("<pre>{}</pre>").format(text)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Numbers in large type, each with its label below. pairs: label, number."""
    boxes = Markup("").join(
        Markup("<div><b>{}</b><span>{}</span></div>").format(value, words) for words, value in pairs
    )
    return Markup('<div class="facts">{}</div>').format(boxes) if boxes else Markup("")


def image(source: Path | Figure | str | None, words: str, about: str = "") -> Markup:
    """source: a file, a figure or a data URL; about: a note above it; empty if there is no image."""
    address = source if isinstance(source, str | None) else image_address(source)
    return note(about) + Markup('<img src="{}" alt="{}">').format(address, words) if address else Markup("")


def gallery(cells: Iterable[tuple[str, Sequence[str], str]]) -> Markup:
    """Small images side by side. cells: URL of the image, lines below it, a coloured mark before them or ""."""
    figures = []
    for address, words, mark in cells:
        lines = [Markup("<b>{}</b>").format(mark)] if mark else []
        text = Markup("").join(Markup("{}<br>").format(line) for line in [*lines, *words])
        start = Markup('<figure><img src="{}" alt="{}">').format(address, words[0])
        figures.append(start + Markup("<figcaption>{}</figcaption></figure>").format(text))
    return Markup('<div class="row">{}</div>').format(Markup("\n").join(figures)) if figures else Markup("")


def folded(summary: str, *blocks: str) -> Markup:
    """Blocks that are folded until clicked; empty if all blocks are."""
    content = Markup("").join(block for block in blocks if block)
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, content) if content else Markup("")


def table(lines: Lines, kinds: Sequence[str] = ("",), heading: bool = True, marked: str | None = None) -> Markup:
    """kinds: of each column, "n" for numbers and "why" for reasons, the last one for all further columns; marked: the
    first cell of a highlighted row. Empty if there are no lines."""
    if not lines:
        return Markup("")
    rows = []
    for number, line in enumerate(lines):
        tag = "th" if heading and not number else "td"
        cells = Markup("").join(_cell(tag, cell, kinds[min(i, len(kinds) - 1)]) for i, cell in enumerate(line))
        start = Markup('<tr class="us">') if marked and tag == "td" and marked in line[0] else Markup("<tr>")
        rows.append(start + cells + Markup("</tr>"))
    return Markup('<div class="wide"><table>{}</table></div>').format(Markup("\n").join(rows))


def _cell(tag: str, text: str, kind: str) -> Markup:
    start = Markup('<{} class="{}">').format(tag, kind) if kind else Markup("<{}>").format(tag)
    return start + Markup("{}</{}>").format(text, tag)


def image_address(source: Figure | Path) -> str | None:
    """An image as a data URL, so that the page needs no other file."""
    if isinstance(source, Path):
        if not source.exists():
            return None
        content = source.read_bytes()
    else:
        buffer = BytesIO()
        source.savefig(buffer, format="png")
        content = buffer.getvalue()
    return "data:image/png;base64," + base64.b64encode(content).decode()


def template(name: str) -> jinja2.Template:
    """A template beside this file; text is escaped, unknown names are errors."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals["colours"] = PAGE
    return environment.get_template(name)
