"""What methods tell their samplers: whose attention it is, that teachers are made where they are needed, and that what
a mask learns leaves the encoder alone."""

import json

import numpy as np
import pytest
import torch
from support.methods import small_encoder, small_method, teacher_file, views_of
from support.small_training import train

from unmask.errors import UserError
from unmask.masking.mask import LEVELS
from unmask.methods.families import prediction
from unmask.models.ema import Teacher
from unmask.models.encoder import create_encoder
from unmask.planning.measure import dearest
from unmask.registry import build
from unmask.weights.frozen_teacher import FrozenTeacher


def class_attention(encoder, x):
    """The mean over heads of what the class token of timm's last block attends to, in numpy, by its definition."""
    net = encoder.net
    with torch.no_grad():
        patches = net.patch_embed(encoder.normalize(x)).flatten(1, -2)
        tokens = torch.cat([net.cls_token.expand(len(x), -1, -1), patches], dim=1) + net.pos_embed
        for block in net.blocks[:-1]:
            tokens = block(tokens)
        last = net.blocks[-1]
        qkv = last.attn.qkv(last.norm1(tokens)).double().numpy()
    batch, count, _ = qkv.shape
    q, k, _ = qkv.reshape(batch, count, 3, last.attn.num_heads, -1).transpose(2, 0, 3, 1, 4)
    logits = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True))[:, :, 0, 1:].mean(axis=1)


def teacher_of(guide):
    seen = guide.teacher
    return seen.encoder if isinstance(seen, FrozenTeacher) else seen


def test_the_attention_told_is_the_softmax_of_timm_s_queries_and_keys():
    method = small_method("mae(mask=attention)")
    x = views_of(method)["views"][0].float()
    told = method.guide(x, 0.5)["teacher_attention"]
    np.testing.assert_allclose(told.numpy(), class_attention(teacher_of(method.guide), x), rtol=1e-4)
    hidden = method.draw({"views": [x]}).hidden
    for shares, units in zip(told, hidden):
        assert {*units.tolist()} == {*shares.topk(12).indices.tolist()}


@pytest.mark.parametrize(
    ("text", "whose"),
    [
        ("mae(mask=attention)", "own"),
        ("simmim(mask=parts)", "own"),
        ("beit(mask=parts)", "own"),
        ("mae(mask=attention, target=ema)", "target.teacher"),
        ("mae_contrast(mask=parts)", "teacher"),
        ("mae(mask=attention, target=features)", None),
        ("data2vec(mask=attention)", "target.teacher"),
        ("ibot(mask=attention)", "teacher"),
        ("dinov2(mask=parts)", "teacher"),
    ],
)
def test_a_method_asks_its_own_teacher_and_gets_one_where_it_has_none(text, whose):
    method = small_method(text)
    teachers = {name for name, module in method.named_modules() if isinstance(module, Teacher)}
    if whose is None:  # frozen, and outside of the method's modules
        assert not teachers
        assert method.guide.teacher is method.target.teacher
        return
    assert teachers == {"guide.own" if whose == "own" else whose}
    networks = [*method.get_submodule(next(iter(teachers))).modules()]
    assert any(teacher_of(method.guide) is module for module in networks)
    random = small_method(text.replace("attention", "block").replace("parts", "block"))
    assert not any(isinstance(module, Teacher) for module in random.guide.modules())


@pytest.mark.parametrize("mask", ["attention", "parts"])
def test_a_frozen_teacher_may_be_asked_and_is_kept_out_of_the_state(mask):
    method = small_method(f"mae(mask={mask}(of={str(teacher_file())!r}))")
    assert not [key for key in method.state_dict() if "guide" in key]
    x = views_of(method)["views"][0].float()
    told, frozen = method.guide(x, 0.5), method.guide.frozen
    grid = method.encoder.grid_of(x)
    told_directly = frozen.attention(x, grid) if mask == "attention" else frozen(x, grid)
    torch.testing.assert_close(told["teacher_attention" if mask == "attention" else "features"], told_directly)
    if mask == "attention":
        pixels = (x - frozen.mean) / frozen.std
        np.testing.assert_allclose(told_directly.numpy(), class_attention(frozen.encoder, pixels), rtol=1e-4)


def test_a_mask_that_learns_leaves_the_gradient_of_the_encoder_and_the_loss_alone(monkeypatch):
    def gradients(weight):
        monkeypatch.setattr(prediction, "SAMPLER", weight)
        method = small_method("mae(mask=adaptive)")
        outputs = method(views_of(method))
        outputs["loss"].backward()
        return outputs, {name: p.grad for name, p in method.named_parameters() if p.grad is not None}

    (with_it, some), (without, none) = gradients(1.0), gradients(0.0)
    torch.testing.assert_close(with_it["loss"], without["loss"])
    for name, gradient in some.items():
        if name.startswith("mask."):
            assert gradient.any()
            assert not none[name].any()
        else:
            torch.testing.assert_close(gradient, none[name])


def test_a_ratio_that_moves_is_recorded_and_measured_where_it_costs_the_most(tmp_path):
    method = small_method("mae(mask='random(ratio=(0.5, 0.9))')")
    assert (dearest(method), dearest(small_method("mae(mask='random(ratio=(0.9, 0.5))')"))) == (0.0, 1.0)
    batch = views_of(method, count=8)

    def batches(first):
        while True:
            yield batch

    train(tmp_path / "run", method, steps=10, log_every=1, batches=batches)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    ratios = [round(line["mask_ratio"], 4) for line in lines if "mask_ratio" in line]
    assert ratios == [0.5, 0.5, 0.6, 0.6, 0.7, 0.7, 0.8, 0.8, 0.9, 0.9]
    assert len(set(ratios)) == LEVELS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("beit(mask=adaptive)", "adaptive needs the error of each hidden patch, which beit does not have"),
        ("ibot(mask=adaptive)", "which ibot does not have; mae and simmim do"),
        ("mae(mask=adaptive, target=codes)", "learns from the squared error of each hidden patch"),
        ("ibot(mask='block(ratio=(0.3, 0.5))')", "draws itself how many patches are hidden: give one ratio"),
        ("ijepa(mask=attention)", "its mask is multiblock"),
        ("mae(mask=attention, masks_per_image=2)", "hides the same patches of an image each time, so that 2 masks"),
        ("data2vec(mask=attention, masks_per_image=8)", "hides the same patches of an image each time"),
        ("mae(mask=attention(of='nowhere.pth'))", "nowhere.pth"),
        ("mae(mask=attention(block=4))", "no layer 4 among the 1"),
    ],
)
def test_masks_and_methods_that_do_not_go_together_are_refused(text, said):
    with pytest.raises(UserError, match=said):
        small_method(text)


def test_an_encoder_without_attention_maps_cannot_be_asked_for_them():
    hiera = create_encoder("hiera_tiny_224", image_size=(64, 64))
    decoder = "full(dim=16, depth=1, heads=2)"
    with pytest.raises(UserError, match=r"hiera_tiny_224 has no attention maps.*mask parts works for it"):
        build("method", "mae(mask=attention)", encoder=hiera, decoder=decoder)
    assert build("method", "mae(mask=parts)", encoder=hiera, decoder=decoder).guide.own is not None
    windowed = create_encoder("vit_tiny_patch16_224(depth=4, window=2, global_blocks=1)", image_size=(64, 64))
    with pytest.raises(UserError, match="sees windows only"):
        build("method", "mae(mask=attention(block=0))", encoder=windowed, decoder=decoder)
    assert build("method", "mae(mask=attention)", encoder=small_encoder(), decoder=decoder).guide.own is not None
