"""An encoder that finds objects: Faster or Mask R-CNN of torchvision on a feature pyramid. Li et al. 2022 (ViTDet).

Heads as in ViTDet: two convolutions for proposals, four and one linear layer for boxes, four for masks, with LayerNorm.
Inputs are raw pixels, since the encoder normalises; torchvision's own resizing and normalisation are not used.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from unmask import registry
from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.models.pyramid import ChannelNorm

LEVELS = ("0", "1", "2", "3")  # of the pyramid, from fine to coarse; a fifth, twice as coarse, serves proposals only
LOWEST = 0.01  # detections with a lower score are dropped
MOST = 100  # detections per image, as in COCO


class Detector(nn.Module):
    """`detector(x, targets)` returns the training losses, `detect` the objects in a batch of inputs."""

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[str],
        *,
        size: tuple[int, int],  # height, width of the inputs in pixels, multiples of the coarsest stride
        anchors: Sequence[float],  # side of the anchors at each of the five levels, in pixels of the input
        ratios: Sequence[float] = (0.5, 1.0, 2.0),  # height / width of anchors
        width: int = 256,  # channels of pyramid and heads
        rois: int = 512,  # boxes per image that train the box head
        masks: bool = False,  # predict masks too
        pyramid: str = "simple",  # a part of unmask.pyramids
        standardize: bool = False,  # standardise every feature of the encoder (mean 0, deviation 1) before the pyramid
    ):
        """Raises UserError for a size that is no multiple of the coarsest stride."""
        super().__init__()
        self.classes, self.size, self.has_masks = list(classes), (size[0], size[1]), masks
        backbone = Backbone(encoder, pyramid, width, standardize)
        strides = backbone.pyramid.strides
        if len(strides) != len(LEVELS) or any(stride != int(stride) for stride in strides):
            raise UserError(f"a detector takes a pyramid of four whole strides; {pyramid} has {strides} here")
        if any(side % (2 * strides[-1]) or side <= 0 for side in size):
            raise UserError(f"inputs must be multiples of {2 * strides[-1]:g}, got {size[0]} x {size[1]}")
        number, anchor = (
            len(self.classes) + 1,
            AnchorGenerator([(a,) for a in anchors], (tuple(ratios),) * len(anchors)),
        )
        box = FastRCNNConvFCHead((width, 7, 7), [width] * 4, [4 * width], norm_layer=ChannelNorm)
        parts: dict[str, Any] = {
            "rpn_anchor_generator": anchor,
            "rpn_head": RPNHead(width, len(ratios), conv_depth=2),
            "box_roi_pool": _pool(7, strides),
            "box_head": box,
            "box_predictor": FastRCNNPredictor(4 * width, number),
            "box_batch_size_per_image": rois,
            "rpn_pre_nms_top_n_train": 4 * rois,
            "rpn_post_nms_top_n_train": 4 * rois,
            "rpn_pre_nms_top_n_test": max(200, 2 * rois),
            "rpn_post_nms_top_n_test": max(200, 2 * rois),
            "box_score_thresh": LOWEST,
            "box_detections_per_img": MOST,
        }
        if masks:
            parts |= {
                "mask_roi_pool": _pool(14, strides),
                "mask_head": MaskRCNNHeads(width, [width] * 4, 1, norm_layer=ChannelNorm),
                "mask_predictor": MaskRCNNPredictor(width, width, number),
            }
        self.rcnn = (MaskRCNN if masks else FasterRCNN)(backbone, **parts)
        self.rcnn.transform = nn.Identity()  # see the top of this file
        heads: Any = self.rcnn.roi_heads
        for part in (self.rcnn.rpn.head, heads.box_predictor, heads.mask_predictor):
            if isinstance(part, nn.Module):
                part.register_forward_hook(_as_float)

    @property
    def encoder(self) -> Encoder:
        return cast(Encoder, self.rcnn.backbone.encoder)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `traced` gives."""
        return ("boxes", "labels", "scores") + (("masks",) if self.has_masks else ())

    def traced(self, pixels: Shaped[Tensor, "1 c h w"]) -> tuple[Tensor, ...]:
        """For exports: boxes n 4, labels n (from 0), scores n, masks n 1 28 28, of one image."""
        objects = self.detect(pixels)[0]
        return tuple(objects[name] for name in self.outputs)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of its input in pixels."""
        return self.size

    def forward(self, x: Shaped[Tensor, "b c h w"], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Losses by name. targets: of each image boxes: n 4, labels: n (from 0), and with masks: n h w."""
        features, images = self._features(x)
        shifted = [target | {"labels": target["labels"] + 1} for target in targets]  # 0 is the background
        proposals, proposal_losses = self.rcnn.rpn(images, features, shifted)
        return proposal_losses | self.rcnn.roi_heads(features, proposals, images.image_sizes, shifted)[1]

    def detect(self, x: Shaped[Tensor, "b c h w"]) -> list[dict[str, Tensor]]:
        """boxes (pixels of the input), labels (from 0), scores, and masks n 1 28 28 where the detector has them."""
        features, images = self._features(x)
        proposals, _ = self.rcnn.rpn(images, features)
        objects = self.rcnn.roi_heads(features, proposals, images.image_sizes)[0]
        return [item | {"labels": item["labels"] - 1} for item in objects]

    def _features(self, x: Shaped[Tensor, "b c h w"]) -> tuple[dict[str, Tensor], ImageList]:
        """The whole window counts as the image: torchvision tells the scale of a level by its size."""
        size = (x.shape[2], x.shape[3])
        return self.rcnn.backbone(x), ImageList(x, [size] * x.shape[0])


