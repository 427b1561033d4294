"""MAE's evaluation with labels on ImageNet-1K: the paper's (He et al. 2021) and the official code's. And MAE-Lite's.

Fine-tuning (table 9, FINETUNE.md): the two differ. The code averages the patch tokens behind the last block and gives
the head its own norm, uses another rate and layer decay for ViT-B, more drop path, random erasing, and ends at a rate
of 1e-6. The paper takes the class token. Test images are resized to a short side of 256 pixels and centre-cropped to
224.

Linear (table 10; the official code trains L and H for fewer epochs): a frozen encoder, its class token behind the
encoder's norm, BatchNorm without parameters, a linear head; LARS at a rate of 6.4. One difference: a crop that does not
fit is redrawn up to ten times, theirs once. With several micro-batches, BatchNorm uses the statistics of each.

Partial fine-tuning (section 4.3, figure 9): the last blocks of ViT-L/16 alone, with the settings of table 9; for each
number of blocks the paper takes the best of 50, 100 and 200 epochs (`--epochs`).

From scratch with labels (table 11): a moving average of the weights, decay .9999, is kept as the result.

MAE-Lite (Wang et al. 2022) fine-tunes ViT-Tiny with less regularisation; rate, layer decay, warm-up and pooling as in
the authors' code. Test images are seen as in MAE's fine-tuning.
"""

from collections.abc import Mapping, Sequence

from unmask.planning.recipe_book import UNKNOWN, Recipe, fixed

__all__ = ["RECIPES"]

