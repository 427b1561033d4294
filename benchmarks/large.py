"""Large pictures: what windowed attention and recomputed activations are worth, in time and memory.

python benchmarks/large.py --image-size 1024
"""

import argparse
from typing import Any

from side_by_side import Variant, compare

DECODER = "full(dim=128, depth=2, heads=4)"


def work(
    model: str, size: int, patch: int, batch: int, masked: bool, again: bool = False, decoder: str = DECODER
) -> Any:
    """Forward and backward of a pretraining step, or of the encoder alone with nothing hidden, as in fine-tuning."""
    import torch

    from unmask.methods.mae import MAE
    from unmask.models.encoder import create_encoder
    from unmask.runtime.machine import machine, tune
    from unmask.training.speed.activation_checkpoint import recompute
    from unmask.training.speed.compile import ready

    here = machine("cpu", "bf16")
    tune(here.device)
    torch.manual_seed(0)
    encoder = create_encoder(model, image_size=(size, size), patch_size=patch)
    objective = ready(MAE(encoder, decoder=decoder).train(), {"attention": "by-length"})
    if again:
        recompute(objective)
    x = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8)

    def step() -> int:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = objective({"views": [x]})["loss"] if masked else encoder(x).units.square().mean()
        loss.backward()
        objective.zero_grad(set_to_none=True)
        return batch

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=1024)
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    shape = {"size": options.image_size, "patch": options.patch_size, "batch": options.batch}
    plain, windowed = (f"{options.model}(depth={options.depth}{more})" for more in ("", ", window=14"))
    kinds: dict[str, dict[str, Any]] = {
        "all units, global": {"model": plain, "masked": False},
        "all units, window 14": {"model": windowed, "masked": False},
        "all units, recomputed": {"model": plain, "masked": False, "again": True},
        "pretrain, global": {"model": plain, "masked": True},
        "pretrain, window 14": {"model": windowed, "masked": True},
        "pretrain, recomputed": {"model": plain, "masked": True, "again": True},
    }
    compare(
        "large",
        f"{plain}, {options.image_size} pixels, forward and backward",
        [Variant(name, "large.py:work", shape | kind) for name, kind in kinds.items()],
        baseline="all units, global",
        rounds=options.rounds,
    )


if __name__ == "__main__":
    main()
