"""Several kinds of data at once: photographs, a depth made from them and a tone, learnt from together (MultiMAE).

    python benchmarks/multimodal.py PHOTOGRAPHS [--out runs/multimodal] [--steps 600] [--seeds 0 1]

PHOTOGRAPHS: folders train and val of class folders. The "depth" is the blurred brightness, the pitch of the tone tells
the class, with some chance; every fifth sample has no tone. It reports the accuracy of frozen features with all parts
and with some, pretrained and at random; how well each part is rebuilt from each other alone, on test samples; and how
often one part finds its partner after alignment with an encoder of the photographs (`align`).
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import smoke
import soundfile
import torch
from PIL import Image, ImageFilter
from records import machine

import unmask
from unmask.data.modality import make_modality
from unmask.data.source import open_source
from unmask.masking.mask import Mask

PARTS, SPLITS = ("rgb", "depth", "sound"), {"train": "train", "val": "test"}
SEEN = {"all": PARTS, "rgb and depth": PARTS[:2], "rgb": PARTS[:1], "depth": PARTS[1:2], "sound": PARTS[2:]}
RATE, SECONDS, SIDE, BLUR = 8_000, 0.5, 96, 3.0  # of the tone; pixels
LOWEST, STEP, SPREAD = 250.0, 1.3, 0.12  # pitch of the first class in Hz, from one class to the next, and its deviation
MISSING = 5  # one of so many samples has no tone


def make(photographs: Path, out: Path, classes: int, each: int) -> None:
    """rgb/, depth/ and sound/, each with train/ and test/ of class folders."""
    if (out / "done").exists():
        return
    for split, own in SPLITS.items():
        folders = sorted(path for path in (photographs / split).iterdir() if path.is_dir())[:classes]
        for label, folder in enumerate(folders):
            for number, path in enumerate(sorted(folder.iterdir())[:each]):
                chance = np.random.default_rng([label, number, split == "val"])
                for part in PARTS:
                    (out / part / own / folder.name).mkdir(parents=True, exist_ok=True)
                image = Image.open(path).convert("RGB")
                share = SIDE / min(image.size)
                image = image.resize((round(image.width * share), round(image.height * share)))
                image.save(out / "rgb" / own / folder.name / f"{path.stem}.jpg", quality=92)
                grey = image.convert("L").filter(ImageFilter.GaussianBlur(BLUR))
                grey.save(out / "depth" / own / folder.name / f"{path.stem}.png")
                if number % MISSING:
                    pitch = LOWEST * STEP ** (label + SPREAD * chance.standard_normal() / np.log(STEP))
                    time = np.arange(int(RATE * SECONDS)) / RATE
                    tone = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.03 * chance.standard_normal(len(time))
                    soundfile.write(out / "sound" / own / folder.name / f"{path.stem}.wav", tone, RATE)
    (out / "done").write_text("")


def part_of(data: Path, names: tuple[str, ...], out: Path) -> Path:
    """The same samples with these parts only."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (out / name).exists():
            os.symlink(data / name, out / name)
    return out


