"""Exports of other families and of classifiers, and what is refused."""

import json
from itertools import product

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import transformers
from PIL import Image
from support.exportmaking import checked, subject, tiny
from support.photos import photo
from torch import nn

from unmask import registry
from unmask.cli.main import run as command
from unmask.errors import UserError
from unmask.export.exportable import Exportable
from unmask.export.hf_names import mae_config, why_not_vit
from unmask.export.timm_repository import write_repository
from unmask.masking.mask import num_hidden
from unmask.methods.mae import MAE
from unmask.models.classifier import Classifier
from unmask.models.decoders.full import Full

FAMILIES = {
    "registers": {"model": "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3, reg_tokens=2)"},
    "no class token": {"model": "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3, class_token=False)"},
    "eva": {"model": "eva02_tiny_patch14_224(depth=1, embed_dim=48, num_heads=3)"},
    "hiera": {"model": "hiera_tiny_224(stages=(1, 1, 1, 1), embed_dim=24)", "image_size": (64, 64), "patch_size": None},
    "not square": {"image_size": (32, 48), "channels": 1, "mean": (100.0,), "std": (50.0,)},
}


TRACED = [("eva", "onnx"), ("hiera", "onnx"), ("hiera", "torch_export")]  # for many seconds
CASES = [
    pytest.param(family, form, marks=[pytest.mark.slow] * ((family, form) in TRACED))
    for family, form in [*product(FAMILIES, ("timm", "torch_export")), *TRACED[:2]]
]


@pytest.mark.parametrize(("family", "form"), CASES)
def test_every_family_keeps_its_tokens(family, form, tmp_path):
    encoder = tiny(**FAMILIES[family])
    raw = torch.rand(3, encoder.channels, *encoder.grid.size) * 255
    _, differences = checked(form, encoder, raw, tmp_path)
    assert next(iter(differences.values()))["patch_tokens"]["max_abs_error"] < 1e-3


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("reg_tokens=2", "register tokens"),
        ("class_token=False", "no class token"),
        ("init_values=1e-5", "layer scale"),
        ("qk_norm=True", "normalised queries"),
        ("pre_norm=True", "norm before the blocks"),
        ("pos_embed='none'", "no position table"),
        ("qkv_bias=False", "no blocks.0.attn.qkv.bias"),
        ("act_layer='gelu_tanh'", "activation"),
    ],
)
def test_what_transformers_cannot_hold_is_refused_with_the_reason(options, reason, raw):
    encoder = tiny(f"vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3, {options})")
    with pytest.raises(UserError, match=f"{reason}.*what works: --to timm"):
        registry.find("export", "hf")().refuse(subject(encoder, raw))


@pytest.mark.parametrize("model", ["eva02_tiny_patch14_224(depth=1)", "hiera_tiny_224(stages=(1, 1, 1, 1))"])
def test_other_families_are_no_vit(model):
    size = {"image_size": (64, 64), "patch_size": None} if "hiera" in model else {}
    assert why_not_vit(tiny(model, **size))
    assert not why_not_vit(tiny())


def test_an_encoder_with_a_decoder_of_another_kind_becomes_a_bare_vit(raw, tmp_path):
    class Other(Full):
        """A decoder that is not MAE's."""

    encoder = tiny()
    mae = MAE(encoder, decoder=Other(encoder.grid, encoder.dim, 192, dim=32, depth=1, heads=2)).eval()
    remark, found = checked("hf", encoder, raw, tmp_path, objective=mae)
    assert "not ViTMAEForPreTraining: its decoder is Other" in remark
    assert set(found) == {"vit"}
    assert not (tmp_path / "hf" / "config.json").exists()


@pytest.mark.parametrize("ratio", [0.75, 0.9, 0.6, 0.33])
def test_the_mask_ratio_hides_as_many_patches_in_transformers(ratio):
    mae = MAE(tiny(), mask=f"random(ratio={ratio})", decoder="full(dim=32, depth=1, heads=2)")
    config = mae_config(Exportable(mae.encoder, {}, torch.zeros(1, 3, 32, 32), objective=mae))
    assert int(16 * (1 - config["mask_ratio"])) == 16 - num_hidden(16, ratio)


REFUSED = [("attentive", "none"), ("cls", "layer")]
HEADS = [("mean", "layer"), ("mean", "batch"), ("cls", "none"), ("cls", "batch"), *REFUSED]


def classifier(pooling, norm, multi_label=False, **options):
    made = Classifier(tiny(**options), ["cat", "dog", "été"], pooling=pooling, norm=norm, multi_label=multi_label)
    torch.manual_seed(1)
    nn.init.normal_(made.head.weight, std=0.5)
    for part in made.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.normal_(part.weight, 1, 0.3)
            nn.init.normal_(part.bias, 0, 0.3)
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.2, 2)
    return made


