"""Segmenters and detectors taken out as ONNX and torch.export: opened again, compared, refused where they cannot."""

import json
from dataclasses import MISSING, fields
from typing import get_origin, get_type_hints

import numpy as np
import pytest
import torch

import unmask
from unmask.errors import Unequal, UserError
from unmask.export.check import compare
from unmask.export.exportable import Exportable, Opened
from unmask.models.detector import Detector
from unmask.models.encoder import create_encoder
from unmask.models.segmenter import Segmenter
from unmask.models.state import model_text
from unmask.tasks.detection.settings import DetectSettings
from unmask.tasks.segmentation.settings import SegmentSettings
from unmask.weights.files import save_state

onnxruntime = pytest.importorskip("onnxruntime")
TINY = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"


def training(kind):
    """Some value for each setting without a default: how the model was trained changes nothing of what is taken out."""
    hints, values = get_type_hints(kind), {int: 1, float: 0.5, str: "off", bool: False}
    required = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    return {
        name: values.get(hints[name], [0.5, 0.5] if get_origin(hints[name]) is tuple else None) for name in required
    }


def folder_of(root, task, model, **settings):
    """What transfer leaves behind, without the training."""
    encoder = model.encoder
    shape = {"model": model_text(encoder), "image_size": [32, 32], "patch_size": 8, "channels": 3}
    shape = training(SegmentSettings if task == "segment" else DetectSettings) | shape
    config = {
        "task": task, "asked": {}, "settings": shape | settings, "classes": model.classes, "numbers": [0, 1],
        "mean": encoder.mean.tolist(), "std": encoder.std.tolist(), "timm": encoder.arguments, "fit": {},
        "data": {"count": 1}, "versions": {"unmask": "test"},
    }  # fmt: skip
    root.mkdir()
    (root / "config.json").write_text(json.dumps(config))
    save_state(model, root / ("segmenter.safetensors" if task == "segment" else "detector.safetensors"), {})
    return root


def encoder(options=""):
    torch.manual_seed(0)
    return create_encoder(
        TINY.replace(")", options + ")"), image_size=(32, 32), patch_size=8, mean=(120.0,) * 3, std=(60.0,) * 3
    )


@pytest.fixture(scope="module")
def segment(tmp_path_factory):
    own = encoder(", relative=True")  # relative positions, at a size that it was not built for
    for table in own.relative.parameters():
        torch.nn.init.normal_(table, std=0.1)
    model = Segmenter(own, ["ground", "thing"], [0, 1], head="light(channels=8)", window=(40, 48), side=40).eval()
    settings = {"head": "light(channels=8)", "crop_size": [40, 48], "side": 40}
    return folder_of(tmp_path_factory.mktemp("dense") / "segment", "segment", model, **settings)


@pytest.fixture(scope="module")
def detect(tmp_path_factory):
    shape = {
        "anchors": [8, 16, 32, 64, 96],
        "ratios": [0.5, 1.0, 2.0],
        "width": 8,
        "rois": 16,
        "pyramid": "simple",
        "standardize": False,
    }
    model = Detector(encoder(), ["a", "b"], size=(64, 96), masks=True, **shape).eval()
    with torch.no_grad():
        model.rcnn.roi_heads.box_predictor.cls_score.weight.mul_(30)  # scores that differ, as learnt ones do
    settings = shape | {"input_size": [64, 96], "masks": "on"}
    return folder_of(tmp_path_factory.mktemp("dense") / "detect", "detect", model, **settings)


