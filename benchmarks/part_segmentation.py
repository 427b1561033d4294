"""What pretraining on clouds is worth for telling their parts apart with few labelled ones, against scratch.

    python benchmarks/part_segmentation.py --out parts --seeds 0 -- --epochs 40

Its data is made: mugs, tables, lamps and chairs of every proportion, turned about their upright axis, of ten parts. For
each seed an encoder is pretrained on the unlabelled ones, and `unmask labels --to segment` compares it with the same
network from scratch, and frozen with one of random weights, on the same draws of labelled clouds. What comes after --
are options of `unmask pretrain`. It goes on where it was interrupted. Writes part_segmentation.json and
part_segmentation.md, and leaves the runs with their pages.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import few_labels
import numpy as np
import smoke
from budget import save
from records import machine

PARTS = ("mug body", "mug handle", "table top", "table legs", "lamp base", "lamp pole", "lamp shade")
PARTS += ("chair seat", "chair back", "chair legs")
Surface = tuple[float, Callable[[np.random.Generator, int], np.ndarray]]  # its area, and what draws points on it


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("part_segmentation"))
    parser.add_argument("--clouds", type=int, default=400, help="to pretrain on, without labels")
    parser.add_argument("--labelled", type=int, default=24, help="of which shares are learnt from")
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--points", type=int, default=256, help="of a cloud")
    parser.add_argument("--fractions", nargs="+", default=["0.167", "0.334"], help="of the labelled clouds, beside all")
    few_labels.add_options(parser, "1")
    parser.set_defaults(protocols=["linear", "full"])
    return parser


def main() -> None:
    options, given = few_labels.parsed(parser())
    options.data, options.on = (options.out / name for name in ("unlabelled.npz", "labelled.npz"))
    arrays: dict[str, Any] = {"parts": np.array(PARTS)}
    for split, count, seed in (("train", options.labelled, 2), ("test", options.test, 3)):
        arrays[f"{split}_points"], arrays[f"{split}_point_labels"] = clouds(count, options.points, seed)
    np.savez(options.data, points=clouds(options.clouds, options.points, 1)[0])
    np.savez(options.on, **arrays)
    curves = [few_labels.curve(options, given, seed) for seed in options.seeds]
    record: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv])}
    save(record | {"seeds": options.seeds, "curves": curves}, options.out / "part_segmentation.json")
    of = f"of {options.labelled} labelled clouds"
    text = f"mIoU over {len(PARTS)} parts\n\n{few_labels.table(options, curves, of)}"
    (options.out / "part_segmentation.md").write_text(text, encoding="utf-8")
    print(text)


def clouds(count: int, points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """So many clouds, n points 3, of each kind of shape in turn; and the part that each point is of, n points."""
    made = [cloud(np.random.default_rng([seed, number]), number % 4, points) for number in range(count)]
    return np.stack([xyz for xyz, _ in made]), np.stack([labels for _, labels in made])


def cloud(chance: np.random.Generator, kind: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Points spread evenly by area, each part having at least a twentieth; stretched, turned about z, with noise."""
    surfaces = (mug, table, lamp, chair)[kind](chance)
    areas = np.array([sum(area for area, _ in part) for part in surfaces.values()])
    shares = np.maximum(areas / areas.sum(), 0.05)
    counts = np.floor(points * shares / shares.sum()).astype(int)
    counts[counts.argmax()] += points - counts.sum()
    xyz, labels = [], []
    for (name, part), number in zip(surfaces.items(), counts):
        own = np.array([area for area, _ in part])
        of_each = chance.multinomial(number, own / own.sum())
        xyz += [draw(chance, int(n)) for (_, draw), n in zip(part, of_each)]
        labels.append(np.full(number, PARTS.index(name), np.uint8))
    values, angle = np.concatenate(xyz), chance.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    values = (values * chance.uniform(0.7, 1.4, 3)) @ turn.T + chance.normal(0, 0.02, values.shape)
    order = chance.permutation(points)
    return values[order].astype(np.float32), np.concatenate(labels)[order]


def mug(chance: np.random.Generator) -> dict[str, list[Surface]]:
    height, radius = chance.uniform(0.6, 1.6), chance.uniform(0.35, 0.7)
    reach, thick, middle = chance.uniform(0.25, 0.5), chance.uniform(0.05, 0.09), chance.uniform(0.4, 0.6) * height
    body = [cylinder(radius, 0, height), disc(radius, 0)]
    return {"mug body": body, "mug handle": [arch(radius, reach, thick, middle, height * 0.35)]}


