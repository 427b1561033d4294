"""Many thumbnails in few large pictures, as a web page draws them quickly: sprite sheets."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

SHEET = 2016  # pixels of a side: phones refuse canvases much larger
CELLS = ((1_500, 112), (5_000, 72), (float("inf"), 48))  # up to so many pictures, thumbnails of so many pixels


@dataclass(frozen=True)
class Sprites:
    """Picture i lies on sheet i // per_sheet, in cell i % per_sheet, row by row, at the top left of its cell."""

    cell: int  # pixels
    columns: int  # of cells in a sheet
    sheets: list[bytes]  # JPEG
    sizes: list[tuple[int, int]]  # width, height of each thumbnail in pixels

    @property
    def per_sheet(self) -> int:
        return self.columns**2

    def addresses(self) -> list[str]:
        """The sheets as data addresses, so that a page needs no other file."""
        return ["data:image/jpeg;base64," + base64.b64encode(sheet).decode() for sheet in self.sheets]


def make_sprites(thumbs: Sequence[bytes], quality: int = 80) -> Sprites:
    """Sheets of JPEG thumbnails, smaller ones where there are more pictures."""
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
