"""MAE's partial fine-tuning of ViT-L/16 on ImageNet-1K: the last blocks alone. He et al. 2021, section 4.3, figure 9.

Settings of table 9; for each number of blocks the paper takes the best of 50, 100 and 200 epochs (`--epochs`).
"""

from typing import Any

__all__ = ["mae_partial_vit_large"]
VERB = "transfer"


def mae_partial_vit_large() -> dict[str, Any]:
    """Fine-tune the last block of ViT-L/16, or as many as --blocks says (0.5: its MLP)

    Command: unmask transfer RUN --on IMAGENET --recipe mae_partial_vit_large --blocks 4
    Cost: not in our sources
    Published: ImageNet-1K top-1 after 800 epochs on pixels as they are (the paper, figure 9), by blocks 0 / 0.5 / 1 / 2
        / 4 / 6 / 12 / 18 / 24: 73.5 / 79.1 / 81.0 / 83.1 / 84.2 / 84.4 / 84.6 / 84.7 / 84.9 %
    """
    return {
        "protocol": "partial",
        "blocks": 1.0,
        "pooling": "cls",
        "epochs": 50.0,
        "batch": 1024,
        "optimizer": "adamw",
        "blr": 1e-3,
        "floor": 0.0,
        "warmup": 5.0,
        "layer_decay": 0.75,
        "weight_decay": 0.05,
        "betas": (0.9, 0.999),
        "clip": 0.0,
        "drop_path": 0.1,
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
