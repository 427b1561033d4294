"""Units without a value: hidden before all others, and worth nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.methods.mae import MAE
from unmask.methods.simmim import SimMIM
from unmask.models.encoder import create_encoder
from unmask.registry import build

SIZE, PATCH = (16, 32), 4


def method(kind, mask="random(ratio=0.5)"):
    model = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)"
    encoder = create_encoder(model, image_size=SIZE, patch_size=PATCH, channels=1, gaps=True)
    return kind(encoder, mask=mask, **({"decoder": "full(dim=16, depth=1, heads=2)"} if kind is MAE else {}))


def short(columns):
    """Two samples of which the first has a value in so many columns only."""
    x = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    x[0, :, :, columns:] = torch.nan
    return x


@settings(deadline=None, max_examples=20)
@given(columns=st.integers(4, 32), name=st.sampled_from(["random", "block", "grid"]))
def test_what_is_empty_is_hidden_first(columns, name):
    torch.manual_seed(columns)
    objective, x = method(MAE, f"{name}(ratio=0.5)"), short(columns)
    mask, empty = objective.draw({"views": [x]}), objective.empty_units(x)
    assert int(empty[0].sum()) == 4 * ((32 - columns) // PATCH)
    seen = empty.gather(1, mask.visible)
    room = mask.hidden.shape[1] - int(empty[0].sum())
    assert int(seen[0].sum()) == max(0, -room)  # only where more is empty than is hidden
    assert not seen[1].any()


@pytest.mark.parametrize("kind", [MAE, SimMIM])
def test_the_loss_is_the_mean_over_what_has_a_value(kind):
    torch.manual_seed(0)
    objective, x = method(kind), short(16)
    mask = objective.draw({"views": [x]})
    loss = objective({"views": [x], "mask": mask})["loss"]
    empty = objective.empty_units(x).gather(1, mask.hidden)
    wanted, prediction = objective.targets(x, mask.hidden), objective.predict(x, mask).float()
    errors = (prediction - wanted).square() if kind is MAE else (prediction - wanted).abs()
    assert loss.item() == pytest.approx(errors[~empty].mean().item(), rel=1e-5)
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in objective.parameters() if p.grad is not None)


def test_an_encoder_without_gaps_is_unchanged_by_them():
    model = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)"
    torch.manual_seed(0)
    one = create_encoder(model, image_size=SIZE, patch_size=PATCH, channels=1)
    torch.manual_seed(0)
    two = create_encoder(model, image_size=SIZE, patch_size=PATCH, channels=1, gaps=True)
    x = torch.randn(1, 1, *SIZE)
    assert torch.equal(one(x).units, two(x).units)
    assert build("method", "mae", encoder=one).told(x).keys() == {"progress"}
