"""Training speed on one NVIDIA GPU: images per second at the best batch, ours and others', and what the card could do.

    python benchmarks/step.py vitb16 vitl16 vith14 --device cuda

Two limits are printed beside each speed. One is the matrix limit: the step's products at the speed of large bf16
products measured in the same run. The other also counts memory traffic: elementwise work reads and writes what the
products leave behind, and takes its own time at the bandwidth measured in the same run. The traffic of a fused step is
an estimate per token and unit of width: 60 bytes forward, 190 with backward.
"""

import argparse
import sys
from inspect import signature
from typing import Any

from contenders import SIZES, step
from limits import peaks, wait
from records import write
from side_by_side import Variant, compare

BYTES = 190  # per token and unit of width, forward and backward, with norms, additions and GELU fused
MOST = 4096  # images


def on_cuda(options: argparse.Namespace) -> None:
    """Finds the best batch of each variant, then compares them side by side at it."""
    import torch

    if not torch.cuda.is_available():
        if options.smoke:
            return _without_gpu(options)
        sys.exit("there is no CUDA GPU here; leave --device out to measure the CPU")
    best, width = peaks("cuda"), bandwidth()
    for size in options.sizes:
        limit, aware = limits(size, best["bf16"], width)
        found = [variant for who in contenders(options) for variant in best_batches(size, who, options)]
        facts = {
            "GFLOP/s of bf16 products": round(best["bf16"]), "GB/s of memory": round(width / 1e9),
            "matrix limit, images/s": round(limit), "with traffic, images/s": round(aware),
        }  # fmt: skip
        columns = {
            "of matrix limit": lambda seen, most=limit: f"{seen['speed'][1] / most:.0%}",
            "of limit with traffic": lambda seen, most=aware: f"{seen['speed'][1] / most:.0%}",
            "batch": lambda seen: f"{seen['batch']:.0f}",
            "GPU MiB": lambda seen: f"{seen['gpu_mb']:,.0f}",
        }
        record = compare(
            f"step_cuda_{size}", f"Training step, {size}, one GPU, best batch of each", found, baseline=found[0].name,
            rounds=options.rounds, facts=facts, out=None, in_process=options.smoke,
        )  # fmt: skip
        write(record, options.out, columns)
    return None


def _without_gpu(options: argparse.Namespace) -> None:
    """Of a smoke run: what can be checked on a CPU, that the arguments are there and the arithmetic of the limits."""
    products, places = peaks("cpu", options.products)["fp32"], signature(step).parameters
    for name, arguments in contenders(options):
        assert arguments.keys() <= places.keys(), f"{name}: {arguments}"
    for size in options.sizes:
        matrix, with_traffic = limits(size, products, bandwidth("cpu", 2**16))
        assert 0 < with_traffic < matrix, (size, matrix, with_traffic)
    print("needs a GPU, there is none here: nothing was measured; arguments and limits were checked")


def contenders(options: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """Names, and arguments of `contenders.step`."""
    eager = {"compile": "off"}
    found: list[tuple[str, dict[str, Any]]] = [
        ("transformers, bf16", {"who": "hf", "precision": "bf16"}),
        ("lightly, bf16", {"who": "lightly", "precision": "bf16"}),
        ("ours, eager, bf16", {"who": "ours", "precision": "bf16", "settings": eager}),
        ("ours, bf16", {"who": "ours", "precision": "bf16", "settings": {"compile": "on"}}),
        ("ours, bf16-weights", {"who": "ours", "precision": "bf16-weights", "settings": {"compile": "on"}}),
        ("ours, bf16-weights, graphs", {"who": "ours", "precision": "bf16-weights", "settings": {"compile": "graphs"}}),
    ]
    if options.decoder:
        asked = {"who": "ours", "precision": "bf16-weights", "settings": {"compile": "on"}, "decoder": options.decoder}
        found.append((f"ours, {options.decoder}", asked))
    return found


def best_batches(size: str, who: tuple[str, dict[str, Any]], options: argparse.Namespace) -> list[Variant]:
    """The variant at the batch at which it was fastest, doubling until memory ends; none where it does not run at all.
    Each size is tried in a process of its own, so that what one leaves in memory does not end another."""
    name, arguments = who
    shared = arguments | {"size": size, "device": "cuda", "steps": max(options.steps, 5)}
    batch, best, speed = options.batch or 32, None, 0.0
    while batch <= MOST:
        variant = Variant(name, "contenders.py:step", shared | {"batch": batch})
        record = compare("search", name, [variant], baseline=name, rounds=1, out=None)
        if name not in record["summary"]:
            break
        if (now := record["summary"][name]["speed"][1]) > speed:
            best, speed = variant, now
        if options.batch:
            break
        batch *= 2
    return [best] if best else []


def bandwidth(device: str = "cuda", count: int = 2**28) -> float:
    """Bytes per second, read and written, of a copy of so many numbers."""
    import time

    import torch

    a = torch.empty(count, dtype=torch.float32, device=device)
    b = torch.empty_like(a)
    times = []
    for _ in range(5):
        wait(device)
        start = time.perf_counter()
        b.copy_(a)
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * a.nbytes / min(times)


def limits(size: str, gflops: float, width: float) -> tuple[float, float]:
    """Images per second: by matrix products alone, and with the traffic of a fused step after them."""
    shape = SIZES[size]
    units = (shape.image // shape.patch) ** 2
    visible, (dim, depth, _) = units // 4 + 1, shape.decoder

    def block(tokens: int, width: int, queries: int | None = None) -> float:
        asked = tokens if queries is None else queries  # the last decoder block asks for the hidden units only
        projections = 2 * asked * width**2 + 2 * tokens * width**2 + 8 * asked * width**2
        return 2 * (projections + 2 * asked * tokens * width)

    pixels, hidden = 3 * shape.patch**2, units - units // 4
    forward = shape.depth * block(visible, shape.dim) + (depth - 1) * block(units + 1, dim)
    forward += block(units + 1, dim, hidden) + 2 * visible * shape.dim * (pixels + dim) + 2 * hidden * dim * pixels
    traffic = BYTES * (shape.depth * visible * shape.dim + depth * (units + 1) * dim)
    seconds = 3 * forward / (gflops * 1e9)
    return 1 / seconds, 1 / (seconds + traffic / width)
