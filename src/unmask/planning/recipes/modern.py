"""What came after MAE's own recipe, as far as our parts are the publications'. What differs is said with each.

These keep MAE's optimiser (betas .9 and .95, weight decay .05). Where a publication's batch, rate or length is not
known to us, the plan chooses it; `not in our sources` means that we found no figure that we could check.
"""

from unmask.planning.recipe_book import Recipe, Setting, Values

__all__ = ["RECIPES"]


def modern_mae(setting: Setting) -> Values:
    """Parts that cost little: four register tokens (Darcet et al. 2023), rotary positions with learned frequencies (Heo
    et al. 2024), SwiGLU, a decoder of cross-attention (Fu et al. 2024), a moving average of the encoder. bf16 is the
    plan's choice where the device has it; the ratio is MAE's until `unmask tune` finds another for the data."""
    parts = "num_reg_tokens=4, swiglu_mlp=True, mlp_ratio=2.6667"
    small = f"vit_small_patch16_rope_mixed_224(embed_dim=192, depth=6, num_heads=3, {parts})"
    return {
        "model": small if setting.small else f"vit_base_patch16_rope_mixed_224({parts})",
        "method": "mae(ema=0.9999)",
        "mask": "random(ratio=0.75)",
        "decoder": "cross(dim=128, depth=2, heads=4)" if setting.small else "cross(dim=512, depth=8, heads=16)",
    }


def pixio(setting: Setting) -> Values:
    """A decoder of 32 blocks, squares of 4 x 4 patches hidden together, eight class tokens, learned positions. Data,
    batch, rate and length are not known to us beside 2 billion images of MetaCLIP; the decoder's positions are fixed
    here."""
    return {
        "model": "vit_huge_patch14_224(class_tokens=8, learned_positions=True)",
        "patch_size": 16,
        "image_size": (256, 256),
        "mask": "coarse(ratio=0.75, side=4)",
        "decoder": "full(dim=512, depth=32, heads=16)",
    }


def eva02_style(setting: Setting) -> Values:
    """CLIP's features predicted for hidden patches by a ViT with SwiGLU, rotary positions and norms inside its parts.
    EVA-02's teacher is EVA-CLIP and its second beta .98; here it is CLIP's ViT-L/14 and SimMIM's .999."""
    peak = 3e-3 if setting.small else 1.5e-3  # at a batch of 2048; the higher one for narrow encoders
    return {
        "model": "eva02_tiny_patch14_224" if setting.small else "eva02_base_patch14_224",
        "patch_size": 14,
        "image_size": (224, 224),
        "method": "simmim",
        "mask": "block(ratio=0.4)",
        "target": "features(of='timm:vit_large_patch14_clip_224.openai', loss='cosine')",
        "batch": 2048,
        "blr": peak * 256 / 2048,
        "epochs": 150.0,
        "warmup": 1.0,
    }


def dbot(setting: Setting) -> Values:
    """Two trainings of 800 epochs, each of a new student: the teacher of the first has random weights, that of the
    second is the first student."""
    return {
        "model": "vit_base_patch16_224(drop_path_rate=0.2)",
        "patch_size": 16,
        "image_size": (224, 224),
        "method": "dbot(rounds=2)",
        "mask": "random(ratio=0.75)",
        "decoder": "full(dim=512, depth=8, heads=16)",
        "epochs": 1600.0,
        "clip": 3.0,
    }


def hiera_mae(setting: Setting) -> Values:
    """Windows of 32 pixels hidden, stages fused, 16 x 16 pixels predicted by each token of the decoder. Length, batch
    and rate are as we remember them from the paper, unchecked."""
    return {
        "model": "hiera_base_224(q_pool=2)",
        "patch_size": 32,
        "image_size": (224, 224),
        "mask": "random(ratio=0.6)",
        "target": "pixels(cells=2)",
        "decoder": "multiscale(dim=512, depth=8, heads=16)",
        "batch": 4096,
        "blr": 8e-4 * 256 / 4096,
        "epochs": 1600.0,
    }


CLIP = (
    "the weights of CLIP, which unmask does not bring. It asks timm for vit_large_patch14_clip_224.openai, which takes"
    " a network the first time; or give a file or a Hugging Face folder, of CLIP or of any other teacher:"
    " --target \"features(of='PATH', loss='cosine')\""
)
RECIPES = [
    Recipe(
        "modern_mae",
        "pretrain",
        "Any data: a ViT with registers, rotary positions and SwiGLU, a decoder of cross-attention, averaged weights",
        "this combination is ours. Of its parts, ViT-B on ImageNet-1K: rotary positions with labels 83.4 -> 83.8 % at"
        " 224 pixels, 82.8 -> 84.4 % at 384 (RoPE-ViT); CrossMAE 83.7 % fine-tuned; what rotary positions and registers"
        " give MAE is not known",
        modern_mae,
        source="registers arXiv 2309.16588, cross-attention arXiv 2401.14391",
    ),
    Recipe(
        "pixio",
        "pretrain",
        "ViT-H/16 at 256 pixels, eight class tokens, 4 x 4 patches hidden together, a decoder of 32 x 512",
        "NYUv2 depth with DPT 95.5 (DINOv3 H+ 93.2); ADE20K linear 50.2 mIoU (DINOv3 H+ 50.3, MAE ViT-H 35.2), on 2"
        " billion images (its README)",
        pixio,
        source="Meta 2025, arXiv 2512.15715",
    ),
    Recipe(
        "eva02_style",
        "pretrain",
        "EVA-02 ViT-B/14, 40 % in blocks hidden, CLIP's features predicted, 150 epochs",
        "ImageNet-1K top-1 88.3 % (ViT-B, fine-tuned at 448 pixels), 80.7 % (ViT-Ti); pretrained on ImageNet-21K with"
        " EVA-CLIP (EVA-02's repository)",
        eva02_style,
        source="Fang et al. 2023, EVA-02",
        needs=CLIP,
    ),
    Recipe(
        "dbot",
        "pretrain",
        "ViT-B/16, 2 x 800 epochs, features of a student of before predicted",
        "ImageNet-1K top-1 84.5 % fine-tuned (ViT-B), 86.6 % (ViT-L); COCO 52.7 box AP, ADE20K 49.5 mIoU (dBOT's"
        " repository)",
        dbot,
        source="Liu et al. 2022, arXiv 2209.03917",
    ),
    Recipe(
        "hiera_mae",
        "pretrain",
        "Hiera-B, 60 % of windows of 32 pixels hidden, 1600 epochs, pixels normalised by 16 x 16",
        "ImageNet-1K top-1 84.5 % fine-tuned (Hiera-B), 82.8 % (T), 86.9 % (H) (Hiera's repository)",
        hiera_mae,
        source="Ryali et al. 2023, arXiv 2306.00989",
    ),
]
