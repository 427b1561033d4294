"""Small pyramids, each made once."""

import torch

from unmask import registry
from unmask.models.encoder import create_encoder

SMALL = "embed_dim=16, num_heads=2"
PLAIN = f"vit_tiny_patch16_224({SMALL}, depth=5, window=2)"
HIERA = "hiera_tiny_224(embed_dim=8, stages=(1, 1, 1, 1))"
MADE = {}


def make(text, model=PLAIN, patch=None):
    if (text, model, patch) not in MADE:
        torch.manual_seed(0)
        side = 64 if patch is None else 4 * patch
        encoder = create_encoder(model, image_size=(side, side), patch_size=patch).eval()
        MADE[text, model, patch] = encoder, registry.build("pyramid", text, encoder=encoder).eval()
    return MADE[text, model, patch]
