"""Optimizers against independent implementations."""

import copy

import torch
from timm.optim import Lars as TimmLars
from torch import nn

from unmask.training.lars import Lars


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
