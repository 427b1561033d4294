"""MAE's linear evaluation on ImageNet-1K. He et al. 2021, table 10; the official code trains L and H for fewer epochs.

A frozen encoder, its class token behind the encoder's norm, BatchNorm without parameters, a linear head; LARS at a rate
of 6.4. One thing differs: a crop that does not fit is drawn again, ten times at the most, where theirs is drawn once.
Where a batch is worked off in parts, BatchNorm takes its statistics from the parts.
"""

from typing import Any

__all__ = [
    "mae_linear_vit_base",
    "mae_linear_vit_huge",
    "mae_linear_vit_huge_paper",
    "mae_linear_vit_large",
    "mae_linear_vit_large_paper",
]
VERB = "transfer"


def mae_linear_vit_base() -> dict[str, Any]:
    """Linear classifier on ViT-B/16, 90 epochs, in the paper and the official code

    Command: unmask transfer RUN --on IMAGENET --recipe mae_linear_vit_base
    Cost: not in our sources
    Published: ImageNet-1K top-1 68.0 % (the paper), 67.8 % (official code), 67.1 % (mmpretrain)
    """
    return _linear(epochs=90)


def mae_linear_vit_large() -> dict[str, Any]:
    """Linear classifier on ViT-L/16 as the official code does, 50 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_linear_vit_large
    Cost: not in our sources
    Published: ImageNet-1K top-1 76.0 % (official code)
    """
    return _linear(epochs=50)


def mae_linear_vit_huge() -> dict[str, Any]:
    """Linear classifier on ViT-H/14 as the official code does, 50 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_linear_vit_huge
    Cost: not in our sources
    Published: ImageNet-1K top-1 77.2 % (official code)
    """
    return _linear(epochs=50)


def mae_linear_vit_large_paper() -> dict[str, Any]:
    """Linear classifier on ViT-L/16 as in the paper, 90 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_linear_vit_large_paper
    Cost: not in our sources
    Published: ImageNet-1K top-1 75.8 % (the paper)
    """
    return _linear(epochs=90)


def mae_linear_vit_huge_paper() -> dict[str, Any]:
    """Linear classifier on ViT-H/14 as in the paper, 90 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_linear_vit_huge_paper
    Cost: not in our sources
    Published: ImageNet-1K top-1 76.6 % (the paper)
    """
    return _linear(epochs=90)


def _linear(epochs: float) -> dict[str, Any]:
    return {
        "protocol": "linear",
        "pooling": "cls",
        "epochs": float(epochs),
        "batch": 16384,
        "optimizer": "lars",
        "blr": 0.1,
        "floor": 0.0,
        "warmup": 10.0,
        "layer_decay": 1.0,
        "weight_decay": 0.0,
        "clip": 0.0,
        "drop_path": 0.0,
        "smoothing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
        "randaug": "off",
        "erase": 0.0,
        "crop": 0.08,
        "flip": "on",
        "eval_crop": 224 / 256,
        "balanced": "off",
        "patience": 0.0,
    }
