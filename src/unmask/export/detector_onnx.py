"""A whole detector as ONNX, from pixels to boxes, and its backbone alone.

The number of proposals differs from image to image, which torch's dynamo exporter cannot follow ("could not guard on
data-dependent expression", torch 2.15). The older exporter can, for one image of one size: it records what runs, with
torchvision's own rules for its operators.
"""

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unmask.export.exportable import Exportable, Traceable, make_traceable
from unmask.models.detector import Detector
from unmask.models.encoder import Encoder

OPSET = 17
REMARK = "{0}: the whole detector is written in fp32, for one image at a time, and beside it encoder and pyramid alone"


def export_whole(subject: Exportable, path: Path, pixels: str) -> None:
    """Writes the detector of `subject`. pixels: the name of its input."""
    detector = copy.deepcopy(subject.detector)
    assert detector is not None
    detector, image = detector.eval().requires_grad_(False), subject.given(subject.images[:1])
    encoder: Encoder = detector.encoder
    make_traceable(encoder, subject.normalize)
    with torch.no_grad():
        encoder.features(image)  # makes the position table for this size, so that it is a constant of what is recorded
    dynamic = {name: {0: "objects"} for name in detector.outputs}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself and about sizes that it takes for constants
        torch.onnx.export(
            Traceable(detector).eval(), (image,), str(path), dynamo=False,
            opset_version=OPSET, input_names=[pixels], output_names=list(detector.outputs), dynamic_axes=dynamic,
        )  # fmt: skip
    _forget_sources(path)


def _forget_sources(path: Path) -> None:
    """Removes the source lines that the exporter records for every node: they hold paths of this machine."""
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.save(model, path)


def backbone_of(subject: Exportable) -> Exportable:
    """Encoder and pyramid of a detector, for any number of images at once."""
    assert isinstance(subject.model, Detector)
    backbone: Any = copy.deepcopy(subject.model.rcnn.backbone)
    return replace(subject, model=backbone.eval(), precision=("fp32",))
