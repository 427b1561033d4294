"""Checkpoints that hold several networks: student and teacher, online network and moving average."""

import pytest
import torch
from support.makers import EMA, STUDENT, WIDTH, prefixed, same_features, saved, vit

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.models.layers.position import sincos
from unmask.weights.open import open_weights

LOGITS = {"head.mlp.0.weight": torch.zeros(4, WIDTH), "head.last_layer.weight_g": torch.zeros(4, 1)}


def moco_table(side):
    """Rows first, where MAE's has columns first; a row of zeros for the class token."""
    x, y = sincos(Grid((side, side), (1, 1)), WIDTH).chunk(2, dim=1)
    return torch.cat([torch.zeros(1, WIDTH), torch.cat([y, x], dim=1)])[None]


def test_moco_has_twelve_heads_in_its_small_vit_also_under_another_name(tmp_path):
    online, average = vit(num_heads=12), vit(num_heads=12)
    for net in (online, average):
        net.pos_embed.data = moco_table(4)
    state = prefixed("module.base_encoder.", online) | prefixed("module.momentum_encoder.", average)
    state |= {"module.base_encoder.head.0.weight": torch.zeros(4, 4), "module.predictor.0.weight": torch.zeros(4, 4)}
    path = saved({"epoch": 300, "arch": "vit_small", "state_dict": state}, tmp_path / "vit-s-300ep.pth.tar")
    said = same_features(open_weights(path), online.forward_features)
    assert "MoCo v3" in said
    assert "12 attention heads" in said
    assert "momentum_encoder.`, a moving average" in said
    assert "not for commercial use, if these are Meta's MoCo v3 weights" in said
    same_features(open_weights(path, reading=EMA), average.forward_features)
    renamed = saved(online.state_dict(), tmp_path / "mine.pth")  # as of a linear classifier, its arch left out
    assert "MoCo v3" in same_features(open_weights(renamed), online.forward_features)


@pytest.mark.parametrize("maker", ["DINO", "iBOT"])
def test_of_student_and_teacher_the_teacher_is_taken_and_the_student_on_request(maker, tmp_path):
    student, teacher = vit(), vit()
    content = {
        "student": prefixed("module.backbone.", student) | {f"module.{key}": value for key, value in LOGITS.items()},
        "teacher": prefixed("backbone.", teacher) | LOGITS,
        "dino_loss": {"center": torch.zeros(1, 4)},
        "epoch": 100,
    }
    if maker == "iBOT":
        content["student"]["module.backbone.masked_embed"] = torch.zeros(1, WIDTH)
        content["teacher"]["head.last_layer2.weight_g"] = torch.zeros(4, 1)
    path = saved(content, tmp_path / "checkpoint.pth")
    said = same_features(open_weights(path), teacher.forward_features)
    assert f": {maker}, " in said
    assert "the teacher is taken" in said
    assert "--student takes it" in said
    said = same_features(open_weights(path, reading=STUDENT), student.forward_features)
    assert f": {maker}, " in said
    assert "the student is taken" in said
    with pytest.raises(UserError, match="no student beside a teacher"):
        open_weights(saved({"teacher": content["teacher"]}, tmp_path / "teacher.pth"), reading=STUDENT)


def test_i_jepa_gives_its_target_encoder(tmp_path):
    context, target = vit(class_token=False), vit(class_token=False)
    content = {"encoder": prefixed("module.", context), "target_encoder": prefixed("module.", target), "epoch": 300}
    path = saved(content | {"predictor": {"module.mask_token": torch.zeros(1)}}, tmp_path / "latest.pth.tar")
    said = same_features(open_weights(path), target.forward_features)
    assert "I-JEPA" in said
    assert "`target_encoder`" in said
    assert "not for commercial use" in said
    same_features(open_weights(path, reading=STUDENT), context.forward_features)


@pytest.mark.parametrize("wrapped", ["dicts", "prefixes", "averaged alone", "mmengine", "Lightning"])
def test_averages_are_taken_on_request_or_where_there_is_nothing_else(wrapped, tmp_path):
    online, average = vit(), vit()
    ours, theirs = online.state_dict(), average.state_dict()
    content = {
        "dicts": {"state_dict": ours, "state_dict_ema": theirs, "arch": "vit_small_patch16_224"},
        "prefixes": {"state_dict": prefixed("model.", online) | prefixed("ema_model.module.", average)},
        "averaged alone": {"model_ema": prefixed("module.", average) | {"n_averaged": torch.tensor(3)}},
        "mmengine": {"state_dict": theirs, "ema_state_dict": prefixed("module.", online), "meta": {}},
        "Lightning": {"state_dict": theirs, "current_model_state": ours, "averaging_state": {}},
    }[wrapped]
    path = saved(content, tmp_path / "checkpoint.pth")
    only_average = wrapped in ("averaged alone", "mmengine", "Lightning")
    said = same_features(open_weights(path), (average if only_average else online).forward_features)
    assert "moving average (EMA)" in said
    assert ("--ema takes it" in said) == (not only_average)
    same_features(open_weights(path, reading=EMA), average.forward_features)
    with pytest.raises(UserError, match="there is no moving average"):
        open_weights(saved(ours, tmp_path / "plain.pth"), reading=EMA)
