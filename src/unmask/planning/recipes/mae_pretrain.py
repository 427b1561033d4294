"""MAE's pretraining on ImageNet-1K, and MAE-Lite's. He et al. 2021, table 8; the official PRETRAIN.md says the same.

AdamW with betas .9, .95 and weight decay .05 on matrices and tokens, no clipping, no colour jitter: what `pretrain`
always does. The rate is 1.5e-4 per 256 images of the batch, reached after 40 epochs, then half a cosine to zero.

MAE-Lite (Wang et al. 2022, "A Closer Look at Self-Supervised Lightweight Vision Transformers"): MAE for ViT-Tiny, with
400 epochs, crops from 8 % of the area, 12 heads instead of 3, and a decoder of one block, 96 wide, as in the authors'
code. With a teacher, the student's last block imitates the attention of MAE's ViT-B for the same visible patches, by
its squared difference with weight 1, its heads mixed by a learned matrix (their DISTILL.md and experiment).
"""

from unmask.planning.recipe_book import Recipe, Setting, Values, fixed

__all__ = ["RECIPES"]

SHARED = {
    "image_size": (224, 224),
    "channels": 3,
    "mask": "random(ratio=0.75)",
    "target": "pixels",
    "decoder": "full(dim=512, depth=8, heads=16)",
    "epochs": 1600.0,
    "batch": 4096,
    "blr": 1.5e-4,
    "warmup": 40.0,
    "weight_decay": 0.05,
    "clip": 0.0,
    "crop": 0.2,
    "flip": "on",
}
BASE = SHARED | {"model": "vit_base_patch16_224", "patch_size": 16}
LARGE = SHARED | {"model": "vit_large_patch16_224", "patch_size": 16}
HUGE = SHARED | {"model": "vit_huge_patch14_224", "patch_size": 14}
LITE = SHARED | {
    "model": "vit_tiny_patch16_224(num_heads=12)",
    "patch_size": 16,
    "decoder": "full(dim=96, depth=1, heads=3)",
    "epochs": 400.0,
    "crop": 0.08,
}


def mae_lite(setting: Setting) -> Values:
    """MAE-Lite with its teacher."""
    return LITE | {"method": "mae(attention_of='timm:vit_base_patch16_224.mae')"}


RECIPES = [
    Recipe(
        "mae_vit_base",
        "pretrain",
        "ViT-B/16, 1600 epochs, per-patch normalised pixels",
        "ImageNet-1K top-1 83.6 % fine-tuned, 68.0 % linear (the paper); 83.5 % and 67.1 % (mmpretrain)",
        fixed(BASE),
    ),
    Recipe(
        "mae_vit_huge",
        "pretrain",
        "ViT-H/14, 1600 epochs, per-patch normalised pixels",
        "ImageNet-1K top-1 86.9 % fine-tuned at 224 pixels, 76.6 % linear (the paper)",
        fixed(HUGE),
        cost="800 epochs take 34.5 h on 128 TPU-v3 cores (the paper, table 2)",
    ),
    Recipe(
        "mae_vit_large",
        "pretrain",
        "ViT-L/16, 1600 epochs, per-patch normalised pixels",
        "ImageNet-1K top-1 85.9 % fine-tuned, 75.8 % linear (the paper); 85.7 % and 75.5 % (mmpretrain)",
        fixed(LARGE),
        cost="31 h on 128 TPU-v3 cores (the paper, 4.2); 800 epochs take about 42 h on 64 V100 (PRETRAIN.md)",
    ),
    Recipe(
        "mae_vit_large_ablation",
        "pretrain",
        "ViT-L/16, 800 epochs, pixels as they are: the baseline of the paper's ablations",
        "ImageNet-1K top-1 84.9 % fine-tuned, 73.5 % linear (the paper, table 1)",
        fixed(LARGE | {"epochs": 800.0, "target": "pixels(normalize=False)"}),
        cost="15.4 h on 128 TPU-v3 cores (the paper, table 2)",
    ),
    Recipe(
        "mae_lite_vit_tiny",
        "pretrain",
        "ViT-Ti/16 with 12 heads, 400 epochs, per-patch normalised pixels",
        "ImageNet-1K top-1 78.0 % after 300 epochs of fine-tuning, 76.2 % after 100 (MAE-Lite's repository and an issue"
        " there)",
        fixed(LITE),
    ),
    Recipe(
        "mae_lite",
        "pretrain",
        "ViT-Ti/16 with 12 heads, 400 epochs, imitating the attention of MAE's ViT-B",
        "ImageNet-1K top-1 78.4 % after 300 epochs of fine-tuning; 78.0 % without the teacher (MAE-Lite's repository)",
        mae_lite,
        source="Wang et al. 2022, arXiv 2205.14443",
        needs="the weights of MAE's ViT-B, which unmask does not bring. It asks timm for vit_base_patch16_224.mae,"
        " which takes a network the first time; or give a file, a folder or a run: --method"
        " \"mae(attention_of='PATH')\"",
    ),
]
