"""What each target costs: a step of ours with it, against one with pixels: python benchmarks/targets.py [SIZE ...]

The same encoder, decoder and batch for all. The teacher of `features` is as large as the encoder; a larger one costs
more, and with `--crop-kind whole` it is asked once for every view of the data. `codes` costs what its tokenizer does.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import smoke
from contenders import SIZES
from limits import allowed_precision
from records import RESULTS, write
from side_by_side import Variant, compare

TITLES = {"vits16": "ViT-S/16, 224 px", "cifar4": "ViT 192 x 12, 32 px, patch 4", "toy": "A toy"}
BASELINE = "pixels"


def texts(size: str) -> list[str]:
    """The targets that are compared at a size."""
    cell = min(8, SIZES[size].patch)
    values = 3 * SIZES[size].patch ** 2
    targets = [BASELINE, "pixels(scales=(1, 2))", f"pca(components={min(96, values // 8)})", "palette", "frequency"]
    targets += ["frequency(mode='laplacian')", "frequency(mode='fft')", f"hog(cell={cell})", "ema"]
    return [*targets, "features(of='random')", f"mix(a=pixels, b=hog(cell={cell}))"]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", default=["vits16", "cifar4"], metavar="SIZE", help=", ".join(TITLES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="per measurement")
    parser.add_argument("--batch", type=int, help="by default the size's own")
    parser.add_argument("--precision", help="by default bf16-weights, or 32 on a CPU that does not compute in bf16")
    parser.add_argument("--only", nargs="*", help="words: targets that have one of them, beside pixels")
    parser.add_argument("--together", action="store_true", help="in one process: less memory, whose peaks mean nothing")
    parser.add_argument("--products", type=int, help="rows of the large products that are measured beside the steps")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    if unknown := set(options.sizes) - set(TITLES):
        sys.exit(f"no size {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    precision = allowed_precision(options.precision, "cpu", "bf16-weights")
    for size in options.sizes:
        chosen = [text for text in texts(size) if text == BASELINE or _asked(text, options.only)]
        shared = {"who": "ours", "size": size, "steps": options.steps, "batch": options.batch, "precision": precision}
        shared["products"] = options.products
        variants = [Variant(text, "contenders.py:step", shared | {"target": text}) for text in chosen]
        title = f"Training step by target, {TITLES[size]}, batch {options.batch or SIZES[size].batch}, {precision}"
        rounds = {"rounds": options.rounds, "out": None, "in_process": options.smoke or options.together}
        record = compare(f"targets_{size}", title, variants, baseline=BASELINE, **rounds)
        write(record, options.out, {"GFLOP/image": lambda found: f"{found['gflop_per_image']:.1f}"})


def _asked(text: str, words: list[str] | None) -> bool:
    return words is None or any(word in text for word in words)


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    shared = ["--batch", "2", "--rounds", "1", "--products", "64"]
    yield ["toy", *shared, "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
