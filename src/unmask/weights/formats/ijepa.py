"""Checkpoints of I-JEPA: `encoder`, its moving average `target_encoder`, and a `predictor`. ViTs without a class token.

Their position table is MAE's. Which of the two encoders is read, see `copies.py`; I-JEPA's own evaluation takes the
target encoder.
"""

from unmask.weights.canonical import IMAGENET, Canonical, WeightFile, WeightFormat, timm_vit, under, vit_prefix
from unmask.weights.licence import NOT_COMMERCIAL, by_layout
from unmask.weights.positions import is_mae_table

__all__ = ["IJepa"]


class IJepa(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        prefix = vit_prefix(file.state)
        if prefix in (None, "encoder.net.") or file.config or "timm" in file.header:
            return False
        if {"encoder", "predictor"} <= set(file.networks):
            return True
        own = under(file.state, prefix or "")
        return not {"cls_token", "reg_token", "decoder_embed.weight"} & own.keys() and is_mae_table(own)

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        return timm_vit(
            file,
            "I-JEPA",
            statistics=IMAGENET,
            origin="ImageNet's, as in I-JEPA's code",
            licence=by_layout("Meta's I-JEPA", NOT_COMMERCIAL),
        )
