"""The map as files: one self-contained interactive page, one image, one table of coordinates."""

import base64
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image

from unmask.files import write_atomically, write_table
from unmask.report.page import template
from unmask.report.palette import save
from unmask.tasks.retrieval.gallery import opened

# Twenty colours that stay apart: ten strong, ten light, after matplotlib's tab20; what is left is grey
COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#000000"),
    *("#aec7e8", "#ffbb78", "#98df8a", "#ff9896", "#c5b0d5", "#c49c94", "#f7b6d2", "#dbdb8d", "#9edae5", "#7f7f7f"),
)
OTHER = "#c8c8c8"
COLUMNS, TALL = 26, 26  # places for thumbnails in the image


@dataclass(frozen=True)
class Atlas:
    """Coordinates and facts of n images on a map."""

    names: list[str]
    xy: Float[np.ndarray, "n 2"]  # 0 to 1
    facts: dict[str, list[str]]  # "label", "split", "folder" -> one text for each image, "" for none
    thumbs: list[bytes]  # JPEG
    title: str
    note: str  # how it was made


def write_page(atlas: Atlas, path: Path) -> None:
    """The interactive page."""
    sprites = make_sprites(atlas.thumbs)
    facets = [_facet(name, texts) for name, texts in colourings(atlas.facts).items()]
    data = {
        "names": atlas.names,
        "x": [round(x, 5) for x in atlas.xy[:, 0].tolist()],
        "y": [round(y, 5) for y in atlas.xy[:, 1].tolist()],
        "facts": {name: texts for name, texts in atlas.facts.items() if any(texts)},
        "facets": facets,
        "cell": sprites.cell,
        "columns": sprites.columns,
        "sizes": [side for size in sprites.sizes for side in size],
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # no name may end the script
    page = template("map.html.jinja").render(title=atlas.title, note=atlas.note, data=text, sheets=sprites.addresses())
    write_atomically(path, lambda part: part.write_text(page, encoding="utf-8", errors="backslashreplace"))


def write_places(atlas: Atlas, path: Path) -> None:
    """Columns: path, x, y, label, split, folder."""
    facts = zip(*atlas.facts.values())
    rows = [(name, f"{x:.6f}", f"{y:.6f}", *own) for name, (x, y), own in zip(atlas.names, atlas.xy.tolist(), facts)]
    write_table(path, ["path", "x", "y", *atlas.facts], rows)


def draw_atlas(atlas: Atlas, path: Path) -> None:
    """Draws thumbnails on the left, one for each occupied cell of a lattice, and all images as coloured dots on the
    right."""
    figure = Figure(figsize=(15, 7.4), dpi=140)
    left, right = figure.subplots(1, 2)
    for row, (x, y) in _on_lattice(atlas.xy):
        image = opened(atlas.thumbs[row])
        tall, wide = (0.5 * side / max(image.shape[:2]) for side in image.shape[:2])
        extent = (x + 0.5 - wide, x + 0.5 + wide, y + 0.5 - tall, y + 0.5 + tall)
        left.imshow(image, extent=extent, interpolation="antialiased")
    left.set(xlim=(0, COLUMNS), ylim=(0, TALL), aspect="equal")
    name, texts = next(iter(colourings(atlas.facts).items()))
    facet = _facet(name, texts)
    numbers = np.array(facet["of"])
    size = float(np.clip(6000 / len(numbers), 2, 40))
    order = np.random.default_rng(0).permutation(len(numbers))  # so that no class lies on top of all others
    colours = np.array(facet["colours"])[numbers]
    right.scatter(*atlas.xy[order].T, s=size, c=colours[order], linewidths=0)
    for value, count, colour in zip(facet["values"], facet["counts"], facet["colours"]):
        right.scatter([], [], s=30, c=colour, linewidths=0, label=f"{value} ({count:,})")
    right.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", title=f"by {name}")
    if len(facet["values"]) > 1:
        legend = right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
    for axis in (left, right):
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_color("0.85")
    figure.text(0.01, 0.012, atlas.note, fontsize=7, color="0.35", parse_math=False)
    figure.subplots_adjust(left=0.01, right=0.88, top=0.95, bottom=0.04, wspace=0.03)
    save(figure, path)


def colourings(facts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Properties to colour the images by: those that differ between images; at least one."""
    varying = {name: texts for name, texts in facts.items() if len(set(texts)) > 1}
    return varying or {"nothing": [""] * len(next(iter(facts.values())))}


def _facet(name: str, texts: Sequence[str]) -> dict:
    """Values with counts and colours, the most frequent first; all beyond twenty are joined, in grey."""
    counts = Counter(texts)
    order = sorted(counts, key=lambda text: (-counts[text], text))
    kept = order[: len(COLOURS)]
    place = {text: number for number, text in enumerate(kept)}
    of = [place.get(text, len(kept)) for text in texts]
    values = [text or "none" for text in kept]
    colours = list(COLOURS[: len(kept)])
    if len(order) > len(kept):
        values.append(f"{len(order) - len(kept):,} others")
        colours.append(OTHER)
    totals = Counter(of)
    return {
        "name": name,
        "values": values,
        "counts": [totals[n] for n in range(len(values))],
        "colours": colours,
        "of": of,
    }


def _on_lattice(xy: np.ndarray) -> list[tuple[int, tuple[int, int]]]:
    """The row nearest to the centre of each occupied cell of a lattice."""
    scaled = np.clip(xy, 0, 1 - 1e-6) * (COLUMNS, TALL)
    at = scaled.astype(int)
    distance = ((scaled - at - 0.5) ** 2).sum(axis=1)
    best: dict[tuple[int, int], int] = {}
    for row in np.argsort(distance, kind="stable").tolist():
        best.setdefault((int(at[row, 0]), int(at[row, 1])), row)
    return [(row, place) for place, row in best.items()]


SHEET = 2016  # pixels of a side: phones refuse canvases much larger
CELLS = ((1_500, 112), (5_000, 72), (float("inf"), 48))  # up to so many images, thumbnails of so many pixels


@dataclass(frozen=True)
class Sprites:
    """Image i lies on sheet i // per_sheet, in cell i % per_sheet, row by row, at the top left of its cell."""

    cell: int  # pixels
    columns: int  # of cells in a sheet
    sheets: list[bytes]  # JPEG
    sizes: list[tuple[int, int]]  # width, height of each thumbnail in pixels

    @property
    def per_sheet(self) -> int:
        return self.columns**2

    def addresses(self) -> list[str]:
        """The sheets as data URLs, so that a page needs no other file."""
        return ["data:image/jpeg;base64," + base64.b64encode(sheet).decode() for sheet in self.sheets]


def make_sprites(thumbs: Sequence[bytes], quality: int = 80) -> Sprites:
    """Sheets of JPEG thumbnails, which are smaller if there are more images."""
    cell = next(side for most, side in CELLS if len(thumbs) <= most)
    columns, sizes, sheets = SHEET // cell, [], []
    for start in range(0, len(thumbs), columns**2):
        part = thumbs[start : start + columns**2]
        rows = -(-len(part) // columns)
        sheet = Image.new("RGB", (min(len(part), columns) * cell, rows * cell), "white")
        for place, small in enumerate(_shrunk(part, cell)):
            sheet.paste(small, (place % columns * cell, place // columns * cell))
            sizes.append(small.size)
        buffer = io.BytesIO()
        sheet.save(buffer, format="JPEG", quality=quality, subsampling=0 if cell > 100 else 2)
        sheets.append(buffer.getvalue())
    return Sprites(cell, columns, sheets, sizes)


def _shrunk(thumbs: Sequence[bytes], cell: int) -> Iterator[Image.Image]:
    for thumb in thumbs:
        image = Image.open(io.BytesIO(thumb)).convert("RGB")
        image.thumbnail((cell, cell), Image.Resampling.LANCZOS)
        yield image
