"""Images with captions: squares of a colour, and what is said of them."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (210, 40, 40), "blue": (40, 60, 210), "green": (40, 180, 60)}


def coloured(colour, number, side=32):
    chance = np.random.default_rng([*COLOURS[colour], number])
    pixels = chance.integers(0, 40, (side, side, 3)) + 60
    top, left = chance.integers(0, side // 3, 2)
    pixels[top : top + side // 2, left : left + side // 2] = COLOURS[colour]
    return Image.fromarray(pixels.astype(np.uint8))


def captioned(folder, each=6, classes=False):
    """`each` images of every colour, two captions for each, in a folder with captions.csv, or in folders of classes."""
    folder.mkdir(parents=True)
    rows = []
    for colour in COLOURS:
        for number in range(each):
            name = f"{colour}/{number}.png" if classes else f"{colour}{number}.png"
            (folder / name).parent.mkdir(exist_ok=True)
            coloured(colour, number).save(folder / name)
            rows += [(name, f"a {colour} square"), (name, f"something {colour}, number {number}")]
    with open(folder / "captions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "caption"), *rows])
    return folder


def shard(path, each=4, first=0, text="txt"):
    """A tar with 000.png and 000.txt, or the text in 000.json."""
    path = Path(path)
    with tarfile.open(path, "w") as tar:
        for place, (colour, number) in enumerate((c, n) for c in COLOURS for n in range(first, first + each)):
            png = io.BytesIO()
            coloured(colour, number).save(png, "PNG")
            words = f"a {colour} square"
            said = {"txt": words, "json": f'{{"caption": ["{words}", "it is {colour}"], "width": 32}}'}[text]
            for ending, content in (("png", png.getvalue()), (text, said.encode())):
                member = tarfile.TarInfo(f"{place:03d}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path
