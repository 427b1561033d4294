"""Two processes train every method as one does with the same batch: losses, gradients and teachers."""

import numpy as np
import pytest
import torch
from support.grouped import together
from support.methods import part_of, small_method, views_of
from torch import nn

from unmask.methods.losses.pairs import distance_of_pairs, info_nce_of_pairs
from unmask.models.layers.batch_norm import BatchNorm
from unmask.registry import names
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.settings import RuntimeSettings
from unmask.training.loop import backward, schedule
from unmask.training.optimizer import make_optimizer, set_rate
from unmask.training.settings import Fit
from unmask.training.speed.compile import ready

STEPS, BATCH = 2, 8
MODES = ("mae_contrast(mode='head')", "mae_contrast(mode='tuned')", "igpt(masked=True)", "mae(target=features)")
MODES += ("mae(mask=attention)", "simmim(mask=parts)", "mae(mask=adaptive)", "ibot(mask=attention)", "siglip(mae=1.0)")


def trained(name, accumulate=1, strategy="ddp", precision="32"):
    """Losses and weights of a few steps in as many processes as we are."""
    launched, settings = launch(), RuntimeSettings(strategy=strategy, precision=precision)
    method, devices = ready(small_method(name), settings), make_devices(settings)
    model, optimizer = devices.setup(method), make_optimizer(method, name="sgd" if precision == "32" else "adamw")
    config = Fit(steps=STEPS, batch=BATCH, lr=1e-2, accumulate=accumulate, grad_cache=accumulate > 1)
    size, measured = BATCH // launched.world // accumulate, []
    for step in range(STEPS):
        whole = views_of(method, count=BATCH, seed=step)
        batches = []
        for micro in range(accumulate):
            first = (micro * launched.world + launched.rank) * size
            batches.append(part_of(whole, slice(first, first + size)))
        schedule(method, optimizer, step / STEPS)
        method.before_step(step)
        set_rate(optimizer, 1e-2 if precision == "32" else 1e-3)
        outputs = backward(model, method, optimizer, iter(batches), config, devices, step, STEPS)
        optimizer.step()
        method.after_step((step + 1) / STEPS)
        optimizer.zero_grad()
        measured.append(devices.mean(outputs["loss"].clone()).item())
    state = {key: whole_tensor(value).double() for key, value in method.state_dict().items()}
    return measured, {key: value.numpy() for key, value in state.items()}


def whole_tensor(value):
    return value.full_tensor() if hasattr(value, "full_tensor") else value


TAUGHT = ("byol", "dino", "ijepa", "mae(target=ema)", "mae(mask=attention)")


def taught():
    """Methods with a teacher, in shards, and as copies with bf16 weights."""
    ways = [("fsdp2", "32"), ("ddp", "bf16-weights")]
    return {(name, *way): trained(name, 1, *way) for name in TAUGHT for way in ways}


def everything(methods):
    comparing = [name for name in methods if name in ("simclr", "mocov3", "byol", "mae_contrast", "siglip", "align")]
    return {name: trained(name) for name in methods} | {f"{name} in parts": trained(name, 2) for name in comparing}


def normalised():
    """The output and gradient of a batch norm on this process's rows."""
    launched = launch()
    make_devices(RuntimeSettings(strategy="ddp"))
    torch.manual_seed(0)
    rows, norm = torch.randn(8, 4), BatchNorm(4)
    mine = rows.view(launched.world, -1, 4)[launched.rank].clone().requires_grad_()
    norm(mine).pow(3).sum().backward()
    return mine.grad.numpy(), norm.running_mean.numpy(), norm.running_var.numpy()


@pytest.mark.slow
def test_two_processes_equal_one_for_every_method():
    methods = [*names("method"), *MODES]
    one = everything(methods)
    for rank, both in enumerate(together(2, everything, methods)):
        for name, (losses, state) in both.items():
            whole, weights = one[name.removesuffix(" in parts")]
            assert losses == pytest.approx(whole, rel=2e-4), (rank, name)
            for key, value in weights.items():
                np.testing.assert_allclose(state[key], value, rtol=2e-3, atol=2e-5, err_msg=f"{rank} {name} {key}")


@pytest.mark.slow
def test_teachers_follow_shards_and_the_masters_of_bf16_weights_as_in_one_process():
    plain = {name: trained(name) for name in TAUGHT}
    low = {name: trained(name, precision="bf16-weights") for name in TAUGHT}
    for both in together(2, taught):
        for (name, strategy, precision), (losses, state) in both.items():
            whole, weights = (plain if precision == "32" else low)[name]
            tolerance, step = (2e-4, 1e-4) if precision == "32" else (2e-2, 5e-3)
            assert losses == pytest.approx(whole, rel=tolerance), (name, strategy)
            assert state.keys() == weights.keys()
            for key, value in weights.items():
                np.testing.assert_allclose(state[key], value, rtol=10 * tolerance, atol=step, err_msg=f"{name} {key}")
            assert any("teacher.module" in key or "own.module" in key for key in state)


def paired():
    """The losses of this process's pairs, of which some are incomplete, and their gradient by the vectors of each
    side."""
    launched = launch()
    make_devices(RuntimeSettings(strategy="ddp"))
    chance = torch.Generator().manual_seed(0)
    whole = torch.randn(2, 8, 4, generator=chance)
    there = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0]).bool()
    first, second = whole.view(2, launched.world, -1, 4)[:, launched.rank].clone().requires_grad_()
    mine = there.view(launched.world, -1)[launched.rank]
    loss = info_nce_of_pairs(first, second, torch.tensor(5.0), mine) + distance_of_pairs(first, second, mine)
    return loss.item(), np.stack([x.numpy() for x in torch.autograd.grad(loss, [first, second])])


@pytest.mark.slow
def test_incomplete_pairs_count_over_processes_as_in_one():
    loss, gradients = paired()
    both = together(2, paired)
    assert np.mean([part[0] for part in both]) == pytest.approx(loss, rel=1e-5)
    found = np.concatenate([part[1] for part in both], axis=1) / 2  # weights get the mean over processes
    np.testing.assert_allclose(found, gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_batch_norm_over_processes_is_that_of_one():
    rows, norm = torch.randn(8, 4, generator=torch.manual_seed(0)).requires_grad_(), nn.BatchNorm1d(4)
    norm(rows).pow(3).sum().backward()
    first, second = together(2, normalised)
    both = torch.cat([torch.from_numpy(first[0]), torch.from_numpy(second[0])])
    torch.testing.assert_close(both, rows.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(first[1]), norm.running_mean)
    torch.testing.assert_close(torch.from_numpy(second[2]), norm.running_var)
