"""MAE's moving average of the encoder, and the teacher whose attention the encoder imitates."""

import pytest
import torch
from support.methods import small_encoder, small_method, teacher_file, views_of
from torch.nn.functional import softmax

from unmask.errors import UserError
from unmask.masking.mask import hide_top
from unmask.models.ema import warmed
from unmask.models.encoder import create_encoder
from unmask.planning.method import with_absolute_paths
from unmask.registry import build, parse
from unmask.training.optimizer import groups

DECODER = "full(dim=16, depth=1, heads=2)"


def trained(method, steps=4):
    """The encoder's first weights at every step, the start included, as the loop moves them."""
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.5)
    weights = [method.encoder.net.blocks[0].mlp.fc1.weight.detach().clone()]
    for step in range(steps):
        method.before_step(step)
        optimizer.zero_grad()
        method(views_of(method, seed=step))["loss"].backward()
        optimizer.step()
        method.after_step((step + 1) / steps)
        weights.append(method.encoder.net.blocks[0].mlp.fc1.weight.detach().clone())
    return weights


def test_the_average_of_the_encoder_is_kept_and_follows_its_recursion():
    method = small_method("mae(ema=0.5)")
    weights = trained(method)
    wanted = weights[0]
    for step, weight in enumerate(weights[1:]):
        decay = min(0.5, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * weight
    kept = method.kept.net.blocks[0].mlp.fc1.weight
    assert method.kept is not method.encoder
    assert not torch.equal(weights[-1], weights[0])
    torch.testing.assert_close(kept, wanted)
    assert not kept.requires_grad
    assert small_method("mae").kept is not None
    assert small_method("mae(ema=None)").average is None
    assert [warmed(0.9, n) for n in (0, 8, 10_000)] == [0.1, 0.5, 0.9]


@pytest.mark.parametrize("ema", [1.0, -0.1, "much"])
def test_a_decay_that_is_no_share_below_one_is_refused(ema):
    with pytest.raises(UserError, match="ema"):
        small_method(f"mae(ema={ema!r})")


def attention_by_hand(encoder, x, mask):
    """Weights of the last block from its queries and keys."""
    *_, block = encoder.net.blocks
    tokens, _ = encoder._embedded(encoder.normalize(x), mask)
    for other in list(encoder.net.blocks)[:-1]:
        tokens = other(tokens)
    qkv = block.attn.qkv(block.norm1(tokens)).unflatten(2, (3, block.attn.num_heads, -1))
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)
    return softmax(query @ key.transpose(2, 3) * query.shape[-1] ** -0.5, dim=-1)


def test_the_encoder_imitates_what_a_teacher_attends_to_at_the_same_visible_patches():
    method = build("method", f"mae(attention_of={str(teacher_file())!r})", encoder=small_encoder(), decoder=DECODER)
    teacher, encoder = method.imitation.teacher.encoder, method.encoder
    x, mask = views_of(method)["views"][0], hide_top(torch.rand(4, 16), 0.75)
    outputs = method({"views": [x], "mask": mask})
    pixels = (x.float() - method.imitation.teacher.mean) / method.imitation.teacher.std
    with torch.no_grad():
        wanted = attention_by_hand(teacher, pixels, mask)
        ours = attention_by_hand(encoder, x, mask)
    mixed = torch.einsum("ts,bsij->btij", method.imitation.heads.weight, ours)
    expected = (mixed - wanted).square().mean()
    torch.testing.assert_close(outputs["attention"], expected.detach(), rtol=1e-4, atol=1e-7)
    method.imitation, alone = None, method.imitation
    without = method({"views": [x], "mask": mask})["loss"]
    torch.testing.assert_close(outputs["loss"], without + expected, rtol=1e-4, atol=1e-6)
    outputs["loss"].backward()
    assert alone.heads.weight.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert "attention" in method.words


def test_the_teacher_is_in_no_checkpoint_and_is_told_to_the_plan():
    from unmask.weights.frozen_teacher import teachers_of

    method = build("method", f"mae(attention_of={str(teacher_file())!r})", encoder=small_encoder(), decoder=DECODER)
    assert len(teachers_of(method)) == 1
    assert not [key for key in method.state_dict() if "teacher" in key]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("attention_of='nowhere.pth'", "the teacher cannot be opened: .*nowhere.pth"),
        (f"attention_of={str(teacher_file())!r}, symmetric=True", "not symmetric=True"),
    ],
    ids=["no teacher", "symmetric"],  # the folder of the teacher is another in every process
)
def test_teachers_that_cannot_teach_are_refused(options, says):
    with pytest.raises(UserError, match=says):
        build("method", f"mae({options})", encoder=small_encoder(), decoder=DECODER)


def test_a_hiera_has_no_attention_to_imitate():
    hiera = create_encoder("hiera_tiny_224(embed_dim=8, num_heads=1, stages=(1, 1, 1, 1))", image_size=(64, 64))
    with pytest.raises(UserError, match="has no attention maps"):
        build("method", f"mae(attention_of={str(teacher_file())!r})", encoder=hiera, decoder=DECODER)


def test_learned_frequencies_of_rotary_positions_are_trained_and_do_not_decay():
    model = "vit_small_patch16_rope_mixed_224(depth=1, embed_dim=24, num_heads=2, num_reg_tokens=4, swiglu_mlp=True)"
    encoder = create_encoder(model, image_size=(32, 32), patch_size=8)
    method = build("method", "mae", encoder=encoder, decoder="cross(dim=16, depth=1, heads=2)").train()
    method({"views": [torch.randint(0, 256, (2, 3, 32, 32)).byte()]})["loss"].backward()
    frequencies = encoder.net.rope.freqs
    assert frequencies.grad.abs().max() > 0
    decays = {group["weight_decay"] for group in groups(method, 0.05) if any(p is frequencies for p in group["params"])}
    assert decays == {0.0}


def test_the_teachers_path_is_the_same_from_any_folder(monkeypatch):
    place = teacher_file()
    monkeypatch.chdir(place.parent)
    text = f"mae(ema=0.5, attention_of={place.name!r})"
    assert parse(with_absolute_paths(text))[1] == {"ema": 0.5, "attention_of": str(place.resolve())}