def table(chance: np.random.Generator) -> dict[str, list[Surface]]:
    width, depth, height = chance.uniform(0.6, 1.2), chance.uniform(0.5, 0.9), chance.uniform(0.5, 1.2)
    return {"table top": [box(width, depth, 0.08, height)], "table legs": legs(chance, width, depth, height)}


def lamp(chance: np.random.Generator) -> dict[str, list[Surface]]:
    foot, height, shade = chance.uniform(0.25, 0.5), chance.uniform(0.8, 1.6), chance.uniform(0.3, 0.6)
    top = chance.uniform(0.3, 0.9) * shade
    base = [disc(foot, 0), disc(foot, 0.06), cylinder(foot, 0, 0.06)]
    return {
        "lamp base": base,
        "lamp pole": [cylinder(0.04, 0.06, height)],
        "lamp shade": [cone(shade, top, height - 0.1, height + chance.uniform(0.3, 0.6))],
    }


def chair(chance: np.random.Generator) -> dict[str, list[Surface]]:
    width, depth, height = chance.uniform(0.35, 0.6), chance.uniform(0.35, 0.6), chance.uniform(0.4, 0.8)
    back = chance.uniform(0.5, 1.0)
    return {
        "chair seat": [box(width, depth, 0.08, height)],
        "chair back": [box(width, 0.05, back, height + 0.08, -depth + 0.05)],
        "chair legs": legs(chance, width, depth, height),
    }


def legs(chance: np.random.Generator, width: float, depth: float, height: float) -> list[Surface]:
    thick, inset = chance.uniform(0.03, 0.07), chance.uniform(0.7, 0.95)
    corners = [(i * inset * width, j * inset * depth) for i in (-1, 1) for j in (-1, 1)]
    return [cylinder(thick, 0, height, *corner) for corner in corners]


def cylinder(radius: float, low: float, high: float, x: float = 0, y: float = 0) -> Surface:
    return cone(radius, radius, low, high, x, y)


def cone(wide: float, narrow: float, low: float, high: float, x: float = 0, y: float = 0) -> Surface:
    def draw(chance: np.random.Generator, count: int) -> np.ndarray:
        angle, up = chance.uniform(0, 2 * np.pi, count), chance.uniform(0, 1, count)
        radius = wide + (narrow - wide) * up
        return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle), low + (high - low) * up], axis=1)

    return np.pi * (wide + narrow) * (high - low), draw


def disc(radius: float, height: float) -> Surface:
    def draw(chance: np.random.Generator, count: int) -> np.ndarray:
        angle, out = chance.uniform(0, 2 * np.pi, count), radius * np.sqrt(chance.uniform(0, 1, count))
        return np.stack([out * np.cos(angle), out * np.sin(angle), np.full(count, height)], axis=1)

    return np.pi * radius**2, draw


def box(width: float, depth: float, height: float, low: float, y: float = 0) -> Surface:
    """Half of its width and depth are given; the points lie on its six sides."""
    half = np.array([width, depth, height / 2])
    areas = 8 * half.prod() / half

    def draw(chance: np.random.Generator, count: int) -> np.ndarray:
        across = chance.choice(3, count, p=areas / areas.sum())
        values = chance.uniform(-1, 1, (count, 3))
        values[np.arange(count), across] = np.sign(values[np.arange(count), across])
        return values * half + (0, y, low + height / 2)

    return float(areas.sum()), draw


def arch(at: float, reach: float, thick: float, middle: float, half: float) -> Surface:
    """Half of a ring that stands upright, x outwards from `at`."""

    def draw(chance: np.random.Generator, count: int) -> np.ndarray:
        along, around = chance.uniform(-np.pi / 2, np.pi / 2, count), chance.uniform(0, 2 * np.pi, count)
        out, up = reach + thick * np.cos(around), half + thick * np.cos(around)
        return np.stack([at + out * np.cos(along), thick * np.sin(around), middle + up * np.sin(along)], axis=1)

    return np.pi * (reach + half) / 2 * 2 * np.pi * thick, draw


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    words = "--clouds 8 --labelled 8 --test 4 --points 64 --fractions 0.5 --draws 1 --epochs 1 --seeds 0".split()
    yield [*words, "--out", str(out), "--", "--model", smoke.MODEL, "--decoder", smoke.DECODER, "--steps", "2"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
