"""Learning to find objects, on an encoder: the losses of Faster and Mask R-CNN. Li et al. 2022 (ViTDet), appendix.

Two protocols: `full` trains everything, with a rate that falls towards the input; `linear` the pyramid and the heads
alone, on a frozen encoder.
"""

import torch
from torch import Tensor, nn

from unmask.detection.detector import Detector
from unmask.encoder import Encoder
from unmask.errors import UserError, closest
from unmask.objective import Batch, Task

__all__ = ["Detect"]
PROTOCOLS = ("full", "linear")
PREFIX = "detector.rcnn.backbone.encoder."
UNDECAYED = ("pos_embed", "cls_token", "reg_token")
NAMES = {  # torchvision's names of losses -> those of records
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal_boxes",
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
    "loss_mask": "masks",
}


class Detect(Task):
    def __init__(self, detector: Detector, protocol: str = "full", layer_decay: float = 1.0):
        """layer_decay: factor on the learning rate from each layer to the one before."""
        super().__init__()
        if protocol not in PROTOCOLS:
            near = closest(protocol, PROTOCOLS)
            raise UserError(f"--protocol {protocol}: to detect there are {' and '.join(PROTOCOLS)}{near}")
        self.detector, self.protocol, self.layer_decay = detector, protocol, layer_decay
        net = self.encoder.net
        if protocol == "full" and getattr(net, "pos_embed", None) is not None:
            net.pos_embed.requires_grad_(True)  # fixed in pretraining, learned here, as in ViTDet
        if protocol == "linear":
            self.encoder.requires_grad_(False)  # relative positions too, which lie beside the net
        for name, parameter in net.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)

    @property
    def encoder(self) -> Encoder:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.detector.encoder

    @property
    def result(self) -> Detector:
        return self.detector

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of all losses, and each; batch["targets"] holds boxes, labels and masks of each picture."""
        found = {NAMES[name]: value for name, value in self.detector(batch["views"][0], batch["targets"]).items()}
        return {"loss": torch.stack(list(found.values())).sum()} | found

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """Layer decay by depth; positions, tokens and one-dimensional parameters do not decay, as in ViTDet."""
        inside = name.startswith(PREFIX)
        depth = self.encoder.depth_of(name.removeprefix(PREFIX)) if inside else self.encoder.num_blocks + 1
        scale = self.layer_decay ** (self.encoder.num_blocks + 1 - depth)
        return scale, parameter.ndim >= 2 and not name.endswith(UNDECAYED)

    def train(self, mode: bool = True) -> "Detect":
        """A frozen encoder stays in eval mode, so that dropping paths cannot disturb its features."""
        super().train(mode)
        if self.protocol == "linear":
            self.encoder.eval()
        return self


UNUSED = ("norm.", "fc_norm.", "head.")  # behind the last block, whose output detectors take as it is
