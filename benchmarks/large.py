"""Large images: what windowed attention and recomputed activations are worth, in time and memory.

python benchmarks/large.py --image-size 1024
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import smoke
from limits import allowed_precision
from records import RESULTS
from side_by_side import Variant, compare

DECODER = "full(dim=128, depth=2, heads=4)"


def work(
    model: str,
    size: int,
    patch: int,
    batch: int,
    masked: bool,
    again: bool = False,
    decoder: str = DECODER,
    precision: str = "bf16",  # or 32
) -> Any:
    """Forward and backward of a pretraining step, or of the encoder alone with nothing hidden, as in fine-tuning."""
    import torch

    from unmask.methods.mae import MAE
    from unmask.models.encoder import create_encoder
    from unmask.runtime.machine import machine, tune
    from unmask.runtime.settings import RuntimeSettings
    from unmask.training.speed.compile import ready

    here = machine("cpu", precision)
    tune(here.device)
    torch.manual_seed(0)
    encoder = create_encoder(model, image_size=(size, size), patch_size=patch)
    settings = RuntimeSettings(attention="by-length", checkpoint_activations="on" if again else "off")
    objective = ready(MAE(encoder, decoder=decoder).train(), settings)
    x = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)

    def step() -> int:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = objective({"views": [x]})["loss"] if masked else encoder(x).units.square().mean()
        loss.backward()
        objective.zero_grad(set_to_none=True)
        return batch

    return step


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=int, default=14, help="patches")
    parser.add_argument("--precision", choices=("bf16", "32"), help="by default bf16, where the CPU computes in it")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    precision = allowed_precision(options.precision, "cpu")
    shape: dict[str, Any] = {"size": options.image_size, "patch": options.patch_size, "batch": options.batch}
    shape["precision"] = precision
    plain, windowed = (f"{options.model}(depth={options.depth}{more})" for more in ("", f", window={options.window}"))
    kinds: dict[str, dict[str, Any]] = {
        "all units, global": {"model": plain, "masked": False},
        f"all units, window {options.window}": {"model": windowed, "masked": False},
        "all units, recomputed": {"model": plain, "masked": False, "again": True},
        "pretrain, global": {"model": plain, "masked": True},
        f"pretrain, window {options.window}": {"model": windowed, "masked": True},
        "pretrain, recomputed": {"model": plain, "masked": True, "again": True},
    }
    compare(
        "large",
        f"{plain}, {options.image_size} pixels, forward and backward{', fp32' if precision == '32' else ''}",
        [Variant(name, "large.py:work", shape | kind) for name, kind in kinds.items()],
        baseline="all units, global",
        rounds=options.rounds,
        out=options.out,
        in_process=options.smoke,
    )


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    tiny = {"image-size": 64, "patch-size": 8, "model": "vit_tiny_patch16_224", "depth": 2, "window": 4, "rounds": 1}
    yield [*(word for name, value in tiny.items() for word in (f"--{name}", str(value))), "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
