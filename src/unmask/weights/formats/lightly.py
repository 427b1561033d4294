"""Checkpoints of lightly's MAE examples: a timm or a torchvision ViT under backbone., the decoder under decoder.

The timm kind keeps the reference decoder's names. The torchvision kind has a class_token, conv_proj, fused in_proj and
an mlp counted 0 and 3; its mask token lies beside the decoder and its position tables are learned. lightly's examples
predict plain pixels.
"""

from unmask.weights.canonical import (
    IMAGENET,
    MAE_DECODER,
    Canonical,
    WeightFile,
    WeightFormat,
    left_out,
    translate,
    translate_blocks,
    under,
)

__all__ = ["Lightly"]

INNER = (
    (r"ln_([12])\.(\w+)", r"norm\1.\2"),
    (r"self_attention\.in_proj_(\w+)", r"attn.qkv.\1"),
    (r"self_attention\.out_proj\.(\w+)", r"attn.proj.\1"),
    (r"mlp\.(?:0|linear_1)\.(\w+)", r"mlp.fc1.\1"),
    (r"mlp\.(?:3|linear_2)\.(\w+)", r"mlp.fc2.\1"),
)
ENCODER = (
    (r"class_token", "cls_token"),
    (r"conv_proj\.(\w+)", r"patch_embed.proj.\1"),
    (r"encoder\.pos_embedding", "pos_embed"),
    (r"encoder\.ln\.(\w+)", r"norm.\1"),
)
DECODER = (
    (r"pos_embedding", "position"),
    (r"decoder_embed\.(\w+)", r"embed.\1"),
    (r"ln\.(\w+)", r"norm.\1"),
    (r"prediction_head\.(\w+)", r"predict.\1"),
)


class Lightly(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        keys = set(file.state)
        torchvision = any(key.endswith("conv_proj.weight") for key in keys) and any(
            "class_token" in key for key in keys
        )
        return "backbone.vit.patch_embed.proj.weight" in keys or torchvision

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        state = file.state
        prefix = next(p for p in ("backbone.vit.", "backbone.", "vit.", "")
                      if any(p + key in state for key in ("conv_proj.weight", "patch_embed.proj.weight")))  # fmt: skip
        own = {key: value for key, value in under(state, prefix).items() if prefix or not key.startswith("decoder.")}
        if "conv_proj.weight" in own:
            encoder, rest = translate_blocks(own, "encoder.layers.encoder_layer_", ENCODER, INNER)
            decoder, _ = translate_blocks(under(state, "decoder."), "layers.encoder_layer_", DECODER, INNER)
            if "mask_token" in state and decoder:
                decoder["mask_token"] = state["mask_token"]
        else:
            encoder, rest = {k: v for k, v in own.items() if not k.startswith("head.")}, []
            decoder, _ = translate(under(state, "decoder."), MAE_DECODER)
        complete = {"embed.weight", "predict.weight", "mask_token"} <= set(decoder)
        others = [key for key in state if not key.startswith((prefix, "decoder.")) and key != "mask_token"]
        return Canonical(
            layout="lightly MAE",
            encoder=encoder,
            decoder=decoder if complete else None,
            statistics=IMAGENET,
            origin="ImageNet's, as in lightly's transforms",
            normalize=False if complete else None,
            remarks=left_out([*rest, *others]),
        )
