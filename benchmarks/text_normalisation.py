"""What does normalising each patch do to text? `pixels` and `pixels(normalize=False)` on pages and on digits.

    python benchmarks/text_normalisation.py DIGITS --page docs/results.md

Pages are rendered here, with Pillow's own font: lines of words of one of eight subjects, in ink and on paper of
changing brightness, clean and with the grain of a scan, where empty patches hold noise alone, which normalising blows
up. DIGITS is any labelled data that unmask reads, or a folder of MNIST's files (t10k-images-idx3-ubyte.gz and the
labels), of which every fifth image is kept for the test. Every cell of data x target x seed is one run of `--recipe
document`, judged by how well a linear probe and k-NN name the subject or the digit, and by how far rebuilt patches are
off, in grey levels: of those that hold ink, and of empty ones. Cells that are done are not done again: the same command
goes on after an interruption. Writes text_normalisation.json and text_normalisation.txt.
"""

import argparse
import gzip
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import smoke
import torch
from budget import begun, save
from PIL import Image, ImageDraw, ImageFont
from records import RESULTS

import unmask
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.evaluation.online_probe import Probe

SUBJECTS = {  # a page's words are those of its subject, in any order
    "weather": "rain cloud storm wind thunder frost drizzle sunny humid forecast",
    "kitchen": "flour butter oven pepper kettle recipe simmer whisk garlic spoon",
    "music": "violin chorus tempo melody organ rhythm ballad quartet sonata drum",
    "harbour": "anchor ferry tide cargo sailor vessel lantern quay compass rope",
    "garden": "tulip spade compost hedge orchard seedling prune ivy lawn bulb",
    "railway": "platform signal junction carriage ticket engine tunnel freight depot rail",
    "court": "verdict witness appeal clause judge evidence tenant counsel statute oath",
    "body": "artery muscle kidney fever surgeon pulse fracture tissue nerve lung",
}
TARGETS = {"normalised": "pixels", "as they are": "pixels(normalize=False)"}
KINDS = ("clean pages", "grainy pages")
BEGIN, END = "<!-- text normalisation -->", "<!-- end of text normalisation -->"  # marks in the page
INK = 24.0  # grey levels between the darkest and the brightest pixel of a patch that holds ink; grain has fewer


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--pages", type=int, nargs=2, default=[400, 100], help="of each subject, to train and to test")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--batch", type=int, help="by default what unmask chooses")
    parser.add_argument("--model", default="vit_tiny_patch16_224(depth=6)")
    parser.add_argument("--patch-size", type=int, default=8, help="of pages; a fourth of it of smaller images")
    parser.add_argument("--page", type=Path, help="a page, docs/results.md, whose part about this is written anew")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path, work = options.out / "text_normalisation.json", options.out / "text_normalisation-runs"
    settings = {"pages": options.pages, "steps": options.steps, "model": options.model, "digits": options.digits.name}
    record = begun(path, {"cells": {}}, settings)
    places = {kind: render(work / kind.split()[0], kind == KINDS[1], *options.pages) for kind in KINDS}
    places["digits"] = digits_of(options.digits, work)
    probes: dict[str, Probe] = {}
    for seed in options.seeds:
        for kind, place in places.items():
            for target in TARGETS:
                if (key := f"{kind}, {target}, {seed}") not in record["cells"]:
                    side = 64 if kind in KINDS else 28
                    probe = probes.setdefault(kind, Probe(place, (side, side), seed=0))
                    record["cells"][key] = cell(options, place, target, seed, side, probe, work / "run")
                    record["cells"][key] |= {"data": kind, "target": target, "seed": seed}
                    save(record, path)
    (options.out / "text_normalisation.txt").write_text(text := table(record))
    print(text)
    if options.page:
        before, rest = options.page.read_text(encoding="utf-8").split(BEGIN)
        options.page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def render(root: Path, grain: bool, train: int, test: int) -> Path:
    """Class folders of pages in splits train and test; those that are there already are kept."""
    for split, count in (("train", train), ("test", test)):
        for place, (subject, words) in enumerate(SUBJECTS.items()):
            folder = root / split / subject
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                if not (file := folder / f"{number:04d}.png").exists():
                    page(words.split(), grain, [split == "test", place, number]).save(file)
    return root


def page(words: list[str], grain: bool, seed: list[int], side: int = 64) -> Image.Image:
    """A grey page of some words, set at random: size, margins, brightness of ink and paper, and grain."""
    draw_from = np.random.default_rng(seed)
    size, paper, ink = draw_from.integers(9, 15), int(draw_from.integers(215, 256)), int(draw_from.integers(0, 90))
    image = Image.new("L", (side, side), paper)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=int(size))
    left, line = (int(offset) for offset in draw_from.integers(0, 8, 2))
    while line < side - size:
        text = " ".join(draw_from.choice(words, 3))
        pen.text((left, line), text[: int(draw_from.integers(6, 24))], fill=ink, font=font)
        line += int(size * draw_from.choice([1.3, 1.3, 2.6]))  # now and then an empty line
    if not grain:
        return image
    noisy = np.asarray(image, dtype=np.float32) + draw_from.normal(0, 3, (side, side))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def digits_of(place: Path, work: Path) -> Path:
    """Data that unmask reads: MNIST's own files as arrays with a train and a test split; anything else as it is."""
    images, labels = (next(iter(sorted(place.glob(f"*{kind}-ubyte.gz"))), None) for kind in ("idx3", "idx1"))
    if images is None or labels is None:
        return place
    with gzip.open(images) as file:
        pixels = np.frombuffer(file.read()[16:], np.uint8).reshape(-1, 28, 28)
    with gzip.open(labels) as file:
        classes = np.frombuffer(file.read()[8:], np.uint8)
    test = np.arange(len(pixels)) % 5 == 0
    splits = {"train": ~test, "test": test}
    arrays = {f"{name}_images": pixels[rows] for name, rows in splits.items()}
    arrays |= {f"{name}_labels": classes[rows] for name, rows in splits.items()}
    work.mkdir(parents=True, exist_ok=True)
    np.savez(work / "digits.npz", **arrays)
    return work / "digits.npz"


