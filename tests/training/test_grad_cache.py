"""A batch of samples that are compared, in parts: two passes give the loss and gradient of the whole batch."""

import pytest
import torch
from support.methods import part_of, small_method, views_of

from unmask.registry import names
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import RuntimeSettings
from unmask.training.loop import backward
from unmask.training.objective import Comparing
from unmask.training.optimizer import clip_each, make_optimizer
from unmask.training.settings import Fit

METHODS = [name for name in names("method") if isinstance(small_method(name), Comparing)]


def gradients(name, parts, drop=0.0):
    method = small_method(name)
    for module in method.encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = drop
    devices = make_devices(RuntimeSettings())
    model, optimizer = devices.setup(method), make_optimizer(method)
    whole = views_of(method, count=8)
    size = 8 // parts
    batches = [part_of(whole, slice(i * size, (i + 1) * size)) for i in range(parts)]
    config = Fit(steps=1, batch=8, lr=1e-3, accumulate=parts, grad_cache=parts > 1)
    outputs = backward(model, method, optimizer, iter(batches), config, devices)
    return outputs["loss"], {key: p.grad for key, p in method.named_parameters() if p.requires_grad}


def test_there_are_methods_that_compare():
    assert {"simclr", "mocov3", "byol", "swav", "lejepa"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_two_passes_over_parts_give_the_gradient_of_the_whole_batch(name):
    loss, whole = gradients(name, 1)
    for parts in (2, 4):
        other, divided = gradients(name, parts)
        torch.testing.assert_close(other, loss, rtol=1e-4, atol=1e-5)
        assert divided.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                divided[key], value, rtol=2e-3, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}"
            )


def test_gradients_are_clipped_tensor_by_tensor():
    small, large = (torch.nn.Parameter(torch.zeros(4)) for _ in range(2))
    small.grad, large.grad = torch.full((4,), 0.1), torch.full((4,), 10.0)
    norm = clip_each([small, large], 3.0)
    assert norm == pytest.approx((0.04 + 400) ** 0.5)
    assert torch.equal(small.grad, torch.full((4,), 0.1))
    assert large.grad.norm() == pytest.approx(3.0, rel=1e-4)
