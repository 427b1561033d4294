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
    """A sheet that knows these facts and no others."""
    sheet = object.__new__(Sheet)
    vars(sheet).update(facts)
    return sheet