@pytest.mark.parametrize(("pooling", "norm"), HEADS)
def test_classifiers_keep_their_logits_in_timm_and_transformers_or_are_refused(pooling, norm, raw, tmp_path):
    made = classifier(pooling, norm)
    if (pooling, norm) in REFUSED:
        for name in ("timm", "hf"):
            with pytest.raises(UserError, match=r"can(not)? hold this classifier"):
                checked(name, made, raw, tmp_path)
        return
    checked("timm", made, raw, tmp_path)
    net = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    expected = made.eval()(raw)
    pixels = made.encoder.normalize(raw)
    torch.testing.assert_close(net(pixels), expected, atol=1e-4, rtol=1e-4)
    assert net.num_classes == 3
    assert net.pretrained_cfg["label_names"] == made.classes
    remark, _ = checked("hf", made, raw, tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "hf")
    images = [Image.fromarray(photo(seed, 32, 32)) for seed in range(3)]
    torch.testing.assert_close(processor(images, return_tensors="pt")["pixel_values"], pixels, atol=1e-4, rtol=0)
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "hf").eval()
    torch.testing.assert_close(model(pixels).logits, expected, atol=1e-4, rtol=1e-4)
    assert list(model.config.id2label.values()) == made.classes
    kind = type(model).__name__
    assert kind == ("ViTForImageClassification" if pooling == "cls" else "TimmWrapperForImageClassification")
    assert ("TimmWrapper" in remark) == (pooling == "mean")


@pytest.mark.parametrize("family", ["eva", "hiera"])
def test_classifiers_of_other_families_keep_their_logits_in_timm(family, tmp_path):
    made = classifier("mean", "layer", **FAMILIES[family])
    raw = torch.rand(2, 3, *made.encoder.grid.size) * 255
    assert checked("timm", made, raw, tmp_path)[1]
    assert "TimmWrapper" in checked("hf", made, raw, tmp_path)[0]


@pytest.mark.slow
def test_classifiers_give_logits_and_probabilities_in_onnx_and_torch_export(raw, tmp_path):
    made = classifier("attentive", "none", multi_label=True)
    for name in ("onnx", "torch_export"):
        _, found = checked(name, made, raw, tmp_path, precision=("fp32", "int8"))
        assert all(set(check) == {"logits", "probabilities"} for check in found.values())
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "model-fp32.onnx")
    _, probabilities = session.run(None, {"pixels": raw.numpy()})
    np.testing.assert_allclose(probabilities, made.probabilities(raw).detach(), atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == made.classes


def test_probabilities_of_one_label_per_image_add_up_to_one(raw, tmp_path):
    made = classifier("mean", "layer")
    checked("torch_export", made, raw, tmp_path)
    _, probabilities = torch.export.load(tmp_path / "torch_export" / "model.pt2").module()(raw)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))


def test_labels_that_the_classifier_does_not_know_are_refused(labelled, raw):
    from unmask.data.datasets.classification import Labelled
    from unmask.tasks.classification.export_accuracy import Accuracy

    with pytest.raises(UserError, match=r"does not know: blue, red; it knows cat, dog"):
        Accuracy(subject(classifier("mean", "layer"), raw), Labelled([str(labelled)], max_side=128), "labelled")


def test_images_are_seen_by_files_as_the_classifier_saw_them(labelled, raw, tmp_path):
    from unmask.data.datasets.classification import Labelled
    from unmask.data.transforms.kernels.crop import WholeImage
    from unmask.tasks.classification.export_accuracy import Accuracy

    made = classifier("mean", "layer")
    made = Classifier(made.encoder, ["blue", "red"], pooling="mean", norm="layer", multi_label=False, eval_crop=0.5)
    data = Labelled([str(labelled)], max_side=128)
    seen = next(Accuracy(subject(made, raw), data, "labelled")._images("test"))
    assert torch.equal(
        seen, next(iter(data.loader("test", 3, WholeImage(made.input_size, made.eval_crop))))["views"][0].float()
    )
    folder = tmp_path / "timm"
    folder.mkdir()
    write_repository(made, folder)
    assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["crop_pct"] == 0.5


def test_labels_of_another_kind_are_refused_or_understood(labelled, raw, tmp_path):
    from unmask.data.datasets.classification import Labelled
    from unmask.tasks.classification.export_accuracy import Accuracy

    several = tmp_path / "several"
    several.mkdir()
    for number in range(8):
        Image.fromarray(photo(number)).save(several / f"{number}.png")
    rows = [f"{number}.png,{label}" for number, label in enumerate(["blue", "red", "blue|red", ""] * 2)]
    (several / "labels.csv").write_text("\n".join(["path,labels", *rows]))
    data = Labelled([str(several)], max_side=128)
    for model in (tiny(), Classifier(tiny(), ["blue", "red"], pooling="mean", norm="layer", multi_label=False)):
        with pytest.raises(UserError, match=r"--on several has several labels per image"):
            Accuracy(subject(model, raw), data, "several")
    model = Classifier(tiny(), ["blue", "red", "x"], pooling="mean", norm="layer", multi_label=True)
    assert Accuracy(subject(model, raw), Labelled([str(labelled)], max_side=128), "labelled").labels.shape == (16, 3)


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        command(["export", str(tmp_path / "none"), "--to", "timm"])
