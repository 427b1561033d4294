"""MAE-Lite: MAE for ViT-Tiny. Wang et al. 2022, "A Closer Look at Self-Supervised Lightweight Vision Transformers".

Pretraining: MAE's recipe with 400 epochs, crops from 8 % of the area, 12 heads instead of 3, and a decoder of one
block, 96 wide, as in the authors' code. Fine-tuning on ImageNet-1K is less regularised than for larger models; rate,
layer decay, warm-up and pooling as in the authors' code. Test images are seen as in MAE's fine-tuning.
"""

from unmask.planning.recipe_book import Recipe
from unmask.planning.recipes import mae_pretrain, mae_transfer

__all__ = ["RECIPES"]

RECIPES = [
    Recipe(
        "mae_lite_vit_tiny",
        "pretrain",
        "ViT-Ti/16 with 12 heads, 400 epochs, per-patch normalised pixels",
        "ImageNet-1K top-1 78.0 % after 300 epochs of fine-tuning, 76.2 % after 100 (MAE-Lite's repository and an issue"
        " there)",
        mae_pretrain.SHARED
        | {
            "model": "vit_tiny_patch16_224(num_heads=12)",
            "patch_size": 16,
            "decoder": "full(dim=96, depth=1, heads=3)",
            "epochs": 400.0,
            "crop": 0.08,
        },
    ),
    Recipe(
        "mae_lite_finetune_vit_tiny",
        "transfer",
        "Fine-tune ViT-Ti/16, 300 epochs",
        "ImageNet-1K top-1 78.0 %; 75.8 % from scratch (MAE-Lite's repository)",
        mae_transfer.SHARED
        | {
            "protocol": "full",
            "pooling": "mean",
            "epochs": 300.0,
            "floor": 1e-6,
            "layer_decay": 0.85,
            "drop_path": 0.0,
            "smoothing": 0.0,
            "mixup": 0.2,
            "cutmix": 0.0,
            "randaug": "rand-m10-mstd0.5-inc1",
        },
    ),
]
