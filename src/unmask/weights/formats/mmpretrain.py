"""Checkpoints of mmpretrain's (and mmselfsup's) MAE: backbone.layers.i.ln1, ffn.layers.0.0, the decoder under neck.

Its decoder's last norm is neck.ln1. Its MAE predicts per-patch normalised pixels (norm_pix in all its MAE configs).
"""

from unmask.weights.canonical import (
    IMAGENET,
    MAE_DECODER,
    Canonical,
    WeightFile,
    WeightFormat,
    left_out,
    translate_blocks,
    under,
)

__all__ = ["MMPretrain"]

INNER = (
    (r"(?:ln|norm)([12])\.(\w+)", r"norm\1.\2"),
    (r"attn\.(qkv|proj)\.(\w+)", r"attn.\1.\2"),
    (r"ffn\.layers\.0\.0\.(\w+)", r"mlp.fc1.\1"),
    (r"ffn\.layers\.1\.(\w+)", r"mlp.fc2.\1"),
)
OUTER = (
    (r"(cls_token|pos_embed)", r"\1"),
    (r"patch_embed\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"(?:ln1|norm1)\.(\w+)", r"norm.\1"),
)


class MMPretrain(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return any(f"{prefix}patch_embed.projection.weight" in file.state for prefix in ("", "backbone."))

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        state = file.state
        prefix = "backbone." if "backbone.patch_embed.projection.weight" in state else ""
        own = under(state, prefix) if prefix else state
        encoder, rest = translate_blocks(own, "layers.", OUTER, INNER)
        named = {key.replace("ln1.", "decoder_norm.", 1) if key.startswith("ln1.") else key: value
                 for key, value in under(state, "neck.").items()}  # fmt: skip
        decoder, _ = translate_blocks(named, "decoder_blocks.", MAE_DECODER, INNER)
        complete = {"embed.weight", "norm.weight", "predict.weight"} <= set(decoder)
        numbers = [state.get(f"data_preprocessor.{name}") for name in ("mean", "std")]
        mean, std = (None if tensor is None else tuple(tensor.flatten().tolist()) for tensor in numbers)
        stated = (mean, std) if mean and std else None
        return Canonical(
            layout="mmpretrain",
            encoder=encoder,
            decoder=decoder if complete else None,
            statistics=stated or IMAGENET,
            normalize=True if complete else None,
            origin="as its data_preprocessor says" if stated else "ImageNet's, as in its configs",
            remarks=left_out(rest),
        )
