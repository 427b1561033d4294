"""Decomposed relative positions: the published formula, nothing at first, and beside the timm model."""

import copy

import numpy as np
import pytest
import torch

from unmask.cli.commands.transfer import reshaped
from unmask.cli.options.transfer import Transfer
from unmask.cli.task_options import joined
from unmask.errors import UserError
from unmask.masking.mask import hide_top
from unmask.methods.mae import MAE
from unmask.models.classifier import Classifier
from unmask.models.detector import Detector
from unmask.models.encoder import create_encoder
from unmask.models.state import copied, same_again
from unmask.tasks.classification.objective import Classify
from unmask.tasks.detection.objective import Detect
from unmask.training.speed.activation_checkpoint import recompute
from unmask.training.speed.bf16_weights import lower

SMALL = "embed_dim=24, num_heads=2, depth=3"
MODELS = {
    f"vit_tiny_patch16_224({SMALL}, relative=True, window=2)": 1,  # prefix tokens
    f"vit_medium_patch16_reg4_gap_256({SMALL}, relative=True, window=3)": 4,
    f"vit_base_patch16_siglip_224({SMALL}, relative=True)": 0,
}
SIZE, OTHER = (64, 48), (80, 112)


def built(name):
    torch.manual_seed(0)
    encoder = create_encoder(name, image_size=SIZE).eval()
    for table in encoder.relative.parameters():
        table.data.normal_()
    return encoder


def images(size):
    return torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(2)).float() / 100


def stretched(table, length):
    """Linear interpolation between the middles of equal cells."""
    table = table.detach().double().numpy()
    at = (np.arange(length) + 0.5) * len(table) / length - 0.5
    return torch.tensor(np.stack([np.interp(at, np.arange(len(table)), column) for column in table.T], axis=1))