@pytest.mark.slow
def test_a_segmenter_as_a_torch_program_gives_the_same_logits(segment, photos, tmp_path):
    made = unmask.export(segment, to="torch_export", images=photos, out=tmp_path / "out")
    assert "logits" in made.figures["formats"]["torch_export"]["files"]["model.pt2"]["check"]
    pixels = torch.rand(3, 3, 40, 48) * 255
    logits = torch.export.load(made["torch_export"] / "model.pt2").module()(pixels)[0]
    torch.testing.assert_close(logits, unmask.load(segment)(pixels), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_of_a_detector_torch_writes_encoder_and_pyramid(detect, photos, tmp_path):
    made = unmask.export(detect, to="torch_export", images=photos, out=tmp_path / "out")
    figures = made.figures["formats"]["torch_export"]
    assert {*figures["files"]["model.pt2"]["check"]} == {"map_0", "map_1", "map_2", "map_3", "map_pool"}
    assert "its encoder and pyramid are written" in figures["remark"]


@pytest.mark.slow
def test_a_segmenter_is_taken_out_and_gives_the_same_logits(segment):
    found = unmask.export(segment, to="onnx,torch_export", precision="fp32,int8")
    files = found.figures["formats"]["onnx"]["files"]
    assert {*files} == {"model-fp32.onnx", "model-int8.onnx"}
    assert all("logits" in facts["check"] for facts in files.values())
    assert "A segmenter of 2 classes (ground, thing)" in (found["onnx"] / "README.md").read_text()
    session = onnxruntime.InferenceSession(str(found["onnx"] / "model-fp32.onnx"))
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 3, 40, 48)).astype(np.float32)
    (logits,) = session.run(None, {"pixels": pixels})
    with torch.no_grad():
        own = unmask.load(segment)(torch.from_numpy(pixels)).numpy()
    assert logits.shape == (3, 2, 40, 48)
    assert np.allclose(logits, own, atol=1e-4)


@pytest.mark.slow
def test_a_detector_is_taken_out_whole_and_as_a_backbone(detect):
    found = unmask.export(detect, to="onnx,torch_export", precision="fp32")
    files = found.figures["formats"]["onnx"]["files"]
    assert {*files["model-fp32.onnx"]["check"]} == {"boxes", "labels", "scores", "masks"}
    assert {*files["backbone-fp32.onnx"]["check"]} == {"map_0", "map_1", "map_2", "map_3", "map_pool"}
    assert "its encoder and pyramid are written" in found.figures["formats"]["torch_export"]["remark"]
    session = onnxruntime.InferenceSession(str(found["onnx"] / "model-fp32.onnx"))
    own = unmask.load(detect)
    for seed in range(3):  # images that it was not traced with
        pixels = np.random.default_rng(seed).uniform(0, 255, (1, 3, 64, 96)).astype(np.float32)
        boxes, _, scores, _ = session.run(None, {"pixels": pixels})
        with torch.no_grad():
            right = own.detect(torch.from_numpy(pixels))[0]
        assert np.allclose(scores, right["scores"], atol=1e-4)
        assert np.allclose(np.sort(boxes, axis=0), np.sort(right["boxes"], axis=0), atol=1e-2)
    card = (found["onnx"] / "README.md").read_text()
    assert "A detector of 2 classes" in card
    assert "object-detection" in card


def test_a_file_that_finds_other_boxes_is_refused(detect):
    model = unmask.load(detect)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255
    subject = Exportable(model, {"task": "detect"}, images)

    def moved(raw):
        outputs = subject.reference(raw)
        return outputs | {"boxes": outputs["boxes"] + 1}

    assert compare(subject, Opened(detect, subject.reference), "same")["boxes"]["max_abs_error"] == 0
    with pytest.raises(Unequal, match="boxes is off by 1"):
        compare(subject, Opened(detect, moved), "moved")


def test_formats_without_such_heads_refuse(segment, detect, photos):
    for folder, noun in ((segment, "segmenter"), (detect, "detector")):
        with pytest.raises(UserError, match=f"timm has no {noun}s of this kind; what works: onnx, torch_export"):
            unmask.export(folder, to="timm", images=photos)
        with pytest.raises(UserError, match="--on measures classifiers and encoders"):
            unmask.export(folder, to="onnx", on="demo", images=photos)
