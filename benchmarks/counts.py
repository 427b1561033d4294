"""Counts of a training step that do not depend on the machine, held against limits in counts.json; a test runs this.

    python benchmarks/counts.py            compare
    python benchmarks/counts.py --write    take today's counts as the limits

A step that launches more kernels, waits for the device, computes, allocates, needs or ships more than before fails the
test, which says by how much. What is meant is written into the limits, and the commit shows the change.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import smoke
import torch
from torch.utils._python_dispatch import TorchDispatchMode

LIMITS = Path(__file__).parent / "counts.json"
SLACK = {
    "kernels": 0.02,
    "gflop": 0.005,
    "allocations": 0.02,
    "allocated_mb": 0.02,
    "needed_mb": 0.01,
}  # of the limit; others: none
MODEL = "vit_tiny_patch16_224(embed_dim=96, depth=3, num_heads=3)"
DECODER = "full(dim=64, depth=2, heads=4)"
BATCH, SIDE, PATCH = 8, 64, 8
SYNCS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal")  # the host waits for them
CASES = {
    "fp32": {"precision": "32"},
    "bf16": {"precision": "bf16"},
    "bf16-weights": {"precision": "bf16-weights"},
}


class Counter(TorchDispatchMode):
    """Counts what reaches the device. Views cost nothing, so they do not count."""

    def __init__(self):
        super().__init__()
        self.kernels = self.syncs = self.allocations = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name.rstrip("_") in [sync.rstrip("_") for sync in SYNCS] and name not in ("unique_dim",):
            self.syncs += 1
        by_mask = name.startswith("index") and any(t.dtype == torch.bool for t in _tensors(args[1:2]))
        self.syncs += by_mask  # how many elements a boolean index takes, only the device knows
        if func.is_view or name in ("detach", "alias", "lift_fresh"):
            return result
        self.kernels += 1
        given = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        for made in {t.untyped_storage().data_ptr(): t for t in _tensors(result)}.values():
            if made.untyped_storage().data_ptr() not in given:
                self.allocations += 1
                self.bytes += made.untyped_storage().nbytes()
        return result


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def count(precision: str) -> dict[str, float]:
    """Of one step of the loop: forward, backward, judging it, optimizer."""
    from torch.utils.flop_counter import FlopCounterMode

    from unmask.methods.mae import MAE
    from unmask.models.encoder import create_encoder
    from unmask.runtime.distributed.data_parallel import make_devices
    from unmask.runtime.settings import RuntimeSettings
    from unmask.training.loop import backward
    from unmask.training.loss_guard import Guard
    from unmask.training.optimizer import make_optimizer, set_rate, update
    from unmask.training.settings import Fit
    from unmask.training.speed.compile import ready
    from unmask.training.speed.step_cost import step_bytes
    from unmask.training.state import RunState

    torch.manual_seed(0)
    settings = RuntimeSettings(precision=precision, attention="matmul")  # the same everywhere
    objective = MAE(create_encoder(MODEL, image_size=(SIDE, SIDE), patch_size=PATCH), decoder=DECODER)
    devices = make_devices(settings)
    ready(objective, settings)
    model, optimizer = devices.setup(objective), make_optimizer(objective, weight_decay=0.05)
    batch = {"views": [torch.zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8)]}
    config, state = Fit(steps=3, batch=BATCH, lr=1e-4), RunState(steps=3)
    judge = Guard(state, None, devices)

    def step() -> None:
        set_rate(optimizer, 1e-4)
        outputs = backward(model, objective, optimizer, iter([batch]), config, devices)
        update(optimizer, judge.judge(outputs, 1, 1e-4))
        optimizer.zero_grad()

    needed = step_bytes(objective, batch, BATCH, devices.autocast)
    step()  # makes the optimizer's state
    with Counter() as counter:
        step()
    with FlopCounterMode(display=False) as flops:
        step()
    return {
        "kernels": counter.kernels,
        "host_syncs": counter.syncs,
        "gflop": round(flops.get_total_flops() / 1e9, 4),
        "allocations": counter.allocations,
        "allocated_mb": round(counter.bytes / 2**20, 2),
        "needed_mb": round(needed / 2**20, 2),
    }


def shipped() -> dict[str, float]:
    """Bytes of a sample on its way from the loader to the device."""
    import tempfile

    import numpy as np

    from unmask.data.datasets.images import Samples
    from unmask.data.loaders.map_style import Loader
    from unmask.data.source import open_source
    from unmask.data.transforms.kernels.crop import RandomCrop

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", np.zeros((BATCH, 80, 96, 3), dtype=np.uint8))
        source = open_source([str(Path(folder) / "images.npy")])
        samples = Samples(source, list(range(BATCH)), channels=3, max_side=4 * SIDE)
        (view,) = next(Loader(samples=samples, view=RandomCrop((SIDE, SIDE)), batch=BATCH)(0))["views"]
    return {"bytes_per_sample": view.nbytes / BATCH}


def counted(cases: Sequence[str] = tuple(CASES)) -> dict[str, dict[str, float]]:
    """All of them, by case."""
    return {name: count(CASES[name]["precision"]) for name in cases} | {"loader": shipped()}


def limits() -> dict[str, dict[str, float]]:
    """What is written down."""
    return json.loads(LIMITS.read_text()) if LIMITS.exists() else {}


def compare(found: dict[str, dict[str, float]], most: dict[str, dict[str, float]]) -> tuple[list[str], list[str]]:
    """What grew above its limit, and what shrank, as sentences."""
    grown, shrunk = [], []
    for case in sorted({*found, *most}):
        for name in sorted({*found.get(case, {}), *most.get(case, {})}):
            now, limit = found.get(case, {}).get(name), most.get(case, {}).get(name)
            if now is None or limit is None:
                grown.append(f"{case}, {name}: {now} now, {limit} in {LIMITS.name}")
            elif now > limit * (1 + SLACK.get(name, 0.0)):
                more = f" ({now / limit - 1:+.1%})" if limit else ""
                grown.append(f"{case}, {name}: {now:g}, the limit is {limit:g}{more}")
            elif now < limit * (1 - SLACK.get(name, 0.0)):
                shrunk.append(f"{case}, {name}: {now:g}, the limit is {limit:g} ({now / limit - 1:+.1%})")
    return grown, shrunk


ADVICE = "If this is meant, write it into the limits and say why in the commit: python benchmarks/counts.py --write"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="take today's counts as the limits")
    parser.add_argument("--limits", type=Path, default=LIMITS, help="file of the limits")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    found = counted(options.cases)
    grown, shrunk = compare(found, json.loads(options.limits.read_text()) if options.limits.exists() else {})
    for title, lines in (("above its limit", grown), ("below its limit", shrunk)):
        for line in lines:
            print(f"{title}: {line}")
    if options.write:
        options.limits.write_text(json.dumps(found, indent=1) + "\n")
        print(f"written: {options.limits.name}")
    elif grown:
        sys.exit(ADVICE)
    else:
        print("nothing grew")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    out.mkdir(parents=True, exist_ok=True)
    shared = ["--cases", "fp32", "--limits", str(out / LIMITS.name), "--smoke"]
    yield [*shared, "--write"]
    yield shared


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