def by_hand(attn, x, tables, shape, prefix, window):
    """Attention of x, pair by pair: scaled products, and products of the query, not scaled, with one row of each table
    for how many rows and columns of the grid the query lies behind the key."""
    x, dim = x.double(), attn.head_dim
    qkv = (x @ attn.qkv.weight.double().T + attn.qkv.bias.double()).view(*x.shape[:2], 3, attn.num_heads, dim)
    sides = (window, window) if window else shape
    rows, columns = (stretched(t, 2 * s - 1) for t, s in zip((tables.rows, tables.columns), sides))
    places = [None] * prefix + [(y, x) for y in range(shape[0]) for x in range(shape[1])]
    cell = [p and (p[0] // window, p[1] // window) for p in places] if window else [0] * len(places)
    out = torch.zeros(*x.shape[:2], attn.num_heads, dim, dtype=torch.double)
    for b in range(len(x)):
        for h in range(attn.num_heads):
            for i, here in enumerate(places):
                q, logits, values = qkv[b, i, 0, h], [], []
                for j, there in enumerate(places):
                    if cell[i] != cell[j]:
                        continue
                    logit = q @ qkv[b, j, 1, h] / dim**0.5
                    if here and there:
                        logit = logit + q @ rows[here[0] - there[0] + sides[0] - 1]
                        logit = logit + q @ columns[here[1] - there[1] + sides[1] - 1]
                    logits.append(logit)
                    values.append(qkv[b, j, 2, h])
                out[b, i, h] = torch.stack(logits).softmax(0) @ torch.stack(values)
    return out.flatten(2) @ attn.proj.weight.double().T + attn.proj.bias.double()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("size", "shape"), [(SIZE, (4, 3)), (OTHER, (5, 7))])
@pytest.mark.parametrize("name", MODELS)
def test_attention_is_the_published_formula(name, size, shape, fused):
    encoder, seen = built(name), {}
    for number, block in enumerate(encoder.net.blocks):
        block.attn.fused_attn, block.ls1 = fused, torch.nn.Identity()
        block.norm1.register_forward_hook(lambda m, a, out, n=number: seen.update({n: [out]}))
        block.ls1.register_forward_pre_hook(lambda m, a, n=number: seen[n].append(a[0]))
    with torch.no_grad():
        encoder.features(images(size)[:1])
        for number, block in enumerate(encoder.net.blocks):
            window = encoder.windows.window if block in encoder.windows.windowed else None
            right = by_hand(block.attn, seen[number][0], encoder.relative[number], shape, MODELS[name], window)
            torch.testing.assert_close(seen[number][1].double(), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_weights_without_tables_give_the_same_numbers_at_first_and_tables_then_learn(name):
    torch.manual_seed(0)
    encoder = create_encoder(name, image_size=SIZE).eval()
    plain = create_encoder(name.replace(", relative=True", ""), image_size=SIZE).eval()
    plain.net.load_state_dict(encoder.net.state_dict())  # strict: the net stays timm's
    x = images(OTHER)
    torch.testing.assert_close(encoder.features(x)[0], plain.features(x)[0], rtol=1e-4, atol=1e-5)
    encoder.features(x)[0].square().mean().backward()
    assert len(encoder.relative) == 3
    assert all((p.grad != 0).any() for p in encoder.relative.parameters())
    other = same_again(encoder)
    other.net.load_state_dict(plain.net.state_dict())
    assert {**other.own} == {**encoder.own}
    torch.testing.assert_close(other.eval().features(x)[0], plain.features(x)[0], rtol=1e-4, atol=1e-5)


def test_a_copy_has_tables_of_its_own():
    encoder = built(next(iter(MODELS)))
    twin, x = copy.deepcopy(encoder), images(SIZE)
    before = encoder(x).units
    assert torch.equal(twin(x).units, before)
    for table in twin.relative.parameters():
        table.data.zero_()
    assert torch.equal(encoder(x).units, before)
    assert not torch.allclose(twin(x).units, before, atol=1e-3)


def test_tables_learn_at_the_pace_of_their_block():
    encoder = built(f"vit_tiny_patch16_224({SMALL}, relative=True)")
    task = Classify(Classifier(encoder, ["a", "b"]), layer_decay=0.5)
    scales = {name: task.treatment(name, p)[0] for name, p in task.named_parameters()}
    for number in range(3):
        for name in ("relative.{}.rows", "relative.{}.columns", "net.blocks.{}.attn.qkv.weight"):
            assert scales["classifier.encoder." + name.format(number)] == 0.5 ** (3 - number)
    assert scales["classifier.encoder.net.pos_embed"] == 0.5**4
    assert scales["classifier.head.weight"] == 1


@pytest.mark.parametrize("attention", ["fused", "matmul"])
def test_recomputed_and_bf16_blocks_know_their_place(attention):
    name = next(iter(MODELS))
    plain, again, low = built(name), built(name), built(name)
    recompute(again)
    lower(low)
    found = []
    for encoder in (plain, again, low):
        for block in encoder.net.blocks:
            block.attn.fused_attn = attention == "fused"
        first, second = (encoder.train().features(images(size))[0] for size in (OTHER, SIZE))
        (first.square().mean() + second.square().mean()).backward()
        found.append((first, {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[0], found[1])
    assert found[2][0].dtype == torch.float32
    torch.testing.assert_close(found[2][0], found[0][0], rtol=0.05, atol=0.1)
    assert set(found[2][1]) == set(found[0][1])


def test_masks_are_refused_at_once():
    encoder = built(f"vit_tiny_patch16_224({SMALL}, relative=True)")
    with pytest.raises(UserError, match="relative=True"):
        encoder(images(SIZE), hide_top(torch.rand(2, 12), 0.5))
    assert encoder(images(SIZE)).units.shape[1] == 12  # nothing of the mask is left
    with pytest.raises(UserError, match="relative=True"):
        MAE(encoder)
    with pytest.raises(UserError, match="rotary"):
        create_encoder("eva02_tiny_patch14_224(depth=1, relative=True)")


def test_learnt_tables_go_along_where_an_encoder_is_trained_further():
    learnt = create_encoder("vit_tiny_patch16_224(depth=2, relative=True)", image_size=(64, 64)).eval()
    torch.nn.init.normal_(learnt.relative[0].rows)
    for other in (copied(learnt, 0.1, scratch=False), reshaped(learnt, {"relative": True})):
        assert torch.equal(other.relative[0].rows, learnt.relative[0].rows)
    with pytest.raises(UserError, match="relative positions do not fit"):
        reshaped(learnt, {"window": 2})
    detector = Detector(copied(learnt, 0.0, False), ["x"], size=(64, 64), anchors=(8, 16, 32, 64, 128), width=16)
    assert not any(p.requires_grad for p in Detect(detector, "linear").encoder.parameters())
    with pytest.raises(UserError, match="--relative is learnt"):
        joined(Transfer, "detect")("run", on=("data",), to="detect", protocol="linear", relative=True)
