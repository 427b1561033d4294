"""Exported files opened by their own libraries give what the model gives."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import transformers
from PIL import Image
from support.exportmaking import features, normalized
from support.photos import photo

import unmask
from unmask.masking.mask import Mask


def test_the_command_and_the_room_of_its_name_do_not_hide_each_other():
    from unmask.export.check import compare

    assert callable(compare)
    assert unmask.export.__name__ == "export"


def test_timm_opens_its_folder_with_equal_features(run, exported, raw):
    net = timm.create_model(f"local-dir:{exported['timm']}", pretrained=True).eval()
    expected = torch.cat([*features(run, raw)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(net.forward_features(normalized(run, raw)), expected, atol=1e-4, rtol=0)
    data = timm.data.resolve_model_data_config(net)
    assert data["input_size"] == (3, 32, 32)
    np.testing.assert_allclose(np.array(data["mean"]) * 255, run.config.data.mean, rtol=1e-5)
    np.testing.assert_allclose(np.array(data["std"]) * 255, run.config.data.std, rtol=1e-5)


def test_transformers_opens_the_timm_folder_too(run, exported, raw):
    model = transformers.AutoModel.from_pretrained(exported["timm"]).eval()
    with torch.no_grad():
        found = model(normalized(run, raw)).last_hidden_state
    torch.testing.assert_close(found, torch.cat([*features(run, raw)], dim=1), atol=1e-4, rtol=0)


def test_transformers_opens_the_encoder_with_equal_hidden_states(run, exported, raw):
    folder = exported["hf"] / "vit"
    model = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    pixels = processor([Image.fromarray(photo(seed, 32, 32)) for seed in range(3)], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels, normalized(run, raw), atol=1e-4, rtol=0)
    with torch.no_grad():
        found = model(pixels).last_hidden_state
    torch.testing.assert_close(found, torch.cat([*features(run, raw)], dim=1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_transformers_opens_the_whole_mae_with_the_same_loss(run, exported, raw, seed):
    model = transformers.ViTMAEForPreTraining.from_pretrained(exported["hf"]).eval()
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(seed))
    order = noise.argsort(dim=1)
    with torch.no_grad():
        expected = run.objective()({"views": [raw], "mask": Mask(order[:, :4], order[:, 4:])})["loss"]
        found = model(normalized(run, raw), noise=noise).loss
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-4), ("fp16", 0.05), ("int8", 0.2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_files_take_any_batch_of_raw_pixels(run, exported, raw, precision, error, batch):
    session = onnxruntime.InferenceSession(exported["onnx"] / f"model-{precision}.onnx")
    names = [value.name for value in session.get_outputs()]
    found = dict(zip(names, session.run(None, {"pixels": raw[:batch].numpy()})))
    prefix, units = features(run, raw[:batch])
    expected = {"patch_tokens": units, "features": units.mean(dim=1), "class_token": prefix[:, 0]}
    assert names == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=error)
    facts = session.get_modelmeta().custom_metadata_map
    assert "raw pixels" in facts["input"]
    np.testing.assert_allclose(json.loads(facts["mean"]), run.config.data.mean, rtol=1e-5)


def test_onnx_precisions_are_what_they_say(exported):
    kinds = {}
    for precision in ("fp32", "fp16", "int8"):
        weights = onnx.load(exported["onnx"] / f"model-{precision}.onnx").graph.initializer
        large = [w for w in weights if np.prod(w.dims) > 5000]
        kinds[precision] = {onnx.TensorProto.DataType.Name(w.data_type) for w in large}
    assert kinds["fp32"] == {"FLOAT"}
    assert kinds["fp16"] == {"FLOAT16"}
    assert "INT8" in kinds["int8"]
    sizes = {name: facts["bytes"] for name, facts in exported.figures["formats"]["onnx"]["files"].items()}
    assert sizes["model-int8.onnx"] < sizes["model-fp16.onnx"] < sizes["model-fp32.onnx"]


def test_torch_export_takes_any_batch(run, exported, raw):
    module = torch.export.load(exported["torch_export"] / "model.pt2").module()
    for batch in (1, 3):
        torch.testing.assert_close(module(raw[:batch])[0], features(run, raw[:batch]).units, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_normalisation_can_stay_outside(run, raw, tmp_path):
    made = unmask.export(run.path, to="torch_export", normalize="outside", out=tmp_path / "out")
    module = torch.export.load(made["torch_export"] / "model.pt2").module()
    torch.testing.assert_close(module(normalized(run, raw))[0], features(run, raw).units, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_normalisation_can_stay_outside_of_int8_files(run, raw, tmp_path):
    options = {"precision": "int8", "quantize": "static", "normalize": "outside", "out": tmp_path / "out"}
    made = unmask.export(run.path, to="onnx", **options)
    assert [path.name for path in sorted(made["onnx"].iterdir())] == ["README.md", "model-int8.onnx"]
    tokens = features(run, raw).units
    session = onnxruntime.InferenceSession(made["onnx"] / "model-int8.onnx")
    np.testing.assert_allclose(session.run(None, {"pixels": normalized(run, raw).numpy()})[0], tokens, atol=0.4)
    assert "(raw pixels - mean) / std" in session.get_modelmeta().custom_metadata_map["input"]


def test_the_batch_axis_of_onnx_files_is_named(exported):
    for path in exported["onnx"].glob("*.onnx"):
        graph = onnx.load(path).graph
        for value in [*graph.input, *graph.output]:
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch", (path.name, value.name)
