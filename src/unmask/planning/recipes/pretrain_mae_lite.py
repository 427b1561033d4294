"""MAE-Lite: MAE for ViT-Tiny. Wang et al. 2022, "A Closer Look at Self-Supervised Lightweight Vision Transformers".

MAE's recipe with 400 epochs, crops from 8 % of the area, 12 heads instead of 3, and a decoder of one block, 96 wide, as
in the authors' code.
"""

from typing import Any

__all__ = ["mae_lite_vit_tiny"]
VERB = "pretrain"


def mae_lite_vit_tiny() -> dict[str, Any]:
    """ViT-Ti/16 with 12 heads, 400 epochs, per-patch normalised pixels

    Command: unmask pretrain IMAGENET/train --recipe mae_lite_vit_tiny --out RUN
    Cost: not in our sources
    Published: ImageNet-1K top-1 78.0 % after 300 epochs of fine-tuning, 76.2 % after 100 (MAE-Lite's repository and an
        issue there)
    """
    return {
        "model": "vit_tiny_patch16_224(num_heads=12)",
        "image_size": (224, 224),
        "patch_size": 16,
        "channels": 3,
        "mask": "random(ratio=0.75)",
        "target": "pixels",
        "decoder": "full(dim=96, depth=1, heads=3)",
        "epochs": 400.0,
        "batch": 4096,
        "blr": 1.5e-4,
        "warmup": 40.0,
        "weight_decay": 0.05,
        "clip": 0.0,
        "crop": 0.08,
        "flip": "on",
    }
