"""Checkpoints of DINO and iBOT: a backbone under timm's names and a projection head, of a student or its teacher.

`*_full_checkpoint.pth` (DINO) and `checkpoint.pth` (iBOT) hold both; see `copies.py` for which is read. iBOT's student
has a `masked_embed`, and its heads a second last layer for patches. Images are normalised as ImageNet's by both.
"""

from unmask.weights.canonical import IMAGENET, Canonical, WeightFile, WeightFormat, timm_vit, under, vit_prefix
from unmask.weights.licence import by_layout

__all__ = ["Dino"]

LICENCE = "Apache 2.0"


class Dino(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        prefix = vit_prefix(file.state)
        if prefix is None or any(key.startswith("dino_head.") for key in file.state):
            return False
        named = file.name.lower().startswith(("dino_", "ibot_"))
        return named or _has_head(file) or f"{prefix}masked_embed" in file.state

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        prefix = vit_prefix(file.state) or ""
        ibot = (
            f"{prefix}masked_embed" in file.state
            or "ibot" in file.name.lower()
            or any(key.startswith("head.last_layer2") for key in file.state)
        )
        maker = "iBOT" if ibot else "DINO"
        return timm_vit(
            file,
            maker,
            statistics=IMAGENET,
            origin=f"ImageNet's, as in {maker}'s code",
            licence=by_layout("ByteDance's iBOT" if ibot else "Meta's DINO", LICENCE),
        )


def _has_head(file: WeightFile) -> bool:
    head = under(file.state, "head.")
    return any(key.startswith(("last_layer.", "mlp.")) for key in head)
