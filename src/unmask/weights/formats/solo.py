"""Checkpoints of solo-learn's MAE: the encoder under backbone., the decoder under decoder. with the reference names.

A trap: its MAE encoders of every width up to ViT-B have 12 attention heads (L and H have 16), so that ViT-Tiny's are 16
wide and ViT-Small's 32. No shape tells. Its MAE predicts plain pixels unless its config says otherwise.
"""

from unmask.weights.canonical import (
    IMAGENET,
    MAE_DECODER,
    Canonical,
    WeightFile,
    WeightFormat,
    left_out,
    translate,
    under,
)

__all__ = ["SoloLearn"]

HEADS = {192: 12, 384: 12, 768: 12, 1024: 16, 1280: 16}  # width -> heads of its MAE encoders


class SoloLearn(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return {"backbone.patch_embed.proj.weight", "decoder.decoder_pred.weight"} <= set(file.state) and not any(
            key.startswith("backbone.vit.") for key in file.state
        )

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        decoder, _ = translate(under(file.state, "decoder."), MAE_DECODER)
        encoder = under(file.state, "backbone.")
        mine = {key: value for key, value in encoder.items() if not key.startswith(("fc_norm.", "head."))}
        others = [key for key in file.state if not key.startswith(("backbone.", "decoder."))]
        heads = HEADS.get(encoder["patch_embed.proj.weight"].shape[0])
        return Canonical(
            layout="solo-learn MAE",
            encoder=mine,
            decoder=decoder,
            heads=heads,
            heads_origin="as in solo-learn's MAE models",
            statistics=IMAGENET,
            origin="ImageNet's, as in solo-learn's configs",
            remarks=left_out([*others, *(f"backbone.{key}" for key in encoder if key not in mine)]),
        )
