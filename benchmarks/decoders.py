"""What each decoder costs and what its encoder is worth.

    python benchmarks/decoders.py speed                        a training step, against the peers' and our full decoder
    python benchmarks/decoders.py large                        the same at 896 pixels, against our full decoder
    python benchmarks/decoders.py quality LABELLED --name X    probe accuracy at equal steps and at equal time
    python benchmarks/decoders.py page                         the quality tables as Markdown, into docs/decoders.md

Results go to benchmarks/results/decoders_*.json, .txt and .png. `quality` keeps one line per finished run in --out and
goes on from there when it is called again.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
from contenders import SIZES, Size, step
from decoder_quality import markdown, quality
from limits import allowed_precision
from records import RESULTS, write
from side_by_side import Variant, compare

HERE = Path(__file__).resolve().parent
PAGE, BEGIN, END = HERE.parent / "docs" / "decoders.md", "<!-- quality: begin -->", "<!-- quality: end -->"
PEER = "transformers, fp32"
TITLES = {"vitb16": "ViT-B/16, 224 px", "vits16": "ViT-S/16, 224 px", "cifar4": "ViT 192 x 12, 32 px, patch 4"}
TOY = {"toy": "A toy"}  # of a smoke run
LARGE = "vits16_896"


def texts(size: str) -> dict[str, str]:
    """The decoders that are compared at a size, by name; the peers' decoder comes first."""
    dim, depth, heads = {"cifar4": (192, 4, 3), "toy": (32, 2, 4)}.get(size, (512, 8, 16))
    same, window = f"dim={dim}, depth={depth}, heads={heads}", 14 if size == LARGE else 7 if dim == 512 else 4
    found = {
        "full": f"full({same})",
        "partial 1/2": f"partial(keep=0.5, {same})",
        "cross 1/3": f"cross({same})",
        "cross 1/10": f"cross(predict=0.1, {same})",
        "windowed": f"windowed(window={window}, {same})",
    }
    smaller = ("narrow", "dim=256, depth=4, heads=8") if dim == 512 else ("slim", "dim=128, depth=2, heads=4")
    return found | {smaller[0]: f"full({smaller[1]})"}


def speed(options: argparse.Namespace) -> None:
    """Each decoder's step in the runtime's fastest precision, against the peers' default."""
    precision = allowed_precision(options.precision, "cpu", "bf16-weights")
    for size in options.sizes:
        shared = {"size": size, "steps": options.steps, "batch": options.batch, "products": options.products}
        found = [Variant(PEER, "contenders.py:step", shared | {"who": "hf", "precision": "32"}, note="defaults")]
        for name, text in texts(size).items():
            arguments = shared | {"who": "ours", "precision": precision, "decoder": text}
            found.append(Variant(f"ours, {name}", "contenders.py:step", arguments, note=text))
        found = [v for v in found if v.name == PEER or _asked(v.name, options.only)]
        title = f"Training step by decoder, {(TITLES | TOY)[size]}, {precision}"
        _compare(f"decoders_{size}", title, found, PEER, options)


def large(options: argparse.Namespace) -> None:
    """Each decoder's step at 896 pixels, against our own full decoder."""
    precision, found = allowed_precision(options.precision, "cpu", "bf16-weights"), []
    size = "toy" if options.smoke else LARGE
    for name, text in texts(size).items():
        arguments = {"text": text, "batch": options.batch or 1, "steps": options.steps, "precision": precision}
        arguments |= {"size": size, "products": options.products}
        found.append(Variant(name, "decoders.py:large_step", arguments, note=text))
    found = [v for v in found if v.name == "full" or _asked(v.name, options.only)]
    title = f"Training step by decoder, ViT-S/16, 896 px, {precision}"
    _compare(f"decoders_{LARGE}", title, found, "full", options)


def large_step(text: str, batch: int, steps: int, precision: str, size: str, products: int | None) -> Any:
    """A step of ours at 896 pixels: 3,136 patches. size: LARGE, or another of the contenders'."""
    SIZES[LARGE] = Size(896, 16, 384, 12, 6, name="vit_small_patch16_224", batch=1)
    return step("ours", size, batch=batch, precision=precision, decoder=text, steps=steps, products=products)


