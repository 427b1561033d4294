"""What exported folders say of themselves: figures, cards and their code, licences, and nothing private."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from support.exportmaking import ALL, features
from support.photos import photo

import unmask
from unmask.data.codecs.decode import decode
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.report.model_card import _without_folders


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
