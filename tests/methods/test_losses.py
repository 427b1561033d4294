"""Losses of the methods against lightly's, in value and gradient, and what they promise on their own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from unmask.masking.grid import Grid
from unmask.masking.mask import Rows
from unmask.methods.losses.clustering import Centre, entropy, sinkhorn, swapped
from unmask.methods.losses.contrastive import accuracy, info_nce, nt_xent
from unmask.methods.losses.patches import hide_some, patch_loss
from unmask.methods.losses.spread import deviation, koleo, sigreg, sigreg_along
from unmask.registry import build

lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed")


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def equal(ours, theirs, *inputs):
    """Values and the gradients of all inputs agree to 1e-5."""
    torch.testing.assert_close(ours, theirs.reshape(()), rtol=1e-5, atol=1e-6)
    for mine, other in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs.sum(), inputs)):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_lightlys(temperature):
    first, second = random(7, 16), random(7, 16, seed=1)
    equal(nt_xent(first, second, temperature), lightly.NTXentLoss(temperature)(first, second), first, second)


def test_info_nce_is_cross_entropy_of_cosines():
    query, key = random(6, 8), random(6, 8, seed=1)
    logits = normalize(query, dim=1) @ normalize(key, dim=1).T / 0.2
    equal(info_nce(query, key, 0.2), 0.4 * torch.nn.functional.cross_entropy(logits, torch.arange(6)), query, key)


def test_dinos_loss_and_centre_are_lightlys():
    student, teacher = [random(5, 12, seed=i) for i in range(4)], [random(5, 12, seed=9 + i).detach() for i in (0, 1)]
    theirs, centre = lightly.DINOLoss(12, teacher_temp=0.06, student_temp=0.1), Centre(12)
    for _ in range(3):
        targets = [((view - centre.centre) / 0.06).softmax(dim=1) for view in teacher]
        equal(swapped([view / 0.1 for view in student], targets), theirs(teacher, student, teacher_temp=0.06), *student)
        centre.note(teacher[0])
        centre.note(teacher[1])
        centre.move(torch.tensor(True))
        torch.testing.assert_close(centre.centre, theirs.center.flatten())
    before = centre.centre.clone()
    centre.note(teacher[0])
    centre.move(torch.tensor(False))
    assert torch.equal(centre.centre, before)


def test_swavs_loss_is_lightlys():
    scores = [random(8, 10, seed=i).detach().div(4).requires_grad_() for i in range(5)]
    targets = [sinkhorn(view.detach(), 0.05) for view in scores[:2]]
    theirs = lightly.SwaVLoss(temperature=0.1)(scores[:2], scores[2:])
    equal(swapped([view / 0.1 for view in scores], targets), theirs, *scores)


def test_sinkhorns_rows_sum_to_one_and_prototypes_get_equal_shares():
    q = sinkhorn(random(64, 8).detach(), temperature=0.3, iterations=50)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(q.sum(dim=0), torch.full((8,), 8.0), rtol=1e-3, atol=1e-3)
    extreme = sinkhorn(1e4 * random(16, 4).detach())
    assert extreme.isfinite().all()
    half = torch.arange(64) < 32
    weighted = sinkhorn(random(64, 8).detach(), 0.3, weights=half.float())
    torch.testing.assert_close(weighted[:32], sinkhorn(random(64, 8).detach()[:32], 0.3))


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40), prototypes=st.integers(2, 30), seed=st.integers(0, 9999), scale=st.floats(0, 5))
def test_sinkhorns_rows_sum_to_one_and_its_columns_to_equal_shares_whatever_the_scores(rows, prototypes, seed, scale):
    scores = scale * random(rows, prototypes, seed=seed).detach()
    for iterations in (1, 3, 200):
        q = sinkhorn(scores, temperature=1.0, iterations=iterations)
        assert (q >= 0).all()
        torch.testing.assert_close(q.sum(dim=1), torch.ones(rows))
    torch.testing.assert_close(q.sum(dim=0), torch.full((prototypes,), rows / prototypes), rtol=0.02, atol=1e-3)


def test_ibots_patch_loss_is_lightlys():
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask.view(3, 16)[0, [1, 5, 6]] = True
    mask.view(3, 16)[1, [0, 15]] = True
    mask.view(3, 16)[2, [3]] = True
    logits, teacher = random(3, 5, 9), random(3, 5, 9, seed=3).detach()
    counts = torch.arange(5) < torch.tensor([[3], [2], [1]])
    ours = patch_loss(logits / 0.1, (teacher / 0.07).softmax(dim=2), counts)
    theirs = lightly.IBOTPatchLoss(output_dim=9, teacher_temp=0.07, student_temp=0.1)
    theirs = theirs(teacher_out=teacher[counts], student_out=logits[counts], mask=mask)
    equal(ours, theirs, logits)


@pytest.mark.parametrize(
    "loss",
    [lambda a, b: info_nce(a, b, 0.05), lambda a, b: nt_xent(a, b, 0.05), lambda a, b: koleo(a), accuracy],
    ids=["info_nce", "nt_xent", "koleo", "accuracy"],
)
def test_likenesses_are_computed_in_fp32_under_autocast(loss):
    first = normalize(random(1, 64) + 0.02 * random(40, 64, seed=1), dim=1)  # so alike that bf16 mixes them up
    second = normalize(first + 0.01 * random(40, 64, seed=2), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = loss(first, second)
    torch.testing.assert_close(rounded, loss(first, second), rtol=0, atol=0)


def test_koleo_is_lightlys():
    x = random(12, 6)
    equal(koleo(x), lightly.KoLeoLoss()(x), x)


def test_lejepas_terms_are_lightlys():
    x, directions = random(5, 20, 6), normalize(random(6, 64, seed=2).detach(), dim=0)
    theirs = lightly.LeJEPALoss(lambda_param=0.05, sigreg_num_vectors=64)
    theirs.sigreg._generate_unit_vectors = lambda *_: directions
    agreement = (x[:2].mean(dim=0) - x).square().mean()
    ours = 0.05 * sigreg_along(x, directions) + 0.95 * agreement
    equal(ours, theirs(local_proj=x[2:], global_proj=x[:2]), x)
    gaussian = torch.randn(1, 4000, 3, generator=torch.Generator().manual_seed(5))
    assert sigreg(gaussian, seed=1) < 0.1 * sigreg(0.2 * gaussian, seed=1)


def test_byols_distance_is_lightlys():
    first, second = random(6, 8), random(6, 8, seed=1)
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=1).mean()
    equal(2 - 2 * cosine, 2 + 2 * lightly.NegativeCosineSimilarity()(first, second), first, second)


def test_entropy_and_deviation_tell_collapse_from_use():
    assert entropy(torch.eye(8)) == pytest.approx(1.0)
    assert entropy(torch.eye(8)[:1].expand(8, 8)) == pytest.approx(0.0, abs=1e-6)
    assert deviation(torch.randn(500, 32, generator=torch.Generator().manual_seed(0))) == pytest.approx(1.0, abs=0.05)
    assert deviation(torch.ones(9, 4)) == pytest.approx(0.0, abs=1e-6)


def test_ibot_hides_a_tenth_to_a_half_and_equally_however_the_batch_is_divided():
    grid, sampler = Grid((8, 8), (1, 1)), build("mask", "block(ratio=0.5)")
    whole = hide_some(sampler, 400, grid, "cpu", Rows(3, 0, 400, 400))
    numbers = whole.counts.sum(dim=1)
    assert numbers.min() >= 6
    assert numbers.max() == 32
    assert 17 < numbers.float().mean() < 21
    for row, counts in zip(whole.places[:20], whole.counts[:20]):
        assert len(set(row[counts].tolist())) == counts.sum()
        assert set(row[~counts].tolist()) <= {int(row[0])}
    part = hide_some(sampler, 100, grid, "cpu", Rows(3, 100, 100, 400))
    assert torch.equal(part.places, whole.places[100:200])