def _asked(name: str, words: list[str] | None) -> bool:
    return words is None or any(word in name for word in words)


def _compare(name: str, title: str, variants: list[Variant], baseline: str, options: argparse.Namespace) -> None:
    columns = {"GFLOP/image": lambda found: f"{found['gflop_per_image']:.1f}"}
    shared = {"rounds": options.rounds, "out": None, "in_process": options.smoke}
    write(compare(name, title, variants, baseline=baseline, **shared), options.results, columns)


def fill(page: Path, results: Path) -> None:
    """Writes what `quality` has measured into the documentation, between two marks."""
    found = "\n\n".join(markdown(path) for path in sorted(results.glob("decoders_quality_*.json")))
    text = page.read_text(encoding="utf-8")
    mended = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{found}\n\n{END}", text, flags=re.S)
    page.write_text(mended, encoding="utf-8")
    print(found or "nothing measured yet: python benchmarks/decoders.py quality LABELLED --name X")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("speed", "large"):
        one = kinds.add_parser(kind)
        one.add_argument("--rounds", type=int, default=5)
        one.add_argument("--steps", type=int, default=1, help="per measurement")
        one.add_argument("--batch", type=int, help="by default the size's own; 1 at 896 pixels")
        one.add_argument("--precision", help="by default bf16-weights, or 32 on a CPU that does not compute in bf16")
        one.add_argument("--only", nargs="*", help="words: decoders whose names have one of them, beside the baseline")
        one.add_argument("--products", type=int, help="rows of the large products that are measured beside the steps")
    kinds.choices["speed"].add_argument("sizes", nargs="*", default=list(TITLES), help=", ".join(TITLES))
    one = kinds.add_parser("quality")
    one.add_argument("data", nargs="+", help="labelled images: pretrained on without labels, judged with them")
    one.add_argument("--name", required=True, help="of the data, for tables and file names")
    one.add_argument("--out", type=Path, help="folder of the finished runs; by default runs/decoders-NAME")
    one.add_argument("--steps", type=int, default=1000, help="of the full decoder")
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--labels", type=int, default=5000, help="training images of the probe, at the most")
    one.add_argument("--test", type=int, default=2000, help="test images of the probe, at the most")
    one.add_argument("--size", default="dim=192, depth=4, heads=6", help="of all decoders but the slim one")
    one.add_argument("--only", nargs="*", help="words: decoders whose names have one of them, beside the full one")
    one.add_argument("--model", help="by default what unmask chooses for the data")
    one.add_argument("--turns", type=int, default=9, help="of measuring step times; the first is thrown away")
    kinds.add_parser("page").add_argument("--page", type=Path, default=PAGE)
    for one in kinds.choices.values():
        one.add_argument("--results", type=Path, default=RESULTS, help="folder for the record")
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.kind == "page":
        return fill(options.page, options.results)
    if options.kind == "quality":
        return quality(options)
    known = TITLES | TOY if options.smoke else TITLES
    if unknown := set(getattr(options, "sizes", ())) - set(known):
        sys.exit(f"no size {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    return speed(options) if options.kind == "speed" else large(options)


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    shared = ["--batch", "2", "--rounds", "1", "--products", "64", "--results", str(out), "--only", "cross"]
    yield ["--smoke", "speed", "toy", *shared]
    yield ["--smoke", "large", *shared]
    data = smoke.labelled(folder / "labelled", train=20, test=10)
    words = {"name": "toy", "out": out / "runs", "steps": 1, "seeds": 1, "turns": 2, "size": "dim=32, depth=1, heads=2"}
    words |= {"model": smoke.MODEL, "results": out, "only": "cross"}
    flags = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    yield ["--smoke", "quality", str(data), *flags]
    yield ["--smoke", "page", "--page", str(shutil.copy(PAGE, out / PAGE.name)), "--results", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
