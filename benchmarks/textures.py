"""Pictures of textures with labels, to try `unmask tune` and `--recipe texture` on: eight kinds, made here.

    python benchmarks/textures.py --out textures
    unmask tune textures/train --on textures --axes ratio patch_size --hours 2

A kind is a process: stripes, checks, weave, spots, cells, marble, grain, scratches. Of each image the angle, the scale
(by up to 1.5), the colours, the light and the noise are drawn anew, so that no single pixel and no colour tells the
kind. Class folders in splits train and test.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import smoke
from PIL import Image

Field = np.ndarray  # rows columns, roughly from 0 to 1


def stripes(u: Field, v: Field, draw: np.random.Generator) -> Field:
    return 0.5 + 0.5 * np.sin(u + 0.15 * np.sin(v))


def checks(u: Field, v: Field, draw: np.random.Generator) -> Field:
    return (np.sin(u) * np.sin(v) > 0).astype(np.float64)


def weave(u: Field, v: Field, draw: np.random.Generator) -> Field:
    over = np.sin(u / 2) * np.sin(v / 2) > 0
    return np.where(over, np.abs(np.sin(u)), np.abs(np.sin(v)))


def spots(u: Field, v: Field, draw: np.random.Generator) -> Field:
    return 1 / (1 + np.exp(-8 * (np.sin(u) + np.sin(v) - 0.7)))


def cells(u: Field, v: Field, draw: np.random.Generator) -> Field:
    """Distance to the nearest of many points, as walls between cells."""
    side = max(1.0, float(np.ptp(u)))
    points = draw.uniform((u.min(), v.min()), (u.max(), v.max()), (max(4, int((side / 5) ** 2)), 2))
    distances = np.hypot(u[..., None] - points[:, 0], v[..., None] - points[:, 1])
    nearest = np.partition(distances, 1, axis=-1)
    return np.clip((nearest[..., 1] - nearest[..., 0]) / 2, 0, 1)


def marble(u: Field, v: Field, draw: np.random.Generator) -> Field:
    waves = sum(
        np.sin(k * v / 3 + draw.uniform(0, 6)) * np.sin(k * u / 4 + draw.uniform(0, 6)) / k for k in range(1, 6)
    )
    return 0.5 + 0.5 * np.sin(u / 2 + 3 * waves)


def grain(u: Field, v: Field, draw: np.random.Generator) -> Field:
    """Noise of one scale, as of sand."""
    coarse = Image.fromarray(draw.uniform(0, 255, [max(2, int(np.ptp(u) / 1.5))] * 2).astype(np.uint8))
    return np.asarray(coarse.resize(u.shape[::-1], Image.Resampling.BICUBIC), dtype=np.float64) / 255


def scratches(u: Field, v: Field, draw: np.random.Generator) -> Field:
    """Noise that is drawn out along one direction, as of brushed metal."""
    rows = np.interp(v.ravel(), np.linspace(v.min(), v.max(), 96), draw.uniform(0, 1, 96)).reshape(v.shape)
    return np.clip(rows + 0.1 * np.sin(u / 6), 0, 1)


KINDS = (stripes, checks, weave, spots, cells, marble, grain, scratches)


def texture(kind: int, seed: list[int], side: int) -> Image.Image:
    """An image of a kind, with angle, scale, colours, light and noise at random."""
    draw = np.random.default_rng(seed)
    angle, scale = draw.uniform(0, np.pi), draw.uniform(1, 1.5) * 2 * np.pi / 12
    rows, columns = np.mgrid[:side, :side] * scale
    u, v = np.cos(angle) * columns + np.sin(angle) * rows, np.cos(angle) * rows - np.sin(angle) * columns
    field = KINDS[kind](u + draw.uniform(0, 6), v + draw.uniform(0, 6), draw)[..., None]
    dark, bright = draw.uniform(0, 120, 3), draw.uniform(130, 255, 3)
    light = 1 + 0.3 * draw.uniform(-1, 1) * np.linspace(-1, 1, side)[:, None, None]
    pixels = (dark + field * (bright - dark)) * light + draw.normal(0, 6, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write(root: Path, train: int, test: int, side: int) -> None:
    """So many images of each kind in splits train and test."""
    for place, (split, count) in enumerate((("train", train), ("test", test))):
        for kind, process in enumerate(KINDS):
            folder = root / split / process.__name__
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                texture(kind, [place, kind, number], side).save(folder / f"{number:04d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("textures"))
    parser.add_argument("--images", type=int, nargs=2, default=[400, 100], help="of each kind, to train and to test")
    parser.add_argument("--side", type=int, default=96)
    options = parser.parse_args()
    write(options.out, *options.images, options.side)
    print(f"{len(KINDS)} kinds of textures, {options.images[0]} and {options.images[1]} of each, in {options.out}")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--out", str(out), "--images", "2", "1", "--side", "32"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