class Backbone(nn.Module):
    """Turns images into a detector's five maps, in fp32: boxes in bf16 would be off by whole pixels."""

    def __init__(self, encoder: Encoder, pyramid: str, width: int, standardize: bool):
        super().__init__()
        self.encoder = encoder
        self.pyramid = registry.build("pyramid", pyramid, encoder=encoder, dim=width)
        dims = encoder.feature_dims(self.pyramid.layers) if standardize else []
        self.scales = nn.ModuleList(nn.BatchNorm2d(dim, affine=False) for dim in dims)
        self.out_channels = width  # torchvision reads this attribute of a backbone

    outputs = (*(f"map_{name}" for name in LEVELS), "map_pool")  # of `traced`

    def traced(self, pixels: Shaped[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """For exports: the maps, fine to coarse."""
        return tuple(self(pixels).values())

    def forward(self, x: Shaped[Tensor, "b c h w"]) -> dict[str, Tensor]:
        maps = [feature_map.float() for feature_map in self.encoder.features(x, self.pyramid.layers)]
        if self.scales:
            maps = [scale(feature_map) for scale, feature_map in zip(self.scales, maps)]
        maps = self.pyramid(maps)
        named = {name: level.float() for name, level in zip(LEVELS, maps)}
        return named | {"pool": max_pool2d(named[LEVELS[-1]], kernel_size=1, stride=2)}


def _pool(size: int, strides: Sequence[float]) -> MultiScaleRoIAlign:
    """Crops boxes from the level that suits their size. Scales are given, since torchvision would guess powers of two
    from the sizes of the maps."""
    pool = MultiScaleRoIAlign(list(LEVELS), output_size=size, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides]
    first = round(math.log2(strides[0]))
    pool.map_levels = initLevelMapper(first, first + len(strides) - 1)
    return pool


def _as_float(module: nn.Module, args: tuple, output: Any) -> Any:
    """Scores and box offsets in fp32 under autocast, like the maps of `Backbone`."""
    if isinstance(output, Tensor):
        return output.float()
    return tuple([v.float() for v in value] if isinstance(value, list) else value.float() for value in output)
