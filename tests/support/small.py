"""The smallest run that still does everything: options for `pretrain` in tests; and a data sheet of a few facts."""

from unmask.data.sheet import Sheet

SMALL = {
    "model": "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)",
    "image_size": 32,
    "patch_size": 8,
    "decoder": "full(dim=32, depth=1, heads=2)",
    "batch": 8,
    "precision": "32",
    "device": "cpu",
}


def sheet_of(**facts) -> Sheet:
    """A sheet that knows these facts, and of others only what every choice of sizes looks at."""
    sheet, size = object.__new__(Sheet), facts.get("median_size", (64, 64))
    vars(sheet).update({"count": 100, "min_size": size, "median_size": size, "max_size": size, "share_extreme": 0.1})
    vars(sheet).update(facts)
    return sheet
