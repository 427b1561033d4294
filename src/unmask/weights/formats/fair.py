"""Files of the reference MAE implementation, and of the many programs that kept its key names.

Encoder keys are timm's; the decoder's begin with decoder_. `mae_pretrain_*` predict per-patch normalised pixels,
`mae_visualize_*` plain ones. Fine-tuned files have fc_norm, which is applied after pooling, in place of norm. A file
that has another name is known by its decoder, or by MAE's fixed position table.
"""

from unmask.weights.canonical import IMAGENET, MAE_DECODER, Canonical, WeightFile, WeightFormat, left_out, translate
from unmask.weights.licence import NOT_COMMERCIAL, by_layout
from unmask.weights.positions import is_mae_table

__all__ = ["Fair"]

TARGETS = {"mae_pretrain": True, "mae_visualize": False}  # file name -> predicts normalised pixels
HEADS = 16  # of its decoders, for every encoder
WIDTHS = (768, 1024, 1280)  # of the encoders that Meta published


class Fair(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        if "patch_embed.proj.weight" not in file.state or "encoder_norm.weight" in file.state:  # the latter is Hiera's
            return False
        has_decoder = {"decoder_embed.weight", "decoder_pred.weight"} <= set(file.state)
        bare = not file.config and "timm" not in file.header and "cls_token" in file.state
        return has_decoder or file.name.startswith("mae_") or (bare and is_mae_table(file.state))

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        decoder, rest = translate(file.state, MAE_DECODER)
        encoder = {key: file.state[key] for key in rest}
        head = {name: encoder.pop(f"head.{name}") for name in ("weight", "bias") if f"head.{name}" in encoder}
        pooled = "fc_norm.weight" in encoder
        if pooled:
            encoder = {key: value for key, value in encoder.items() if not key.startswith("norm.")}
            encoder = {key.replace("fc_norm.", "norm."): value for key, value in encoder.items()}
        normalize = next((value for name, value in TARGETS.items() if file.name.startswith(name)), None)
        width = encoder["patch_embed.proj.weight"].shape[0]
        complete = "embed.weight" in decoder
        remarks = [] if complete else list(left_out(list(decoder)))
        if complete and normalize is None:
            remarks.append("whether its decoder predicts normalised pixels is not written in the file")
        return Canonical(
            layout="reference MAE",
            encoder=encoder,
            decoder=decoder if complete else None,
            decoder_heads=HEADS if complete and decoder["embed.weight"].shape[0] == 512 else None,
            statistics=IMAGENET,
            origin="ImageNet's, as in MAE's code",
            licence=by_layout("Meta's MAE", NOT_COMMERCIAL) if width in WIDTHS else None,
            normalize=normalize,
            head=head or None,
            pooling=("mean" if pooled else "cls") if head else None,
            remarks=tuple(remarks),
        )
