"""Rows of small images with captions, as a PNG and as one self-contained page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from unmask.report import page
from unmask.report.palette import VERMILION, save
from unmask.report.words import cut_start

CELL, GAP, WORDS, HEAD = 132, 10, 40, 22  # pixels: of an image, around it, of the words below, of a row's heading
DRAWN = 24  # rows in the PNG at the most; the page has them all


@dataclass(frozen=True)
class Cell:
    image: UInt8[np.ndarray, "h w 3"]
    words: tuple[str, ...]  # lines below it; the first is the name of the file
    mark: str = ""  # said before the words in colour, e.g. "same file"


@dataclass(frozen=True)
class Line:
    title: str
    cells: list[Cell]


def opened(jpeg: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a thumbnail."""
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def draw_gallery(lines: list[Line], path: Path, note: str = "") -> None:
    """Writes the PNG; of many rows the first ones, and says so."""
    shown = lines[:DRAWN]
    most = max(len(line.cells) for line in shown)
    width, tall = most * (CELL + GAP) + GAP, CELL + WORDS + HEAD
    foot = 20
    canvas = np.full((len(shown) * tall + foot, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / 100, canvas.shape[0] / 100), dpi=150)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    letters = int((CELL + GAP) / 4.3)
    for row, line in enumerate(shown):
        top = row * tall + HEAD
        axis.text(GAP, top - 6, _shown(line.title, max(30, width // 6)), fontsize=6.5, weight="bold", parse_math=False)
        for column, cell in enumerate(line.cells):
            left = GAP + column * (CELL + GAP)
            small = _fitted(cell.image)
            y, x = top + (CELL - small.shape[0]) // 2, left + (CELL - small.shape[1]) // 2
            canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
            words = [_shown(text, letters) for text in cell.words]
            options = {"fontsize": 4.6, "va": "top", "linespacing": 1.25, "parse_math": False}
            if cell.mark:
                axis.text(left, top + CELL + 3, cell.mark, color=VERMILION, **options)
                words = ["", *words]
            axis.text(left, top + CELL + 3, "\n".join(words), color="0.2", **options)
    more = f"{len(lines) - DRAWN} more rows are in the page.  " if len(lines) > DRAWN else ""
    axis.text(GAP, canvas.shape[0] - 7, more + note, fontsize=4.6, color="0.4", parse_math=False)
    axis.imshow(canvas, aspect="auto", interpolation="antialiased", zorder=-1)
    axis.set_xlim(0, width)
    axis.set_ylim(canvas.shape[0], 0)
    save(figure, path)


def write_page(lines: list[Line], path: Path, title: str, facts: list[str]) -> None:
    """Writes the page: every row, images inside it."""
    rows = [
        page.section(line.title, page.gallery((_address(c.image), c.words, c.mark) for c in line.cells))
        for line in lines
    ]
    page.write_page(path, title, *map(page.note, facts), *rows)


def _address(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _fitted(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    share = CELL / max(image.size)
    way = Image.Resampling.NEAREST if share > 2 else Image.Resampling.LANCZOS
    width, height = (max(1, round(side * share)) for side in image.size)
    return np.asarray(image.resize((width, height), way))


def _shown(text: str, most: int) -> str:
    return cut_start(text.encode(errors="backslashreplace").decode(), most)
