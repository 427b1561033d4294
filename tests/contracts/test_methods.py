"""What every method keeps: it learns, every parameter takes part, bf16 stays finite, and a run resumes to the bit."""

import pytest
import torch
from support.small_training import Crash, losses, train

from unmask.models.encoder import create_encoder
from unmask.registry import build, names

METHODS = [*names("method"), "mae(symmetric=True)"]


@pytest.fixture
def x():
    return torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_one_batch(name, encoder, x):
    torch.manual_seed(0)
    method = build("method", name, encoder=encoder, decoder="full(dim=64, depth=1, heads=2)")
    batch = {"views": [x] * method.num_views}
    adam, losses = torch.optim.AdamW(method.parameters(), lr=1e-3), []
    for step in range(30):
        loss = method(batch)["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        method.after_step(step / 30)
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def small(name, seed=0):
    torch.manual_seed(seed)
    encoder = create_encoder(
        "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)", image_size=(32, 32), patch_size=8
    )
    return build("method", name, encoder=encoder, decoder="full(dim=16, depth=1, heads=2)").train()


@pytest.mark.parametrize("name", METHODS)
def test_every_trained_parameter_of_every_method_gets_a_gradient_and_bf16_stays_finite(name, x):
    method = small(name)
    batch = {"views": [x] * method.num_views}
    method(batch)["loss"].backward()
    silent = [key for key, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert silent == []
    method.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(batch)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_is_stopped_and_resumed_ends_with_the_same_losses_and_weights(name, tmp_path):
    def batches(first):
        while True:
            chance = torch.Generator().manual_seed(first)
            yield {"views": [torch.randint(0, 256, (8, 3, 32, 32), generator=chance).byte()] * method.num_views}
            first += 1

    def stop(step, steps):
        if step == 5:
            raise Crash
        return {}

    options = {"steps": 8, "warmup": 2, "lr": 1e-3, "log_every": 1, "save_every": 3, "batches": batches}
    method = small(name)
    whole = train(tmp_path / "whole", method, **options)
    with pytest.raises(Crash):
        train(tmp_path / "resumed", small(name), stop, **options)
    resumed = train(tmp_path / "resumed", small(name, seed=1), **options)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 8
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
