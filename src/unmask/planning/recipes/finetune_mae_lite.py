"""MAE-Lite's fine-tuning of ViT-Tiny on ImageNet-1K: less regularised than larger models. Wang et al. 2022.

Rate, layer decay, warm-up and pooling as in the authors' code. Test images are seen as in MAE's fine-tuning.
"""

from typing import Any

__all__ = ["mae_lite_finetune_vit_tiny"]
VERB = "transfer"


def mae_lite_finetune_vit_tiny() -> dict[str, Any]:
    """Fine-tune ViT-Ti/16, 300 epochs

    Command: unmask transfer RUN --on IMAGENET --recipe mae_lite_finetune_vit_tiny
    Cost: not in our sources
    Published: ImageNet-1K top-1 78.0 %; 75.8 % from scratch (MAE-Lite's repository)
    """
    return {
        "protocol": "full",
        "pooling": "mean",
        "epochs": 300.0,
        "batch": 1024,
        "optimizer": "adamw",
        "blr": 1e-3,
        "floor": 1e-6,
        "warmup": 5.0,
        "layer_decay": 0.85,
        "weight_decay": 0.05,
        "betas": (0.9, 0.999),
        "clip": 0.0,
        "drop_path": 0.0,
        "smoothing": 0.0,
        "mixup": 0.2,
        "cutmix": 0.0,
        "randaug": "rand-m10-mstd0.5-inc1",
        "erase": 0.0,
        "crop": 0.08,
        "flip": "on",
        "eval_crop": 224 / 256,
        "balanced": "off",
        "patience": 0.0,
    }
