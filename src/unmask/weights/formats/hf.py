"""Hugging Face folders of ViTMAE and ViT: config.json, and model.safetensors or pytorch_model.bin.

Query, key and value are stored apart. Names changed over the versions of transformers: decoder blocks are under
decoder_layers or decoder_encoder.layer, encoder blocks under encoder.layer, or under layers with q_proj inside. The
LayerNorm epsilon is 1e-12 by default, where the reference has 1e-6.
"""

from unmask.errors import UserError
from unmask.weights.canonical import (
    HALF,
    IMAGENET,
    MAE_DECODER,
    Canonical,
    Statistics,
    WeightFile,
    WeightFormat,
    fuse,
    left_out,
    translate,
    under,
)

__all__ = ["HuggingFace"]

INNER = (
    (r"layernorm_before\.(\w+)", r"norm1.\1"),
    (r"layernorm_after\.(\w+)", r"norm2.\1"),
    (r"attention\.(?:attention\.query|q_proj)\.(\w+)", r"attn.q.\1"),
    (r"attention\.(?:attention\.key|k_proj)\.(\w+)", r"attn.k.\1"),
    (r"attention\.(?:attention\.value|v_proj)\.(\w+)", r"attn.v.\1"),
    (r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"attn.proj.\1"),
    (r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)", r"mlp.fc1.\1"),
    (r"(?:output\.dense|mlp\.fc2)\.(\w+)", r"mlp.fc2.\1"),
)


ENCODER = [
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (r"layernorm\.(\w+)", r"norm.\1"),
    *((rf"(?:encoder\.layer|layers)\.(\d+)\.{old}", "blocks.\\1." + new.replace(r"\1", r"\2")) for old, new in INNER),
]
DECODER = [
    *MAE_DECODER,
    *(
        (rf"(?:decoder_layers|decoder_encoder\.layer)\.(\d+)\.{old}", "blocks.\\1." + new.replace(r"\1", r"\2"))
        for old, new in INNER
    ),
]
TYPES = {"vit_mae": "Hugging Face ViTMAE", "vit": "Hugging Face ViT"}


class HuggingFace(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return any(key.endswith("embeddings.patch_embeddings.projection.weight") for key in file.state)

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        config = file.config
        kind = config.get("model_type")
        if kind not in TYPES:
            why = f"its model_type is {kind!r}" if config else "it has no config.json, which tells heads and patch size"
            raise UserError(
                f"{file.name} has the keys of a Hugging Face model, but {why}; give the whole folder of a"
                f" {' or '.join(TYPES)} model, config.json included"
            )
        prefix = "vit." if any(key.startswith("vit.") for key in file.state) else ""
        own = {k: v for k, v in file.state.items() if prefix or not k.startswith(("decoder.", "classifier."))}
        encoder, rest = translate(under(own, prefix), ENCODER)
        decoder, _ = translate(under(file.state, "decoder."), DECODER)
        complete = "embed.weight" in decoder and "predict.weight" in decoder
        names, head = config.get("id2label") or {}, under(file.state, "classifier.")
        size = config.get("image_size", 224)
        heads = int(config["num_attention_heads"])
        return Canonical(
            layout=TYPES[kind],
            encoder=fuse(encoder),
            decoder=fuse(decoder) if complete else None,
            heads=heads,
            decoder_heads=int(config.get("decoder_num_attention_heads", 16)),
            norm_eps=config.get("layer_norm_eps"),
            image_size=(size, size) if isinstance(size, int) else tuple(size),
            statistics=_statistics(file, IMAGENET if kind == "vit_mae" else HALF),
            origin="as its preprocessor_config.json says" if file.preprocessor.get("image_mean") else _assumed(kind),
            normalize=bool(config.get("norm_pix_loss", False)) if complete else None,
            head=head or None,
            pooling="cls" if head else None,
            classes=tuple(names[key] for key in sorted(names, key=int)) if head and names else None,
            licence=config.get("license"),
            remarks=left_out(rest),
        )


def _statistics(file: WeightFile, usual: Statistics) -> Statistics | None:
    mean, std = file.preprocessor.get("image_mean"), file.preprocessor.get("image_std")
    channels = file.config.get("num_channels", 3)
    if mean and std:
        return tuple(255.0 * m for m in mean), tuple(255.0 * s for s in std)
    return usual if channels == 3 else None


def _assumed(kind: str) -> str:
    usual = "ImageNet's" if kind == "vit_mae" else "0.5"
    return f"{usual}, as this kind of model usually has; there is no preprocessor_config.json beside it"
