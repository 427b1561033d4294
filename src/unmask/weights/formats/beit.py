"""Networks that unmask has no encoder for, refused at once with the reason: BEiT, SimMIM, CAE, Swin, video models
other than V-JEPA 2.

BEiT's attention (and that of SimMIM's and CAE's ViTs, which are built on it) adds a learnt bias for every pair of patch
offsets and has no bias for keys; without the former the features are others, so the weights are not read in part.
"""

import re

from unmask.errors import UserError
from unmask.weights.canonical import Canonical, WeightFile, WeightFormat, is_vjepa2

__all__ = ["Beit"]

SIGNS = (  # of keys; what the network is, and why it is not read
    (r"layers\.\d+\.blocks\.\d+\.attn\.(relative_position_bias_table|cpb_mlp)", "a Swin Transformer",
     "its windows move from block to block"),
    (r"relative_position_bias_table", "a ViT like BEiT's (BEiT, SimMIM, CAE, data2vec)",
     "its attention adds a relative position bias, which no encoder of unmask has"),
    (r"transformer\.resblocks\.", "a CLIP model in OpenAI's format", "unmask reads its image tower in timm's format"),
    (r"stages\.\d+\.blocks\.\d+\.(dwconv|conv_dw)|downsample_layers", "a ConvNeXt", "it has no patches to hide"),
    (r"layer1\.0\.conv1\.weight", "a ResNet", "it has no patches to hide"),
)  # fmt: skip


class Beit(WeightFormat):
    @staticmethod
    def recognises(file: WeightFile) -> bool:
        return not is_vjepa2(file.state) and _reason(file) is not None

    @staticmethod
    def canonical(file: WeightFile) -> Canonical:
        what, why = _reason(file) or ("", "")
        raise UserError(
            f"{file.name} holds {what}: {why}. Read are ViT, DeiT, MAE, MoCo v3, DINO, DINOv2, iBOT, I-JEPA, EVA, SAM's"
            " image encoder and Hiera"
        )


def _reason(file: WeightFile) -> tuple[str, str] | None:
    video = next((key for key, value in file.state.items() if "patch_embed" in key and value.ndim == 5), None)
    if video:
        return "a video model", f"its patches ({video}) have a time axis; V-JEPA 2's are read, in transformers' format"
    for sign, what, why in SIGNS:
        if any(re.search(sign, key) for key in file.state):
            return what, why
    return None