def cell(
    options: argparse.Namespace, place: Path, target: str, seed: int, side: int, probe: Probe, out: Path
) -> dict[str, Any]:
    """One run, what its encoder is worth and how far its pictures are off; the run's folder is removed."""
    patch = options.patch_size if side % options.patch_size == 0 else max(1, options.patch_size // 2)
    run = unmask.pretrain(
        place, out=out, recipe="document", target=TARGETS[target], model=options.model, image_size=side,
        patch_size=patch, channels=1, steps=options.steps, batch=options.batch, seed=seed, device="cpu",
        save_every=10**6,
    )  # fmt: skip
    worth = probe(run.encoder(), torch.device("cpu"), None)
    result = {"steps": options.steps, "seconds": run.read("summary.json")["seconds"], **worth, **errors(run, probe)}
    shutil.rmtree(out)
    return result


def errors(run: unmask.Run, probe: Probe, most: int = 256) -> dict[str, float | None]:
    """Mean absolute error of rebuilt hidden patches of test images, in grey levels: with ink and without."""
    objective, sides = run.objective().eval(), run.config.data.image_size
    loader = probe.labelled.loader("test", 1, WholeImage((sides[0], sides[1])))
    x = torch.cat([batch["views"][0] for batch in loader])[:most]
    grid = objective.encoder.grid_of(x)
    mask = objective.mask.steady(len(x), grid, "cpu", torch.Generator().manual_seed(0))
    with torch.no_grad():
        rebuilt, true = (grid.cut(images.float()) for images in (objective.rebuild(x, mask), x))
    index = mask.hidden[..., None].expand(-1, -1, true.shape[2])
    rebuilt, true = rebuilt.gather(1, index), true.gather(1, index)
    off, inked = (rebuilt - true).abs().mean(dim=2), true.amax(dim=2) - true.amin(dim=2) > INK
    parts = {"ink": off[inked], "paper": off[~inked]}
    return {f"error_{name}": round(float(part.mean()), 2) if len(part) else None for name, part in parts.items()}


def table(record: dict[str, Any]) -> str:
    here, cells = record["machine"], list(record["cells"].values())
    lines = [
        f"{here.get('cpu')} (family {here.get('family')}), one thread; torch {here['torch']}",
        record["command"],
        "",
        "| data | patches | linear, mean (least to greatest) | k-NN | off where there is ink | off on empty paper |",
        "|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(found["data"] for found in cells):
        for target in TARGETS:
            own = [found for found in cells if (found["data"], found["target"]) == (kind, target)]
            if own:
                linear = [found["probe_linear"] for found in own]
                spread = f"{statistics.fmean(linear):.1%} ({min(linear):.1%} to {max(linear):.1%}), {len(own)} seeds"
                shown = [_mean(own, "probe_knn", "{:.1%}"), _mean(own, "error_ink"), _mean(own, "error_paper")]
                lines.append(f"| {kind} | {target} | {spread} | {' | '.join(shown)} |")
        lines += gains(cells, kind)
    return "\n".join(lines) + "\n"


def gains(cells: list[dict[str, Any]], kind: str) -> list[str]:
    """Normalised minus as they are, seed by seed."""
    by_target = [
        {c["seed"]: c["probe_linear"] for c in cells if (c["data"], c["target"]) == (kind, t)} for t in TARGETS
    ]
    gained = [
        100 * (by_target[0][seed] - by_target[1][seed]) for seed in sorted(by_target[0].keys() & by_target[1].keys())
    ]
    each = ", ".join(f"{gain:+.1f}" for gain in gained)
    return (
        [f"| {kind} | difference | {statistics.fmean(gained):+.1f} points (by seed: {each}) | | | |"] if gained else []
    )


def _mean(cells: list[dict[str, Any]], name: str, form: str = "{:.1f}") -> str:
    values = [cell[name] for cell in cells if cell[name] is not None]
    return form.format(statistics.fmean(values)) if values else "none there"


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    digits, results = folder / "digits", out / "results.md"
    digits.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    with gzip.open(digits / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes(16) + pixels.tobytes())
    with gzip.open(digits / "t10k-labels-idx1-ubyte.gz", "wb") as file:
        file.write(bytes(8) + bytes(number % 2 for number in range(40)))
    out.mkdir(parents=True, exist_ok=True)
    results.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    small = ["--pages", "3", "2", "--steps", "2", "--seeds", "0", "--batch", "4", "--model", smoke.MODEL]
    yield [str(digits), *small, "--out", str(out), "--page", str(results), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
