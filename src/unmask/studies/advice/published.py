"""Published weights that the table of rules names: what fetching them takes, and which are on this disk already."""

from unmask.weights.timm_models import cached

MEGABYTES = {  # parameters in fp32
    "vit_base_patch14_dinov2.lvd142m": 346,
    "vit_small_patch14_dinov2.lvd142m": 88,
    "vit_small_patch16_224.dino": 87,
    "vit_base_patch16_224.mae": 343,
}


def on_disk() -> tuple[str, ...]:
    """Those that timm would open without a network."""
    return tuple(name for name in MEGABYTES if cached(name) is not None)
