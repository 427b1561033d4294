"""Training a detector on an encoder: the losses of Faster and Mask R-CNN. Li et al. 2022 (ViTDet), appendix.

Two protocols: `full` trains everything, with a rate that falls towards the input; `linear` the pyramid and the heads
alone, on a frozen encoder.
"""

import torch
from torch import Tensor

from unmask.errors import UserError, closest
from unmask.models.detector import Detector
from unmask.models.encoder import Encoder
from unmask.tasks.detection.settings import PROTOCOLS
from unmask.training.objective import Batch, Task

__all__ = ["Detect"]
NAMES = {  # torchvision's names of losses -> those of records
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "proposal_boxes",
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
    "loss_mask": "masks",
}


class Detect(Task):
    prefix = "detector.rcnn.backbone.encoder."

    def __init__(self, detector: Detector, protocol: str = "full", layer_decay: float = 1.0):
        """layer_decay: factor on the learning rate from each layer to the one before."""
        super().__init__()
        if protocol not in PROTOCOLS:
            near = closest(protocol, PROTOCOLS)
            raise UserError(f"--protocol {protocol}: to detect there are {' and '.join(PROTOCOLS)}{near}")
        self.detector, self.protocol, self.layer_decay = detector, protocol, layer_decay
        self.frozen, net = protocol == "linear", self.encoder.net
        if protocol == "full" and getattr(net, "pos_embed", None) is not None:
            net.pos_embed.requires_grad_(True)  # fixed in pretraining, learned here, as in ViTDet
        if self.frozen:
            self.encoder.requires_grad_(False)  # relative positions too, which lie beside the net
        for name, parameter in net.named_parameters():
            if name.startswith(UNUSED):
                parameter.requires_grad_(False)

    @property
    def encoder(self) -> Encoder:
        return self.detector.encoder

    @property
    def result(self) -> Detector:
        return self.detector

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The sum of all losses, and each; batch["targets"] holds boxes, labels and masks of each image."""
        losses = {NAMES[name]: value for name, value in self.detector(batch["views"][0], batch["targets"]).items()}
        return {"loss": torch.stack(list(losses.values())).sum()} | losses


UNUSED = ("norm.", "fc_norm.", "head.")  # behind the last block, whose output detectors take as it is
