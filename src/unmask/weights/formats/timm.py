"""State dicts of timm models, whatever they are wrapped in or prefixed with: files, hub folders, checkpoints of others.

Where one file holds several copies (an online network and its momentum twin), the online one is taken.
"""

import re

from unmask.weights.canonical import Canonical, WeightFile, WeightFormat, left_out, under

__all__ = ["TimmFile"]

ANCHOR = "patch_embed.proj.weight"
TWINS = ("momentum", "teacher", "ema", "target", "key")  # networks that follow another one
HEADS = ("head.", "head_dist.", "attn_pool.", "fc_norm.")


class TimmFile(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        prefix = _prefix(file)
        if prefix is None or file.name.startswith("mae_") or "timm" in file.header:
            return False
        others = {key for key in file.state if not key.startswith(prefix or "\0")}
        reference = {"decoder_embed.weight", "decoder.decoder_pred.weight", "decoder.decoder_embed.weight"}
        return not others & reference and prefix not in ("encoder.net.", "backbone.vit.")

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        prefix = _prefix(file) or ""
        state = under(file.state, prefix)
        head = {name: state[f"head.{name}"] for name in ("weight", "bias") if f"head.{name}" in state}
        pooled = "fc_norm.weight" in state and "norm.weight" not in state
        if pooled:
            state = {key.replace("fc_norm.", "norm."): value for key, value in state.items()}
        encoder = {key: value for key, value in state.items() if not key.startswith(HEADS)}
        encoder.pop("mask_token", None)
        rest = [key for key in state if key not in encoder and not key.startswith("head.")]
        rest += [key for key in file.state if not key.startswith(prefix)]
        settings = file.config.get("pretrained_cfg") or {}
        model = file.config.get("architecture") or file.header.get("arch")
        mean, std = settings.get("mean"), settings.get("std")
        return Canonical(
            layout="timm" + (f", under {prefix[:-1]}" if prefix else ""),
            encoder=encoder,
            model=str(model).split(".")[0] if model else None,
            statistics=(tuple(255.0 * m for m in mean), tuple(255.0 * s for s in std)) if mean and std else None,
            head=head or None,
            pooling=("mean" if pooled else "cls") if head else None,
            classes=tuple(file.config["label_names"]) if head and file.config.get("label_names") else None,
            licence=settings.get("license"),
            remarks=left_out(rest),
        )


def _prefix(file: WeightFile) -> str | None:
    """Before the patch embedding's name; of several, one that is no twin, then the shortest."""
    prefixes = [key.removesuffix(ANCHOR) for key in file.state if key.endswith(ANCHOR)]
    twin = {p: any(re.search(rf"(^|[._]){word}", p) for word in TWINS) for p in prefixes}
    return min(prefixes, key=lambda p: (twin[p], len(p)), default=None)