SHARED = {
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
PAPER = SHARED | {"protocol": "full", "pooling": "cls"}
OFFICIAL = SHARED | {"protocol": "full", "pooling": "mean", "erase": 0.25, "floor": 1e-6}
LINEAR = {key: value for key, value in SHARED.items() if key != "betas"} | {
    "protocol": "linear",
    "pooling": "cls",
    "batch": 16384,
    "optimizer": "lars",
    "blr": 0.1,
    "warmup": 10.0,
    "layer_decay": 1.0,
    "weight_decay": 0.0,
    "drop_path": 0.0,
    "smoothing": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
    "randaug": "off",
}
SCRATCH = SHARED | {
    "init": "none",
    "protocol": "full",
    "pooling": "cls",
    "batch": 4096,
    "blr": 1e-4,
    "warmup": 20.0,
    "layer_decay": 1.0,
    "weight_decay": 0.3,
    "betas": (0.9, 0.95),
    "ema": 0.9999,
}
LITE = SHARED | {
    "protocol": "full",
    "pooling": "mean",
    "floor": 1e-6,
    "layer_decay": 0.85,
    "drop_path": 0.0,
    "smoothing": 0.0,
    "mixup": 0.2,
    "cutmix": 0.0,
    "randaug": "rand-m10-mstd0.5-inc1",
}

# name without `mae_`, shared options, own options, cost; title; published result
Row = tuple[str, Mapping[str, object], Mapping[str, object], str, str, str]
PIXELS = "ImageNet-1K top-1 {} % after pretraining on normalised pixels, {} % on pixels as they are (the paper)".format
# fmt: off
ROWS: Sequence[Row] = [
    ("finetune_vit_base", OFFICIAL, {"epochs": 100.0, "blr": 5e-4, "layer_decay": 0.65}, "7 h 11 min on 32 V100",
     "Fine-tune ViT-B/16 as the official code does, 100 epochs",
     "ImageNet-1K top-1 83.57 % (standard deviation .08 over four runs; FINETUNE.md)"),
    ("finetune_vit_base_paper", PAPER, {"epochs": 100.0}, UNKNOWN,
     "Fine-tune ViT-B/16 as in the paper, 100 epochs",
     PIXELS(83.6, 83.3)),
    ("finetune_vit_huge", OFFICIAL, {"epochs": 50.0, "drop_path": 0.3}, "13 h 9 min on 64 V100",
     "Fine-tune ViT-H/14 as the official code does, 50 epochs",
     "ImageNet-1K top-1 86.9 % (FINETUNE.md)"),
    ("finetune_vit_huge_paper", PAPER, {"epochs": 50.0, "drop_path": 0.2}, UNKNOWN,
     "Fine-tune ViT-H/14 as in the paper, 50 epochs",
     PIXELS(86.9, 86.2)),
    ("finetune_vit_large", OFFICIAL, {"epochs": 50.0, "drop_path": 0.2}, "8 h 52 min on 32 V100",
     "Fine-tune ViT-L/16 as the official code does, 50 epochs",
     "ImageNet-1K top-1 85.87 % (standard deviation .07 over four runs; FINETUNE.md)"),
    ("finetune_vit_large_paper", PAPER, {"epochs": 50.0}, UNKNOWN,
     "Fine-tune ViT-L/16 as in the paper, 50 epochs",
     PIXELS(85.9, 85.1)),
    ("lite_finetune_vit_tiny", LITE, {"epochs": 300.0}, UNKNOWN,
     "Fine-tune ViT-Ti/16, 300 epochs",
     "ImageNet-1K top-1 78.0 %; 75.8 % from scratch (MAE-Lite's repository)"),
    ("linear_vit_base", LINEAR, {"epochs": 90.0}, UNKNOWN,
     "Linear classifier on ViT-B/16, 90 epochs, in the paper and the official code",
     "ImageNet-1K top-1 68.0 % (the paper), 67.8 % (official code), 67.1 % (mmpretrain)"),
    ("linear_vit_huge", LINEAR, {"epochs": 50.0}, UNKNOWN,
     "Linear classifier on ViT-H/14 as the official code does, 50 epochs",
     "ImageNet-1K top-1 77.2 % (official code)"),
    ("linear_vit_huge_paper", LINEAR, {"epochs": 90.0}, UNKNOWN,
     "Linear classifier on ViT-H/14 as in the paper, 90 epochs",
     "ImageNet-1K top-1 76.6 % (the paper)"),
    ("linear_vit_large", LINEAR, {"epochs": 50.0}, UNKNOWN,
     "Linear classifier on ViT-L/16 as the official code does, 50 epochs",
     "ImageNet-1K top-1 76.0 % (official code)"),
    ("linear_vit_large_paper", LINEAR, {"epochs": 90.0}, UNKNOWN,
     "Linear classifier on ViT-L/16 as in the paper, 90 epochs",
     "ImageNet-1K top-1 75.8 % (the paper)"),
    ("partial_vit_large", PAPER, {"protocol": "partial", "blocks": 1.0, "epochs": 50.0}, UNKNOWN,
     "Fine-tune the last block of ViT-L/16, or as many as --blocks says (0.5: its MLP)",
     "ImageNet-1K top-1 after 800 epochs on pixels as they are (the paper, figure 9), by blocks 0 / 0.5 / 1 / 2 / 4"
     " / 6 / 12 / 18 / 24: 73.5 / 79.1 / 81.0 / 83.1 / 84.2 / 84.4 / 84.6 / 84.7 / 84.9 %"),
    ("scratch_vit_base", SCRATCH, {"epochs": 300.0}, UNKNOWN,
     "ViT-B/16 from scratch with labels, 300 epochs",
     "ImageNet-1K top-1 82.3 %; 82.1 % without the moving average (the paper)"),
    ("scratch_vit_huge", SCRATCH, {"epochs": 200.0, "drop_path": 0.2}, UNKNOWN,
     "ViT-H/14 from scratch with labels, 200 epochs",
     "ImageNet-1K top-1 83.1 %; 80.9 % without the moving average (the paper)"),
    ("scratch_vit_large", SCRATCH, {"epochs": 200.0, "drop_path": 0.2}, UNKNOWN,
     "ViT-L/16 from scratch with labels, 200 epochs",
     "ImageNet-1K top-1 82.6 %; 81.5 % without the moving average (the paper)"),
]
# fmt: on
RECIPES = [
    Recipe(f"mae_{name}", "transfer", title, published, fixed({**shared, **own}), cost)
    for name, shared, own, cost, title, published in ROWS
]
