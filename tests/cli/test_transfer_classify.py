"""The task classify, its parts one by one: who is trained and how fast, heads, mixing, averages, metrics, views."""

import pytest
import timm
import torch
from support.classifying import TINY, batch, layer, names, settings, task, vit
from torch import nn

from unmask.errors import UserError
from unmask.training.optimizer import groups


@pytest.mark.parametrize(
    ("model", "size", "patch"),
    [(TINY, 32, 8), ("eva02_tiny_patch14_224(depth=3)", 28, 14), ("hiera_tiny_224(stages=(1, 1, 1, 1))", 64, 32)],
)
def test_layer_decay_follows_the_published_rule(model, size, patch):
    encoder = vit(model, size, patch)
    objective = task(encoder, layer_decay=0.5)
    depth = encoder.num_blocks
    found = {id(p): g for g in groups(objective, 0.05) for p in g["params"]}
    seen = set()
    for name, parameter in objective.named_parameters():
        group, place = found[id(parameter)], layer(name, depth)
        assert group["scale"] == pytest.approx(0.5 ** (depth + 1 - place)), name
        free = parameter.ndim < 2 or "pos_embed" in name or "cls_token" in name
        assert group["weight_decay"] == (0.0 if free else 0.05), name
        seen.add(place)
    assert seen == set(range(depth + 2))


def changed(objective, steps=1):
    """Names of parameters that a training step moves, having checked that all trained ones get a gradient."""
    before = {name: p.detach().clone() for name, p in objective.classifier.named_parameters()}
    buffers = {n: b.clone() for n, b in objective.encoder.named_buffers()}
    nn.init.normal_(objective.classifier.head.weight, std=0.1)  # a head at zero passes no gradient on
    before["head.weight"] = objective.classifier.head.weight.detach().clone()
    optimizer = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], lr=1.0)
    objective.train()
    for _ in range(steps):
        optimizer.zero_grad()
        objective(batch())["loss"].backward()
        for name, p in objective.named_parameters():
            assert (p.grad is not None and bool(p.grad.abs().sum() > 0)) == p.requires_grad, name
        optimizer.step()
    for name, buffer in objective.encoder.named_buffers():
        assert torch.equal(buffer, buffers[name])
    return {name for name, p in objective.classifier.named_parameters() if not torch.equal(p, before[name])}


HEAD = {"head.weight", "head.bias"}
MEAN = {"norm.weight", "norm.bias"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"protocol": "full"}, lambda: names("") - names("norm") | HEAD | MEAN),
        ({"protocol": "full", "pooling": "cls", "norm": "none"}, lambda: names("") | HEAD),
        ({"protocol": "partial", "blocks": 1}, lambda: names("blocks.3.") | HEAD | MEAN),
        ({"protocol": "partial", "blocks": 2}, lambda: names("blocks.2.", "blocks.3.") | HEAD | MEAN),
        ({"protocol": "partial", "blocks": 0.5}, lambda: names("blocks.3.norm2", "blocks.3.mlp") | HEAD | MEAN),
        (
            {"protocol": "partial", "blocks": 1, "pooling": "cls", "norm": "none"},
            lambda: names("blocks.3.", "norm") | HEAD,
        ),
        ({"protocol": "linear", "norm": "batch"}, lambda: HEAD),
        ({"protocol": "linear", "norm": "batch", "pooling": "cls"}, lambda: HEAD),
    ],
)
def test_each_protocol_trains_exactly_what_it_should(options, expected):
    assert changed(task(**options)) == expected()


def test_the_attentive_protocol_trains_query_and_head_alone():
    moved = changed(task(protocol="attentive", pooling="attentive", norm="batch"))
    assert moved == HEAD | {n for n, _ in task(pooling="attentive").classifier.named_parameters() if "attention" in n}


def test_a_frozen_encoder_is_not_disturbed_by_dropping_paths():
    encoder = vit("vit_tiny_patch16_224(depth=4, embed_dim=24, num_heads=2, drop_path_rate=0.9)")
    objective = task(encoder, protocol="linear", norm="none").train()
    first, second = (objective(batch())["loss"] for _ in range(2))
    assert torch.equal(first, second)


def test_too_many_blocks_and_impossible_poolings_are_refused():
    with pytest.raises(UserError, match=r"0\.5 or a whole number from 1 to 4 here, got 99"):
        task(protocol="partial", blocks=99)
    with pytest.raises(UserError, match="no class token"):
        task(vit("vit_medium_patch16_reg4_gap_256(depth=1)", 32, 16), pooling="cls")
    with pytest.raises(UserError, match="did you mean 'mean'"):
        task(pooling="meen")
    with pytest.raises(UserError, match="did you mean 'linear'"):
        task(protocol="liner")
    with pytest.raises(UserError, match="trains its own pooling"):
        settings(vit(), protocol="attentive", pooling="mean")


@pytest.mark.parametrize(("pooling", "norm", "pool"), [("mean", "layer", "avg"), ("cls", "none", "token")])
def test_heads_equal_timms_own(pooling, norm, pool):
    chosen = settings(vit(), pooling=pooling)
    assert chosen.norm == norm
    classifier = task(pooling=pooling, norm=norm).classifier.eval()
    nn.init.normal_(classifier.head.weight, std=0.1)
    nn.init.normal_(classifier.head.bias)
    arguments = {k: v for k, v in classifier.encoder.arguments.items() if k not in ("num_classes", "global_pool")}
    theirs = timm.create_model(**arguments, num_classes=3, global_pool=pool).eval()
    state = classifier.encoder.net.state_dict() | {f"head.{k}": v for k, v in classifier.head.state_dict().items()}
    if pooling == "mean":
        nn.init.normal_(classifier.norm.weight)
        state |= {f"fc_norm.{k}": v for k, v in classifier.norm.state_dict().items()}
    theirs.load_state_dict(state)
    (x,) = batch()["views"]
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), theirs((x.float() - 100) / 50), rtol=1e-4, atol=1e-5)
