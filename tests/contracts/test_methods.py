"""What every method keeps: it learns, every parameter takes part, bf16 stays finite, and a run resumes to the bit."""

import pytest
import torch

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
