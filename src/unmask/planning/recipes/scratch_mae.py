"""Training ViT from scratch with labels on ImageNet-1K: the baseline of MAE's paper. He et al. 2021, table 11.

A moving average of the weights, decay .9999, is kept as the result.
"""

from typing import Any

__all__ = ["mae_scratch_vit_base", "mae_scratch_vit_huge", "mae_scratch_vit_large"]
VERB = "transfer"


def mae_scratch_vit_base() -> dict[str, Any]:
    """ViT-B/16 from scratch with labels, 300 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_scratch_vit_base
    Cost: not in our sources
    Published: ImageNet-1K top-1 82.3 %; 82.1 % without the moving average (the paper)
    """
    return _scratch(epochs=300, drop_path=0.1)


def mae_scratch_vit_large() -> dict[str, Any]:
    """ViT-L/16 from scratch with labels, 200 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_scratch_vit_large
    Cost: not in our sources
    Published: ImageNet-1K top-1 82.6 %; 81.5 % without the moving average (the paper)
    """
    return _scratch(epochs=200, drop_path=0.2)


def mae_scratch_vit_huge() -> dict[str, Any]:
    """ViT-H/14 from scratch with labels, 200 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_scratch_vit_huge
    Cost: not in our sources
    Published: ImageNet-1K top-1 83.1 %; 80.9 % without the moving average (the paper)
    """
    return _scratch(epochs=200, drop_path=0.2)


def _scratch(epochs: float, drop_path: float) -> dict[str, Any]:
    return {
        "init": "none",
        "protocol": "full",
        "pooling": "cls",
        "epochs": float(epochs),
        "batch": 4096,
        "optimizer": "adamw",
        "blr": 1e-4,
        "floor": 0.0,
        "warmup": 20.0,
        "layer_decay": 1.0,
        "weight_decay": 0.3,
        "betas": (0.9, 0.95),
        "clip": 0.0,
        "drop_path": drop_path,
        "ema": 0.9999,
        "smoothing": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "randaug": "rand-m9-mstd0.5-inc1",
        "erase": 0.0,
        "crop": 0.08,
        "flip": "on",
        "eval_crop": 224 / 256,
        "balanced": "off",
        "patience": 0.0,
    }
