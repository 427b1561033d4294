"""How far `unmask search --duplicates` can be trusted on some data: changed copies beside unrelated images.

    python benchmarks/likeness.py DATA [--images 200]

For some images it prints the likeness (docs/search.md) of copies that were re-encoded, resized, cropped and so on,
and then the most similar pairs of all images of the data: a threshold should lie between the two.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import smoke
from PIL import Image

from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.source import open_source
from unmask.tasks.retrieval.likeness import tiny_image
from unmask.tasks.retrieval.neighbours import pairs


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, share: float) -> Image.Image:
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float) -> Image.Image:
    x, y = round(image.width * share), round(image.height * share)
    return image.crop((x, y, image.width - x, image.height - y))


CHANGES = {
    "JPEG of quality 75": lambda image: jpeg(image, 75),
    "JPEG of quality 30": lambda image: jpeg(image, 30),
    "half the size": lambda image: scaled(image, 0.5),
    "a third, JPEG 50": lambda image: jpeg(scaled(image, 1 / 3), 50),
    "half as large again": lambda image: scaled(image, 1.5),
    "brighter, less contrast": lambda image: image.point(lambda v: round(0.8 * v + 30)),
    "gamma 1.5": lambda image: image.point(lambda v: round(255 * (v / 255) ** 1.5)),
    "2 % cut off each side": lambda image: cropped(image, 0.02),
    "5 % cut off each side": lambda image: cropped(image, 0.05),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=200, help="images that are changed")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    source = open_source(options.data)
    tiny, images = [], []
    chosen = {*np.random.default_rng(0).permutation(len(source.items))[: options.images].tolist()}
    for place in range(len(source.items)):
        try:
            pixels = decode(source.read(place), max_side=896).pixels
        except (BadImage, OSError):
            continue
        tiny.append(tiny_image(pixels).numpy())
        if place in chosen and pixels.element_size() == 1:
            rgb = to_channels(pixels, 3) if len(pixels) in (1, 3) else pixels[:3]
            images.append((Image.fromarray(rgb.permute(1, 2, 0).numpy()), tiny[-1]))
    print(f"{len(images):,} images of {options.data}, changed: likeness to themselves")
    print(f"{'':26}least    1 %      5 %      median")
    for name, change in CHANGES.items():
        found = [float(tiny_image(decode(np.asarray(change(image))).pixels).numpy() @ own) for image, own in images]
        print(f"{name:26}" + "".join(f"{np.quantile(found, q):<9.4f}" for q in (0, 0.01, 0.05, 0.5)))
    best = np.sort(pairs(np.stack(tiny), 0.98).similarity)[::-1]
    print(f"{len(tiny):,} images as they are, each with the one most like it: the most similar have")
    print("  " + ", ".join(f"{value:.4f}" for value in best[:12:2]))
    print("  " + ", ".join(f"{int((best >= t).sum())} of {t} or more" for t in (0.95, 0.97, 0.98, 0.99)))


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield [str(smoke.images(folder / "images", 12)), "--images", "6", "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
