"""Weights of MoCo v3: `base_encoder.` and `momentum_encoder.` of its pretraining, or a linear classifier's network.

Two traps. Its ViT-S has 12 attention heads of width 32, where all others have 6 of 64, and no shape tells. Its fixed
position table has rows first, [y | x], where MAE's has columns first: by that a renamed file is still known.
"""

from unmask.weights.canonical import IMAGENET, Canonical, WeightFile, WeightFormat, timm_vit, under, vit_prefix
from unmask.weights.licence import NOT_COMMERCIAL, by_layout
from unmask.weights.positions import is_moco_table

__all__ = ["Moco"]

HEADS = {384: 12, 768: 12, 1024: 16, 1280: 16}  # width -> attention heads of its encoders


class Moco(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        prefix = vit_prefix(file.state)
        if prefix is None or file.config or "timm" in file.header:
            return False
        return prefix in ("base_encoder.", "momentum_encoder.") or is_moco_table(under(file.state, prefix))

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        prefix = vit_prefix(file.state) or ""
        heads = HEADS.get(file.state[f"{prefix}patch_embed.proj.weight"].shape[0])
        return timm_vit(
            file,
            "MoCo v3",
            heads=heads,
            heads_origin="as in MoCo v3's encoders of this width",
            statistics=IMAGENET,
            origin="ImageNet's, as in MoCo v3's code",
            licence=by_layout("Meta's MoCo v3", NOT_COMMERCIAL),
        )
