"""Optimizers against independent implementations."""

import copy

import pytest
import torch
from support.classifying import task
from support.small_training import records, train
from timm.optim import Lars as TimmLars
from torch import nn

from unmask.training.lars import Lars
from unmask.training.optimizer import make_optimizer, set_rate


def test_lars_takes_the_steps_of_timms():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    nn.init.zeros_(ours[2].weight)  # a head starts at zero: there is no norm to follow yet
    theirs, x = copy.deepcopy(ours), torch.randn(32, 8)

    def groups(model):
        matrices = {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01}
        return [matrices, {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]

    adapted = [group | {"always_adapt": adapt} for group, adapt in zip(groups(theirs), (True, False))]
    pair = Lars(groups(ours), momentum=0.9), TimmLars(adapted, lr=0.0, momentum=0.9, trust_coeff=0.001)
    before = [p.detach().clone() for p in ours.parameters()]
    for rate in (0.1, 1.0, 3.0, 0.5):
        for model, optimizer in zip((ours, theirs), pair):
            optimizer.zero_grad()
            model(x).square().sub(1).square().mean().backward()
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
    for mine, other, first in zip(ours.parameters(), theirs.parameters(), before):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-8)
        assert not torch.equal(mine, first)


def test_the_rate_of_a_layer_falls_with_its_distance_from_the_head():
    """Layer decay as in MAE's fine-tuning, from the objective to the rates that the optimizer steps by."""
    objective = task(layer_decay=0.5)
    optimizer = make_optimizer(objective, "adamw", 0.1)
    set_rate(optimizer, 2.0)
    rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
    own = {name: rates[id(p)] for name, p in objective.classifier.named_parameters() if p.requires_grad}
    depth = objective.encoder.num_blocks
    assert own["head.weight"] == 2.0
    assert own["encoder.net.patch_embed.proj.weight"] == 2.0 * 0.5 ** (depth + 1)
    for number in range(depth):
        assert own[f"encoder.net.blocks.{number}.attn.qkv.weight"] == 2.0 * 0.5 ** (depth - number)


def test_the_loop_warms_the_rate_up_from_zero(tmp_path):
    """A line over the warm-up's steps, as the records have it; the first step of all moves nothing."""
    train(tmp_path / "run", steps=12, warmup=4, lr=0.08, log_every=1)
    rates = [record["lr"] for record in records(tmp_path / "run") if "lr" in record]
    assert rates[:5] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.08], rel=1e-3)
    assert rates[5:] == sorted(rates[5:], reverse=True)
