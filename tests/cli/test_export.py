"""Exports: every format opened by its own library, offline, gives what the model gives; what is wrong is never kept."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from support.photos import photo

import unmask
from unmask import registry
from unmask.data.codecs.decode import decode
from unmask.data.transforms.crops import WholeImage
from unmask.errors import Unequal, UserError
from unmask.export.formats import onnx as onnx_files
from unmask.masking.mask import Mask
from unmask.report.model_card import _without_folders

ALL = ("timm", "hf", "onnx", "torch_export")


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def run(pretrained, tmp_path_factory):
    return type(pretrained)(shutil.copytree(pretrained.path, tmp_path_factory.mktemp("export") / "run"))


@pytest.fixture(scope="module")
def exported(run):
    return unmask.export(run.path, to=ALL)


def features(run, raw):
    with torch.no_grad():
        return unmask.load(run.path)(raw)


def normalized(run, raw):
    mean, std = (torch.tensor(getattr(run.config.data, name)).view(-1, 1, 1) for name in ("mean", "std"))
    return (raw - mean) / std


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


def test_figures_and_card_say_how_each_file_was_checked(run, exported):
    figures = json.loads((exported.folder / "export.json").read_text())
    assert figures == exported.figures
    assert set(figures["formats"]) == set(ALL)
    for name in ALL:
        card = (exported[name] / "README.md").read_text()
        assert card.startswith("---\nlibrary_name:")
        assert str(run.path.parent) not in card  # no paths of this machine
        for file, facts in figures["formats"][name]["files"].items():
            assert f"| {file} |" in card
            assert all(check["max_abs_error"] <= check["allowed"] for check in facts["check"].values())
    count = json.loads((run.path / "data_sheet.json").read_text())["count"]
    for said in ("Random initialisation", f"| images | {count:,} |", "| mask | random(ratio=0.75) |", "Not judged yet"):
        assert said in card
    speed = figures["formats"]["onnx"]["files"]["model-int8.onnx"]["latency"]
    assert 0 < speed["median_ms"] <= speed["p95_ms"]
    assert [path.name for path in exported.folder.glob(".*")] in ([], [".unmask"])  # the mark of whoever writes


def test_normalisation_can_stay_outside(run, exported, raw, tmp_path):
    options = {"precision": "int8", "quantize": "static", "normalize": "outside", "out": tmp_path / "out"}
    made = unmask.export(run.path, to="onnx,torch_export", **options)
    assert [path.name for path in sorted(made["onnx"].iterdir())] == ["README.md", "model-int8.onnx"]
    module = torch.export.load(made["torch_export"] / "model.pt2").module()
    tokens = features(run, raw).units
    torch.testing.assert_close(module(normalized(run, raw))[0], tokens, atol=1e-4, rtol=0)
    session = onnxruntime.InferenceSession(made["onnx"] / "model-int8.onnx")
    np.testing.assert_allclose(session.run(None, {"pixels": normalized(run, raw).numpy()})[0], tokens, atol=0.4)
    assert "(raw pixels - mean) / std" in session.get_modelmeta().custom_metadata_map["input"]


def test_a_fine_tuned_class_token_becomes_a_transformers_classifier(run, labelled, tmp_path):
    options = {"pooling": "cls", "epochs": 1, "batch": 8, "precision": "32", "device": "cpu"}
    made = unmask.transfer(run.path, on=labelled, out=tmp_path / "classes", **options)
    out = unmask.export(made.path, to="hf", on=labelled)
    model = transformers.AutoModelForImageClassification.from_pretrained(out["hf"])
    assert type(model).__name__ == "ViTForImageClassification"
    assert list(model.config.id2label.values()) == ["blue", "red"]
    facts = out.figures["formats"]["hf"]["files"]["hf"]
    assert facts["accuracy"] == pytest.approx(made.metrics["test"]["accuracy"])
    assert facts["points_lost"] == 0
    card = (out["hf"] / "README.md").read_text()
    assert "A classifier of 2 classes (blue, red)" in card
    assert f"| accuracy | {made.metrics['test']['accuracy']:.4g} |" in card


def test_accuracy_of_features_is_that_of_one_classifier_for_all_files(run, labelled, tmp_path):
    made = unmask.export(run.path, to="timm,torch_export", on=labelled, out=tmp_path / "out")
    own = made.figures["torch"]["accuracy"]
    assert made.figures["on"]["count"] == 16
    assert 0.4 < own <= 1
    for name, file in (("timm", "model.safetensors"), ("torch_export", "model.pt2")):
        facts = made.figures["formats"][name]["files"][file]
        assert facts["accuracy"] == own
        assert f"| {file} | {100 * own:.2f} % | 0.00 |" in (made[name] / "README.md").read_text()


def spoil(name, monkeypatch):
    """Makes a format write weights that are a little off."""
    part = registry.find("export", name)
    write = part.write

    def spoiled(self, subject, folder):
        if name in ("onnx", "torch_export"):
            program = subject.program
            weight = next(v for k, v in program.state_dict.items() if k.endswith("fc2.weight"))
            with torch.no_grad():
                weight.mul_(1.05)
        write(self, subject, folder)
        if name in ("timm", "hf"):
            path = folder / ("vit" if name == "hf" else "") / "model.safetensors"
            state = load_file(path)
            key = next(k for k in state if k.endswith(("fc2.weight", "output.dense.weight")))
            save_file(state | {key: state[key] * 1.05}, path, metadata={"format": "pt"})

    monkeypatch.setattr(part, "write", spoiled)


@pytest.mark.parametrize("name", ALL)
def test_weights_that_are_a_little_off_are_found_and_nothing_is_kept(run, name, monkeypatch, tmp_path):
    spoil(name, monkeypatch)
    with pytest.raises(Unequal, match=r"does not give what the model gives.*deleted") as caught:
        unmask.export(run.path, to=name, precision="fp32", out=tmp_path / "out")
    assert caught.value.exit_code == 5
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_the_earlier_one_as_it_was(run, monkeypatch, tmp_path):
    made = unmask.export(run.path, to="timm", out=tmp_path / "out")
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    spoil("timm", monkeypatch)
    with pytest.raises(Unequal):
        unmask.export(run.path, to="timm", out=made.folder)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before


def test_a_file_that_cannot_be_opened_again_is_deleted(run, monkeypatch, tmp_path):
    part = registry.find("export", "timm")
    write = part.write

    def cut(self, subject, folder):
        write(self, subject, folder)
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])

    monkeypatch.setattr(part, "write", cut)
    with pytest.raises(Unequal, match="cannot be opened again"):
        unmask.export(run.path, to="timm", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "onx"}, "did you mean 'onnx'"),
        ({"to": "timm,torchexport"}, "did you mean 'torch_export'"),
        ({}, "say to what"),
        ({"to": "onnx", "precision": "fp8"}, "did you mean 'fp"),
        ({"to": "timm", "batch": 0}, "above 0"),
        ({"to": "timm", "images": "nowhere"}, "nowhere does not exist"),
        ({"to": "timm", "on": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_wrong_use_gets_one_line_and_writes_nothing(run, options, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        unmask.export(run.path, out=tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_foreign_folders_are_left_alone(run, tmp_path):
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="was not written by unmask export"):
        unmask.export(run.path, to="timm", out=tmp_path)
    assert (tmp_path / "timm" / "mine.txt").read_text() == "mine"


def test_a_missing_library_is_named_with_the_line_that_installs_it(run, monkeypatch, tmp_path):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else find(name, *a))
    with pytest.raises(UserError, match=r"needs onnxscript: .*pip install .*onnxscript$"):
        unmask.export(run.path, to="timm,onnx", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_that_are_gone_are_replaced_by_the_demo(run, tmp_path):
    copy = Path(shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("export")))
    config = json.loads((copy / "config.json").read_text())
    config["record"]["asked"]["data"] = ["/gone"]
    config["model"]["init"] = "vit_base_patch16_224.mae"
    (copy / "config.json").write_text(json.dumps(config))
    made = unmask.export(copy, to="timm")
    assert made.figures["images_from"] == "demo"
    card = (made["timm"] / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert "not for commercial use" in card


def test_exports_tell_nothing_of_the_machine_and_hold_no_image(run, exported, raw, capsys):
    """No path, no user and no sample of the training data, in any byte of any file."""
    places = Path.home(), run.path.parent, Path(unmask.__file__).parent
    private = [*map(str, places), "site-packages", "stack_trace"]
    for path in filter(Path.is_file, exported.folder.rglob("*")):
        archive = zipfile.ZipFile(path) if path.suffix == ".pt2" else None
        contents = [archive.read(name) for name in archive.namelist()] if archive else [path.read_bytes()]
        for word in private:
            assert not any(word.encode() in content for content in contents), (path.name, word)
    example = torch.export.load(exported["torch_export"] / "model.pt2").example_inputs
    assert example is None or not example[0][0].any()
    for name in ALL:
        assert "There is no image in them" in (exported[name] / "README.md").read_text()
    evaluation = {"sentence": "better than /home/me/secret/run-b.", "table": [["who"], ["/home/me/secret/run-b"]]}
    shown = _without_folders(evaluation)
    assert shown == {"sentence": "better than run-b.", "table": [["who"], ["run-b"]]}


def test_the_batch_axis_of_onnx_files_is_named(exported):
    for path in exported["onnx"].glob("*.onnx"):
        graph = onnx.load(path).graph
        for value in [*graph.input, *graph.output]:
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch", (path.name, value.name)


@pytest.mark.parametrize("name", ALL)
def test_the_code_of_a_card_runs_as_it_stands_and_sees_what_the_model_sees(name, run, exported, tmp_path, monkeypatch):
    """On an image of another size and shape: pixels differ by one level at the most."""
    monkeypatch.chdir(exported.folder)
    Image.fromarray(np.concatenate([photo(3), photo(4)], axis=1)[:50, :83]).save("image.jpg", quality=95)
    card = (exported[name] / "README.md").read_text()
    scope = {}
    exec(card.split("```python\n")[1].split("```")[0], scope)
    view = WholeImage((32, 32))(decode(Path("image.jpg").read_bytes()).pixels)[None].float()
    pixels, (mean, std) = scope["prepare"]("image.jpg"), (run.config.data.mean, run.config.data.std)
    if name in ("timm", "hf"):
        pixels = pixels * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1))
    assert pixels.shape == (1, 3, 32, 32)
    assert np.abs(pixels - view.numpy()).max() < 1.01
    tokens = features(run, view).units
    outputs = scope["patch_tokens"] if "patch_tokens" in scope else scope["tokens"][:, 1:]
    assert np.abs(np.asarray(outputs.detach() if hasattr(outputs, "detach") else outputs) - tokens.numpy()).max() < 0.1
    Path("image.jpg").unlink()


@pytest.mark.slow
def test_a_precision_that_fails_its_check_is_left_out_alone(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(onnx_files.TOLERANCE, "int8", 0.0)
    made = unmask.export(run.path, to="onnx", precision="fp32,int8", out=tmp_path / "out")
    assert made.exit_code == 5
    assert [path.name for path in sorted(made["onnx"].iterdir())] == ["README.md", "model-fp32.onnx"]
    assert "Left out: onnx: model-int8.onnx does not give" in capsys.readouterr().out
    assert "Left out: onnx: model-int8.onnx" in (made["onnx"] / "README.md").read_text()
    assert "model-int8.onnx" in json.loads((made.folder / "export.json").read_text())["formats"]["onnx"]["left_out"]
    with pytest.raises(Unequal):
        unmask.export(run.path, to="onnx", precision="int8", out=tmp_path / "alone")
    assert not (tmp_path / "alone").exists()
