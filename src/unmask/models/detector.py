"""An encoder that finds objects: Faster or Mask R-CNN of torchvision on a feature pyramid. Li et al. 2022 (ViTDet).

Heads as in ViTDet: two convolutions for proposals, four and one linear layer for boxes, four for masks, with LayerNorm.
Raw pixels go in, since normalisation lies in the encoder; torchvision's own resizing and normalisation is not used.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image, remove_small_boxes
from torchvision.ops.poolers import initLevelMapper

from unmask import registry
from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import BadImage
from unmask.data.source import Source, open_source, why
from unmask.data.transforms.detection import Fitted, View
from unmask.errors import DataError, UserError
from unmask.models.detections import Detections
from unmask.models.encoder import Encoder
from unmask.models.pyramid import ChannelNorm

LEVELS = ("0", "1", "2", "3")  # of the pyramid, from fine to coarse; a fifth, twice as coarse, serves proposals alone
LOWEST = 0.01  # score below which nothing is called a detection
MOST = 100  # detections per image, as in COCO


class Detector(nn.Module):
    """`detector(x, targets)` gives losses to train by, `predict` finds objects in images of any size."""

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[str],
        *,
        size: tuple[int, int],  # height, width of the inputs in pixels, multiples of the coarsest stride
        anchors: Sequence[float],  # side of the anchors of each of the five levels, pixels of the input
        ratios: Sequence[float] = (0.5, 1.0, 2.0),  # height / width of anchors
        width: int = 256,  # channels of pyramid and heads
        rois: int = 512,  # boxes per image that the box head learns from
        masks: bool = False,  # predict masks too
        pyramid: str = "simple",  # a part of unmask.pyramids
        standardize: bool = False,  # bring every feature of the encoder to mean 0 and deviation 1 before the pyramid
    ):
        """Raises UserError for a size that the coarsest level does not divide."""
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

    @classmethod
    def of_config(cls, encoder: Encoder, config: dict[str, Any]) -> "Detector":
        """One like that which a folder's config.json describes, with fresh heads."""
        return cls(encoder, config["classes"], **shape_of(config["settings"]))

    @property
    def encoder(self) -> Encoder:
        return self.rcnn.backbone.encoder  # type: ignore[return-value]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `traced` gives."""
        return ("boxes", "labels", "scores") + (("masks",) if self.has_masks else ())

    def traced(self, pixels: Shaped[Tensor, "1 c h w"]) -> tuple[Tensor, ...]:
        """For exports: boxes n 4, labels n (from 0), scores n, masks n 1 28 28, of one image."""
        found = self.detect(pixels)[0]
        return tuple(found[name] for name in self.outputs)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of its input in pixels."""
        return self.size

    @property
    def view(self) -> Fitted:
        """What it sees of a whole image."""
        return Fitted(self.size, tuple(self.encoder.mean.tolist()))

    def forward(self, x: Shaped[Tensor, "b c h w"], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Losses by name. targets: of each image boxes: n 4, labels: n (from 0), and with masks: n h w."""
        features, images = self._features(x)
        shifted = [target | {"labels": target["labels"] + 1} for target in targets]  # 0 is the background
        proposals, found = self.rcnn.rpn(images, features, shifted)
        return found | self.rcnn.roi_heads(features, proposals, images.image_sizes, shifted)[1]

    def detect(self, x: Shaped[Tensor, "b c h w"]) -> list[dict[str, Tensor]]:
        """boxes, labels (from 0), scores, and masks n 1 28 28 where it has them, in pixels of the input."""
        features, images = self._features(x)
        proposals, _ = self.rcnn.rpn(images, features)
        found = self.rcnn.roi_heads(features, proposals, images.image_sizes)[0]
        return [item | {"labels": item["labels"] - 1} for item in found]

    @torch.inference_mode()
    def predict(self, images: Any, batch: int = 8, threshold: float = 0.5) -> list[Detections]:
        """Objects in images: paths, whatever else `pretrain` takes as data, one array or tensor b c h w, or a list of
        c h w of any sizes; raw pixels. Boxes are in each image's own pixels.

        Raises DataError with the reason for an image that cannot be read, UserError for arrays of another shape.
        """
        if not (isinstance(threshold, int | float) and 0 <= threshold <= 1):
            raise UserError(f"threshold is a score between 0 and 1, got {threshold!r}")
        names, opened = self._opened(images)
        return [found.above(threshold) for found in self.stream(names, opened, batch)]

    @torch.inference_mode()
    def stream(
        self, names: Sequence[str], images: Iterable[Tensor], batch: int = 8, autocast: torch.dtype | None = None
    ) -> list[Detections]:
        """Everything found in each image, in order, worked off in batches of one shape."""
        found: dict[int, Detections] = {}
        waiting: dict[tuple[int, ...], list[tuple[int, View]]] = {}
        was, kind, view = self.training, self.encoder.mean.device.type, self.view
        self.eval()

        def work(group: list[tuple[int, View]]) -> None:
            x = torch.stack([seen.image.float() for _, seen in group]).to(self.encoder.mean.device)
            with torch.autocast(kind, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
                answers = self.detect(x)
            for (place, seen), answer in zip(group, answers):
                found[place] = self._own(names[place], seen, answer)

        for place, image in enumerate(images):
            seen = view(image)
            group = waiting.setdefault(tuple(seen.image.shape), [])
            group.append((place, seen))
            if len(group) == batch:
                work(waiting.pop(tuple(seen.image.shape)))
        for group in waiting.values():
            work(group)
        self.train(was)
        return [found[place] for place in sorted(found)]

    def _own(self, name: str, seen: View, answer: dict[str, Tensor]) -> Detections:
        """From the view's pixels to the image's."""
        y, x = seen.rates
        rates = torch.tensor([x, y, x, y], device=answer["boxes"].device)
        boxes = clip_boxes_to_image(answer["boxes"].float() / rates, seen.size)
        keep = remove_small_boxes(boxes, min_size=1e-2)
        shapes = answer["masks"][keep][:, 0].float().cpu().numpy() if self.has_masks else None
        labels, scores = answer["labels"][keep].cpu().numpy(), answer["scores"][keep].float().cpu().numpy()
        return Detections(name, seen.size, boxes[keep].cpu().numpy(), labels, scores, self.classes, shapes)

    def _features(self, x: Shaped[Tensor, "b c h w"]) -> tuple[dict[str, Tensor], ImageList]:
        """The whole window counts as the image: torchvision tells the scale of a level by its size."""
        size = (x.shape[2], x.shape[3])
        return self.rcnn.backbone(x), ImageList(x, [size] * x.shape[0])

    def _opened(self, images: Any) -> tuple[list[str], Iterable[Tensor]]:
        arrays = isinstance(images, np.ndarray | Tensor)
        if arrays or (isinstance(images, Sequence) and any(isinstance(i, np.ndarray | Tensor) for i in images)):
            pixels = [i if isinstance(i, Tensor) else torch.from_numpy(np.array(i)) for i in images]
            for image in pixels:
                if image.ndim != 3 or image.shape[0] != self.encoder.channels:
                    raise UserError(f"pixels must be {self.encoder.channels} x h x w, got {tuple(image.shape)}")
            return [str(i) for i in range(len(pixels))], pixels
        source = open_source(images)
        return [item.name for item in source.items], self._read(source)

    def _read(self, source: Source) -> Iterator[Tensor]:
        for index, item in enumerate(source.items):
            try:
                yield read_image(source, index, self.encoder.channels)
            except (BadImage, OSError) as error:
                raise DataError(f"{item.name}: {why(error)}") from error


class Backbone(nn.Module):
    """Images to the five maps of a detector, in fp32: boxes in bf16 would be off by whole pixels."""

    def __init__(self, encoder: Encoder, pyramid: str, width: int, standardize: bool):
        super().__init__()
        self.encoder = encoder
        self.pyramid = registry.build("pyramid", pyramid, encoder=encoder, dim=width)
        dims = encoder.feature_dims(self.pyramid.layers) if standardize else []
        self.scales = nn.ModuleList(nn.BatchNorm2d(dim, affine=False) for dim in dims)
        self.out_channels = width  # what torchvision asks a backbone for

    outputs = (*(f"map_{name}" for name in LEVELS), "map_pool")  # of `traced`

    def traced(self, pixels: Shaped[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
        """For exports: the maps, fine to coarse."""
        return tuple(self(pixels).values())

    def forward(self, x: Shaped[Tensor, "b c h w"]) -> dict[str, Tensor]:
        maps = [one.float() for one in self.encoder.features(x, self.pyramid.layers)]
        if self.scales:
            maps = [scale(one) for scale, one in zip(self.scales, maps)]
        maps = self.pyramid(maps)
        named = {name: level.float() for name, level in zip(LEVELS, maps)}
        return named | {"pool": max_pool2d(named[LEVELS[-1]], kernel_size=1, stride=2)}


def read_image(source: Source, index: int, channels: int) -> Shaped[Tensor, "c h w"]:
    """An image at its full size, for an encoder of so many channels. Raises BadImage or OSError."""
    pixels = source.pixels(index)
    return to_channels(decode(source.read(index)).pixels if pixels is None else pixels, channels)


def shape_of(settings: dict[str, Any]) -> dict[str, Any]:
    """What a detector is built with, of a run's settings."""
    names = ("anchors", "ratios", "width", "rois", "pyramid")
    same = {name: settings[name] for name in names}
    same |= {"standardize": settings.get("standardize", False)}  # folders of detectors that had no such setting
    return same | {"size": tuple(settings["input_size"]), "masks": settings["masks"] == "on"}


def _pool(size: int, strides: Sequence[float]) -> MultiScaleRoIAlign:
    """Cuts boxes out of the level that suits their size. Scales are told, since torchvision would guess powers of two
    from the sizes of the maps."""
    pool = MultiScaleRoIAlign(list(LEVELS), output_size=size, sampling_ratio=2)
    pool.scales = [1 / stride for stride in strides]
    first = round(math.log2(strides[0]))
    pool.map_levels = initLevelMapper(first, first + len(strides) - 1)
    return pool


def _as_float(module: nn.Module, args: Any, output: Any) -> Any:
    """Scores and box offsets in fp32 under autocast, as those of `Backbone`."""
    if isinstance(output, Tensor):
        return output.float()
    return tuple([v.float() for v in value] if isinstance(value, list) else value.float() for value in output)
