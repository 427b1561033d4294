"""Where the time of our training step goes, by torch's profiler: python benchmarks/time_spent.py [SIZE]"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
from contenders import SIZES, step
from limits import allowed_precision
from records import RESULTS, machine

KINDS = {  # by operator, the first that matches; of an operator's own time, without what it calls
    "matrix products": ("addmm", "mm", "linear", "mkldnn", "onednn", "gemm", "convolution", "conv"),
    "attention": ("bmm", "baddbmm", "softmax", "scaled_dot", "flash", "attention"),
    "GELU": ("gelu",),
    "layer norm": ("layer_norm",),
    "copies and casts": ("copy_", "_to_copy", "to", "cat", "index", "gather", "stack", "contiguous", "clone"),
    "optimizer": ("adam",),
    "sums and other elementwise work": (
        "add",
        "sum",
        "mul",
        "div",
        "sub",
        "norm",
        "pow",
        "sqrt",
        "mean",
        "var",
        "fill",
    ),
}


def kind(name: str) -> str:
    inner = name.removeprefix("aten::").removeprefix("torch::").lower()
    if inner in ("bmm", "baddbmm"):
        return "attention"
    return next((title for title, parts in KINDS.items() if any(part in inner for part in parts)), "other")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", default="vits16", choices=SIZES)
    parser.add_argument("--precision", help="by default bf16, or 32 on a CPU that does not compute in bf16")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    import torch
    from torch.profiler import ProfilerActivity, profile

    precision = allowed_precision(options.precision, options.device)
    one = step("ours", options.size, options.batch, options.device, precision)
    one(alone=True)
    gpu = options.device == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as seen:
        for _ in range(options.steps):
            one(alone=True)
    events = [e for e in seen.key_averages() if e.key.startswith(("aten::", "torch::")) or gpu]
    own = {e.key: (e.self_device_time_total if gpu else e.self_cpu_time_total) / 1e3 / options.steps for e in events}
    total, by_kind = sum(own.values()), dict.fromkeys([*KINDS, "other"], 0.0)
    for name, ms in own.items():
        by_kind[kind(name)] += ms
    batch = options.batch or SIZES[options.size].batch
    record: dict[str, Any] = {
        "name": f"profile_{options.size}_{precision}" + ("_cuda" if gpu else ""),
        "title": f"Where a step's time goes, {options.size}, batch {batch}, {precision}",
        "machine": machine(),
        "milliseconds": total,
        "threads": torch.get_num_threads(),
        "shares": {title: ms / total for title, ms in by_kind.items()},
        "operators": {
            name: {"ms": round(own[name], 3), "calls": next(e.count for e in events if e.key == name) / options.steps}
            for name in sorted(own, key=own.get, reverse=True)[:25]  # type: ignore[arg-type]
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{record['name']}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{record['title']}: {total:.0f} ms in operators")
    for title, share in record["shares"].items():
        print(f"  {share:6.1%}  {title}")
    for name, found in record["operators"].items():
        print(f"  {found['ms']:9.2f} ms {found['calls']:7.0f} calls  {name}")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["toy", "--batch", "2", "--steps", "1", "--precision", "32", "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