@torch.no_grad()
def rebuilt(run: unmask.Run, data: Path, most: int) -> dict[str, float]:
    """Squared error of each part rebuilt from each other alone, as a share of the part's variance, on test samples."""
    text, model = run.config.data.modality, run.objective()
    modality, source = make_modality(text), open_source(data, text)
    indices = [i for i, item in enumerate(source.items) if item.split == "test"]
    view = modality.whole(model.encoder.grid.size)
    chosen = indices[:: max(1, len(indices) // most)][:most]
    x = torch.stack([view(modality.decode(source.raw(i)).content) for i in chosen])
    grid, errors = model.encoder.grid, {}
    units = torch.arange(grid.num_units).expand(len(x), -1)
    wanted = grid.cut(x)
    for part, (first, end) in zip(grid.parts, grid.spans):
        has = ~wanted[:, first:end].isnan().flatten(1).all(dim=1)
        hidden = torch.cat([units[:, :first], units[:, end:]], dim=1)
        made = grid.cut(model.rebuild(x[has], Mask(units[has, first:end], hidden[has])))
        for other, (a, b) in zip(grid.parts, grid.spans):
            if other is part:
                continue
            truth = wanted[has, a:b, : other.num_values]
            there = truth.isfinite()
            truth, guess = truth[there], made[:, a:b, : other.num_values][there]
            errors[f"{other.name} from {part.name}"] = float((guess - truth).square().mean() / truth.var())
    return errors


def aligned(data: Path, out: Path, options: argparse.Namespace, seed: int) -> list[dict]:
    """How often a photograph finds its own depth and tone among those of the test samples, and the other way round: of
    an encoder that was aligned with one that learnt from the photographs alone."""
    shared = {"steps": options.steps, "batch": options.batch, "seed": seed, "workers": 0}
    shared |= {"model": options.model} if options.model else {}
    patch = options.size // 8
    teacher = unmask.pretrain(data / "rgb", out=out / "images", image_size=options.size, patch_size=patch, **shared)
    modality = f"multimodal(rgb=image, depth=image, sound=audio, size={options.size}, patch={patch})"
    method = f"align(of={str(teacher.path.absolute())!r})"
    run = unmask.pretrain(data, method=method, modality=modality, out=out / "aligned", **shared)
    pairs = out / "pairs"
    for part in PARTS:
        (pairs / part).mkdir(parents=True, exist_ok=True)
        for folder in sorted((data / part / "test").iterdir()):
            if not (pairs / part / folder.name).exists():
                os.symlink(folder.absolute(), pairs / part / folder.name)
    found = unmask.search(run.path, pairs, recall=True, out=out / "recall")
    for recall in found.recalls:
        print(f"seed {seed}, {recall.sentence()}", flush=True)
    return [recall.to_json() for recall in found.recalls]


def compare(options: argparse.Namespace) -> None:
    data = options.out / "data"
    make(options.photographs, data, options.classes, options.each)
    record: dict[str, object] = {"machine": machine(), "steps": options.steps, "classes": options.classes}
    for seed in options.seeds:
        out = options.out / f"seed-{seed}"
        settings = {"model": options.model} if options.model else {}
        text = f"multimodal(rgb=image, depth=image, sound=audio, size={options.size}, patch={options.size // 8})"
        run = unmask.pretrain(
            data,
            modality=text,
            out=out / "run",
            steps=options.steps,
            batch=options.batch,
            seed=seed,
            workers=0,
            **settings,
        )
        for name, parts in SEEN.items():
            folder = part_of(data.absolute(), parts, out / "seen" / name.replace(" ", "-"))
            verdict = unmask.evaluate(
                run.path, on=folder, out=out / "scores" / folder.name, seed=seed, evaluators=("linear",),
                labels_per_class=options.labels,
            )  # fmt: skip
            for competitor in ("pretrained", "random init"):
                score = verdict.score(competitor, "linear")
                few = {few.labels: (few.accuracy, few.low, few.high) for few in score.few}
                record[f"{seed}, {name}, {competitor}"] = {
                    "accuracy": score.accuracy,
                    "interval": (score.low, score.high),
                    "few": few,
                }
                shown = ", ".join(f"{labels} labels {value[0]:.1%}" for labels, value in few.items())
                interval = f"{score.accuracy:.1%} ({score.low:.1%} to {score.high:.1%})"
                print(f"seed {seed}, {name}, {competitor}: {interval}; {shown}", flush=True)
        record[f"{seed}, recall"] = aligned(data, out, options, seed)
        errors = rebuilt(run, data, options.most)
        record[f"{seed}, rebuilt"] = errors
        print(
            f"seed {seed}, squared error as a share of the variance: "
            + ", ".join(f"{k} {v:.2f}" for k, v in errors.items())
        )
        unmask.show(run.path, data, out=out / "panel.png", most=4)
    (options.out / "multimodal.json").write_text(json.dumps(record, indent=1))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/multimodal"))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--each", type=int, default=200, help="photographs of each class and split, at the most")
    parser.add_argument("--size", type=int, default=64, help="pixels along a side of images")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--model", help="by default the plan's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 20], help="per class")
    parser.add_argument("--most", type=int, default=200, help="test samples that are rebuilt")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    compare(parser().parse_args())


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    data = smoke.labelled(folder / "photographs", train=6, test=4)
    (data / "test").rename(data / "val")
    small = ["--classes", "2", "--each", "6", "--size", "32", "--steps", "2", "--batch", "4", "--most", "4"]
    yield [str(data), "--out", str(out), *small, "--labels", "1", "--model", smoke.MODEL]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
