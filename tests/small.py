"""The smallest run that still does everything: options for `pretrain` in tests."""

SMALL = {
    "model": "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)",
    "image_size": 32,
    "patch_size": 8,
    "decoder": "full(dim=32, depth=1, heads=2)",
    "batch": 8,
    "precision": "32",
    "device": "cpu",
}
