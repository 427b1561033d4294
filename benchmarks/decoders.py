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
import sys
from pathlib import Path
from typing import Any

from records import RESULTS, write
from side_by_side import Variant, compare

HERE = Path(__file__).resolve().parent
PAGE, BEGIN, END = HERE.parent / "docs" / "decoders.md", "<!-- quality: begin -->", "<!-- quality: end -->"
PEER = "transformers, fp32"
TITLES = {"vitb16": "ViT-B/16, 224 px", "vits16": "ViT-S/16, 224 px", "cifar4": "ViT 192 x 12, 32 px, patch 4"}
LARGE = "vits16_896"


def texts(size: str) -> dict[str, str]:
    """The decoders that are compared at a size, by name; the peers' decoder comes first."""
    dim, depth, heads = (192, 4, 3) if size == "cifar4" else (512, 8, 16)
    same, window = f"dim={dim}, depth={depth}, heads={heads}", 14 if size == LARGE else 7 if dim == 512 else 4
    found = {
        "full": f"full({same})",
        "partial 1/2": f"partial(keep=0.5, {same})",
        "cross 1/3": f"cross({same})",
        "cross 1/10": f"cross(predict=0.1, {same})",
        "windowed": f"windowed(window={window}, {same})",
    }
    return found | ({"narrow": "narrow"} if dim == 512 else {"slim": "slim"})


def speed(options: argparse.Namespace) -> None:
    """Each decoder's step in the runtime's fastest precision, against the peers' default."""
    for size in options.sizes:
        shared = {"size": size, "steps": options.steps, "batch": options.batch}
        found = [Variant(PEER, "contenders.py:step", shared | {"who": "hf", "precision": "32"}, note="defaults")]
        for name, text in texts(size).items():
            arguments = shared | {"who": "ours", "precision": options.precision, "decoder": text}
            found.append(Variant(f"ours, {name}", "contenders.py:step", arguments, note=text))
        found = [v for v in found if v.name == PEER or _asked(v.name, options.only)]
        title = f"Training step by decoder, {TITLES[size]}, {options.precision}"
        _compare(f"decoders_{size}", title, found, PEER, options.rounds)


def large(options: argparse.Namespace) -> None:
    """Each decoder's step at 896 pixels, against our own full decoder."""
    found = []
    for name, text in texts(LARGE).items():
        arguments = {"text": text, "batch": options.batch or 1, "steps": options.steps, "precision": options.precision}
        found.append(Variant(name, "decoders.py:large_step", arguments, note=text))
    found = [v for v in found if v.name == "full" or _asked(v.name, options.only)]
    title = f"Training step by decoder, ViT-S/16, 896 px, {options.precision}"
    _compare(f"decoders_{LARGE}", title, found, "full", options.rounds)


def large_step(text: str, batch: int, steps: int, precision: str) -> Any:
    """A step of ours at 896 pixels: 3,136 patches."""
    from contenders import SIZES, Size, step

    SIZES[LARGE] = Size(896, 16, 384, 12, 6, name="vit_small_patch16_224", batch=1)
    return step("ours", LARGE, batch=batch, precision=precision, decoder=text, steps=steps)


def _asked(name: str, words: list[str] | None) -> bool:
    return words is None or any(word in name for word in words)


def _compare(name: str, title: str, variants: list[Variant], baseline: str, rounds: int) -> None:
    columns = {"GFLOP/image": lambda found: f"{found['gflop_per_image']:.1f}"}
    write(compare(name, title, variants, baseline=baseline, rounds=rounds), columns=columns)


def page() -> None:
    """Writes what `quality` has measured into the documentation, between two marks."""
    from decoder_quality import markdown

    found = "\n\n".join(markdown(path) for path in sorted(RESULTS.glob("decoders_quality_*.json")))
    text = PAGE.read_text(encoding="utf-8")
    mended = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{found}\n\n{END}", text, flags=re.S)
    PAGE.write_text(mended, encoding="utf-8")
    print(found or "nothing measured yet: python benchmarks/decoders.py quality LABELLED --name X")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind in ("speed", "large"):
        one = kinds.add_parser(kind)
        one.add_argument("--rounds", type=int, default=5)
        one.add_argument("--steps", type=int, default=1, help="per measurement")
        one.add_argument("--batch", type=int, help="by default the size's own; 1 at 896 pixels")
        one.add_argument("--precision", default="bf16-weights")
        one.add_argument("--only", nargs="*", help="words: decoders whose names have one of them, beside the baseline")
    kinds.choices["speed"].add_argument("sizes", nargs="*", default=list(TITLES), help=", ".join(TITLES))
    one = kinds.add_parser("quality")
    one.add_argument("data", nargs="+", help="labelled pictures: pretrained on without labels, judged with them")
    one.add_argument("--name", required=True, help="of the data, for tables and file names")
    one.add_argument("--out", type=Path, help="folder of the finished runs; by default runs/decoders-NAME")
    one.add_argument("--steps", type=int, default=1000, help="of the full decoder")
    one.add_argument("--seeds", type=int, default=3)
    one.add_argument("--labels", type=int, default=5000, help="training pictures of the probe, at the most")
    one.add_argument("--test", type=int, default=2000, help="test pictures of the probe, at the most")
    one.add_argument("--size", default="dim=192, depth=4, heads=6", help="of all decoders but the slim one")
    kinds.add_parser("page")
    options = parser.parse_args()
    if options.kind == "page":
        return page()
    if options.kind == "quality":
        from decoder_quality import quality

        return quality(options)
    if unknown := set(getattr(options, "sizes", ())) - set(TITLES):
        sys.exit(f"no size {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}")
    return speed(options) if options.kind == "speed" else large(options)


if __name__ == "__main__":
    main()
