"""How fast a training step is, ours and others', side by side: python benchmarks/step.py [SIZE ...]

Others: transformers' ViTMAE and lightly's MAE, which are on the package index, and the official implementation where
its folder is given. Same model, batch and machine; see contenders.py. On a GPU, `--device cuda` looks for the best
batch of each and compares speeds there.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
from contenders import SIZES, measurable
from limits import lacks_bf16
from records import RESULTS, write
from side_by_side import Variant, compare
from step_cuda import on_cuda

MAKE = "contenders.py:step"
TITLES = {
    "vitb16": "ViT-B/16, 224 px", "vits16": "ViT-S/16, 224 px", "vitl16": "ViT-L/16, 224 px",
    "vith14": "ViT-H/14, 224 px", "cifar4": "ViT 192 x 12, 32 px, patch 4", "toy": "A toy",
}  # fmt: skip
BASELINE = "transformers, fp32"


def variants(size: str, options: argparse.Namespace) -> list[Variant]:
    """What is compared, in the order of the table."""
    shared: dict[str, Any] = {
        "size": size,
        "batch": options.batch,
        "steps": options.steps,
        "products": options.products,
    }
    best = "32" if lacks_bf16("cpu") else "bf16-weights"

    def one(name: str, who: str, precision: str, note: str = "", **more: Any) -> Variant:
        return Variant(name, MAKE, shared | {"who": who, "precision": precision} | more, note=note)

    found = [
        one(BASELINE, "hf", "32", "defaults"),
        one("lightly, fp32", "lightly", "32", "defaults"),
        one("transformers, bf16", "hf", "bf16", "autocast"),
        one("lightly, bf16", "lightly", "bf16", "autocast"),
        one("ours, fp32", "ours", "32", "--precision 32"),
        one("ours, bf16", "ours", "bf16", "--precision bf16"),
        one("ours, bf16-weights", "ours", "bf16-weights", "--precision bf16-weights"),
    ]
    if options.decoder:
        name = f"ours, another decoder, {'fp32' if best == '32' else best}"
        found.append(one(name, "ours", best, options.decoder, decoder=options.decoder))
    if options.official:
        place = {"official": options.official}
        found += [
            one(f"official, {p}", "official", q, "defaults", **place) for p, q in (("fp32", "32"), ("bf16", "bf16"))
        ]
    if options.compile:
        compiled = {"settings": {"compile": "on"}}
        name = f"ours, {'fp32' if best == '32' else best}, compiled"
        found.append(one(name, "ours", best, "--compile on", **compiled))
    if options.only:
        found = [v for v in found if v.name == BASELINE or any(word in v.name for word in options.only)]
    return found


def share_of_peak(found: dict[str, Any]) -> str:
    """Of the bf16 products measured beside the steps: the best of them that the variant's own process saw."""
    if "peak_bf16" not in found:
        return "-"
    return f"{found['gflop_per_image'] * found['speed'][1] / found['peak_bf16']:.0%}"


COLUMNS = {
    "GFLOP/image": lambda found: f"{found['gflop_per_image']:.1f}",
    "% of bf16 peak": share_of_peak,
    "model+optimizer ms": lambda found: f"{found['model_ms']:.0f}+{found['optimizer_ms']:.0f}",
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sizes", nargs="*", default=["vitb16", "vits16", "cifar4"], metavar="SIZE", help=", ".join(SIZES)
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="per measurement")
    parser.add_argument("--batch", type=int, help="by default the size's own: 8, or 128 at 32 pixels")
    parser.add_argument("--decoder", help='of one more variant of ours, e.g. "cross"')
    parser.add_argument("--official", help="folder of the official implementation")
    parser.add_argument("--compile", action="store_true", help="with one more variant of ours: compiled blocks")
    parser.add_argument("--only", nargs="*", help="words: variants whose names have one of them, beside the baseline")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--products", type=int, help="rows of the large products that are measured beside the steps")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    if unknown := set(options.sizes) - set(SIZES):
        sys.exit(f"no size {', '.join(sorted(unknown))}; there are {', '.join(SIZES)}")
    if options.device == "cuda":
        return on_cuda(options)
    for size in options.sizes:
        batch = options.batch or SIZES[size].batch
        title = f"Training step, {TITLES[size]}, batch {batch}, CPU"
        compared, facts = measurable(variants(size, options), "cpu")
        shared = {"baseline": BASELINE, "rounds": options.rounds, "in_process": options.smoke, "out": None}
        record = compare(f"step_{size}", title, compared, facts=facts, **shared)
        for name in ("bf16", "fp32"):
            turns = [turn for turns in record["measured"].values() for turn in turns]
            if seen := [turn[f"peak_{name}"] for turn in turns if f"peak_{name}" in turn]:
                spread = f"{min(seen):.0f} - {statistics.median(seen):.0f} - {max(seen):.0f}"
                record["facts"][f"GFLOP/s of {name} products beside the steps, min-med-max"] = spread
        write(record, options.out, COLUMNS)
    return None


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    shared = ["toy", "--batch", "2", "--rounds", "1", "--products", "64", "--out", str(out), "--smoke"]
    yield [*shared, "--decoder", smoke.DECODER]
    yield [*shared, "--device", "cuda"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
