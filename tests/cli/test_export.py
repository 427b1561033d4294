"""`unmask export`: what is wrong is said in a line and never kept."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.exportmaking import ALL

import unmask
from unmask import registry
from unmask.errors import Unequal, UserError
from unmask.export.formats import onnx as onnx_files


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


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


@pytest.mark.slow
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
