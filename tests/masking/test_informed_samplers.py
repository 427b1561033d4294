"""Masks that look at the images: each hides what its paper says, and the one that learns, learns it."""

import numpy as np
import pytest
import torch
from support.masking import sampler_of

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import as_bool
from unmask.masking.samplers.parts import clusters
from unmask.registry import build

GRID = Grid((4, 5), (2, 2))


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_attention_hides_the_most_attended_units_of_a_map():
    attention = torch.stack([torch.randperm(20, generator=chance(k)) for k in range(3)]).float() ** 2
    mask = build("mask", "attention(ratio=0.6)")(3, GRID, "cpu", chance(), context={"teacher_attention": attention})
    for shares, hidden in zip(attention.numpy(), mask.hidden.numpy()):
        assert {*hidden} == {*np.argsort(-shares)[:12]}


def test_a_hint_leaves_some_of_the_most_attended_visible_and_hides_the_next_instead():
    attention = torch.arange(20.0).expand(500, -1)
    sampler = build("mask", "attention(ratio=0.6, hint=0.25)")
    hidden = as_bool(sampler(500, GRID, "cpu", chance(), context={"teacher_attention": attention}).hidden, 20)
    assert (hidden.sum(dim=1) == 12).all()
    assert (hidden[:, 8:].sum(dim=1) == 9).all()  # of the 12 most attended 3 are shown
    assert hidden[:, 5:8].all()  # the next 3
    assert not hidden[:, :5].any()
    assert (hidden[:, 8:].float().mean(dim=0) - 0.75).abs().max() < 0.1  # whichever of them
    with pytest.raises(UserError, match=r"leaves too little visible for hint=0.9: at most 0.66"):
        build("mask", "attention(ratio=0.6, hint=0.9)")


def planted(batch=4, parts=4):
    """Features of units that belong to parts of known places, nearly the same in each."""
    kind = torch.arange(20) % parts
    directions = torch.linalg.qr(torch.randn(8, 8, generator=chance(5)))[0][:parts]
    return kind, (3 * directions[kind] + 0.05 * torch.randn(batch, 20, 8, generator=chance(6)))


def test_parts_are_clusters_of_the_features():
    kind, features = planted()
    together = kind[:, None] == kind[None]
    for found in clusters(features, 4, torch.rand(4, generator=chance())):
        assert torch.equal(found[:, None] == found[None], together)


def hidden_shares(progress):
    kind, features = planted()
    sampler = build("mask", "parts(ratio=0.5, parts=4)")
    context = {"features": features, "progress": progress}
    hidden = as_bool(sampler(4, GRID, "cpu", chance(1), context=context).hidden, 20)
    return torch.stack([hidden[:, kind == part].float().mean(dim=1) for part in range(4)], dim=1)


def test_parts_hides_within_parts_early_and_whole_parts_late():
    early, middle, late = (hidden_shares(progress) for progress in (0.0, 0.5, 1.0))
    assert ((early - 0.5).abs() <= 0.1 + 1e-6).all()  # 2 or 3 of 5
    assert ((late == 0) | (late == 1)).all()
    assert len(torch.unique(late, dim=0)) > 1  # other parts in other samples
    assert early.std(dim=1).mean() < middle.std(dim=1).mean() < late.std(dim=1).mean()


def test_the_loss_of_adaptive_is_the_mean_of_log_probability_times_error():
    sampler = sampler_of("adaptive", GRID)
    pixels, errors = torch.randn(3, 20, 4, generator=chance()), torch.rand(3, 7, generator=chance(1))
    index = torch.rand(3, 20, generator=chance(2)).argsort(dim=1)[:, :7]
    loss = sampler.loss(index, errors, GRID, {"pixels": pixels})
    with torch.no_grad():
        log_p = sampler.log_probabilities(pixels, GRID).double().numpy()
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, rtol=1e-5)
    picked = np.take_along_axis(log_p, index.numpy(), axis=1)
    assert loss.item() == pytest.approx(-(picked * errors.numpy()).mean(), rel=1e-5)
    loss.backward()
    assert all(parameter.grad.any() for parameter in sampler.parameters())


def test_adaptive_draws_visible_units_by_their_probability():
    sampler, batch = sampler_of("adaptive(ratio=0.95, dim=16)", GRID), 8000
    with torch.no_grad():
        sampler.rate.weight.mul_(30)  # far from uniform
        pixels = torch.randn(1, 20, 4, generator=chance())
        p = sampler.log_probabilities(pixels, GRID)[0].exp()
    mask = sampler(batch, GRID, "cpu", chance(), context={"pixels": pixels.expand(batch, -1, -1)})
    assert mask.visible.shape[1] == 1
    assert p.max() > 2 / 20
    found = torch.bincount(mask.visible[:, 0], minlength=20) / batch
    assert (found - p).abs().max() < 0.02


@pytest.mark.parametrize("hide", [False, True])
def test_adaptive_learns_to_show_or_to_hide_what_is_hard_to_guess(hide):
    """A quarter of the units is bright and cannot be guessed."""
    sampler = sampler_of(f"adaptive(ratio=0.5, dim=16, heads=2, hide={hide})", GRID)
    adam = torch.optim.AdamW(sampler.parameters(), lr=5e-3)

    def hard_share(seed, learns):
        hard = torch.rand(32, 20, generator=chance(seed)).argsort(dim=1) < 5
        pixels = torch.randn(32, 20, 4, generator=chance(seed)) * 0.1 + 2.0 * hard[..., None]
        mask = sampler(32, GRID, "cpu", chance(seed), context={"pixels": pixels})
        errors = hard.gather(1, mask.hidden).float() + 0.1
        if learns:
            adam.zero_grad()
            sampler.loss(mask.hidden, errors, GRID, {"pixels": pixels}).backward()
            adam.step()
        return hard.gather(1, mask.hidden).float().sum(dim=1).mean().item() / 5  # of hard units that are hidden

    before = np.mean([hard_share(1000 + seed, learns=False) for seed in range(5)])
    for seed in range(60):
        hard_share(seed, learns=True)
    after = np.mean([hard_share(1000 + seed, learns=False) for seed in range(5)])
    assert before == pytest.approx(0.5, abs=0.12)
    assert after > 0.9 if hide else after < 0.25  # what is nearly always shown teaches nothing more
