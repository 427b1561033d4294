"""Block masks as BEiT's and I-JEPA's: counts, sides, areas, overlap; and on average those of independent code."""

import random

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Noise, as_bool
from unmask.masking.samplers.multiblock import LEAST
from unmask.registry import build

NEEDS = "dev extra: independent code to compare with"
GRID = Grid((14, 14), (16, 16))
BEIT = "block(ratio=0.3826)"  # 75 of 196
seeds = st.integers(0, 2**31)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def extent(index, columns=14):
    """Rows and columns of the smallest box around units."""
    rows, columns = index // columns, index % columns
    return [(side.amax(dim=-1) - side.amin(dim=-1) + 1).float() for side in (rows, columns)]


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_boxes_have_beits_areas_and_sides_and_exactly_75_of_196_patches_are_hidden(seed):
    sampler = build("mask", BEIT)
    assert sampler(4, GRID, "cpu", generator(seed)).hidden.shape == (4, 75)
    start, size = sampler.draw(4, GRID, Noise("cpu", generator(seed)))
    height, width = size.unbind(dim=2)
    assert (start >= 0).all()
    assert (start + size <= 14).all()
    inside = (height < 14) & (width < 14)  # the others are cut to the image
    assert ((height + 0.5) * (width + 0.5) >= 16)[inside].all()  # sides are rounded
    assert ((height - 0.5) * (width - 0.5) <= 75).all()
    assert ((height - 0.5) / (width + 0.5) <= 1 / 0.3).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.3).all()


def test_areas_and_the_logarithm_of_the_sides_ratio_are_uniform():
    _, size = build("mask", BEIT).draw(2000, Grid((1000, 1000), (1, 1)), Noise("cpu", generator(0)))
    area = size.prod(dim=2).flatten() / 1e6
    ratio = (size[..., 0] / size[..., 1]).log().flatten() / torch.tensor(1 / 0.3).log()
    spread = torch.linspace(0.05, 0.95, 10)
    torch.testing.assert_close(ratio.quantile(spread), 2 * spread - 1, rtol=0, atol=0.02)
    low, high = 16 / 196, 0.3826
    torch.testing.assert_close(area.quantile(spread), low + (high - low) * spread, rtol=0, atol=0.01)


def test_block_masks_look_like_lightlys():
    utils = pytest.importorskip("lightly.models.utils", reason=NEEDS)
    state = random.getstate()
    random.seed(0)
    theirs = torch.stack([utils.random_block_mask_image((14, 14), 75, min_num_masks_per_block=16) for _ in range(400)])
    random.setstate(state)
    ours = as_bool(build("mask", BEIT)(400, GRID, "cpu", generator(0)).hidden, 196).view(-1, 14, 14)
    for look, tolerance in (
        (lambda m: m.flatten(1).sum(dim=1).float().mean() / 75, 0.02),
        (lambda m: (m[:, 1:] == m[:, :-1]).float().mean(), 0.02),  # neighbours that are alike: 0.53 for random masks
        (lambda m: (m[:, :, 1:] == m[:, :, :-1]).float().mean(), 0.02),
        (lambda m: m.any(dim=2).sum(dim=1).float().mean() / 14, 0.06),  # rows with a hidden patch
        (lambda m: m[:, 5:9, 5:9].float().mean(), 0.1),  # the middle, which most boxes cover
    ):
        assert look(ours) == pytest.approx(float(look(theirs)), abs=tolerance)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, shape=st.sampled_from([(14, 14), (16, 16), (10, 20), (8, 8)]))
@example(seed=11, shape=(8, 8))  # 3 x 3 and two patches on two sides of it
def test_targets_have_ijepas_scale_and_aspect_and_are_taken_out_of_the_context(seed, shape):
    grid = Grid(shape, (1, 1))
    seen, targets = build("mask", "multiblock").blocks(6, grid, Noise("cpu", generator(seed)))
    count = targets.shape[2]
    assert targets.shape[:2] == (6, 4)
    assert 0.15 <= count / grid.num_units <= 0.2
    assert seen.shape[1] == round(0.925 * grid.num_units) - 4 * count
    assert seen.shape[1] >= LEAST
    for context, blocks in zip(seen, targets):
        assert len(set(context.tolist())) == len(context)
        assert not set(context.tolist()) & set(blocks.flatten().tolist())
        assert all(len(set(block.tolist())) == count for block in blocks)
    height, width = extent(targets, shape[1])
    stretch = shape[0] / shape[1]
    inner = (height - 2).clamp(min=0) * (width - 2).clamp(min=0)
    assert (inner <= count).all()  # a whole box, and only units next to it that make the count exact
    assert ((height - 1.5) / (width + 1.5) <= 1.5 * stretch).all()
    assert ((height + 1.5) / (width - 1.5).clamp(min=0.5) >= 0.75 * stretch).all()


def test_multiblock_masks_look_like_lightlys():
    collate = pytest.importorskip("lightly.data.ijepa_collate", reason=NEEDS)
    masks = collate.IJEPAMaskCollator(224, 16, (0.85, 1.0), (0.15, 0.2), (0.75, 1.5), nenc=1, npred=4, min_keep=10)
    torch.manual_seed(0)
    drawn = [masks([torch.zeros(1)])[1:] for _ in range(100)]
    theirs = [torch.stack([target[0] for target in targets]) for _, targets in drawn]
    seen, ours = build("mask", "multiblock").blocks(100, GRID, Noise("cpu", generator(0)))
    assert ours.shape[2] == pytest.approx(sum(t.shape[1] for t in theirs) / 100, rel=0.05)
    sides = torch.stack([side for blocks in theirs for side in extent(blocks)]).mean()
    assert torch.stack(extent(ours)).mean() == pytest.approx(float(sides), rel=0.1)
    covered = sum(len(set(blocks.flatten().tolist())) for blocks in theirs) / 100
    assert sum(len(set(blocks.flatten().tolist())) for blocks in ours) / 100 == pytest.approx(covered, rel=0.15)
    fewest = [masks([torch.zeros(1)] * 64)[1][0].shape[1] for _ in range(5)]  # a batch is cut to its smallest context
    assert min(fewest) - 10 <= seen.shape[1] <= max(fewest) + 10


@pytest.mark.parametrize(("shape", "options"), [((2, 2), ""), ((3, 3), ""), ((14, 14), "(targets=6)")])
def test_a_grid_that_leaves_no_context_is_refused(shape, options):
    with pytest.raises(UserError, match=r"leave (no context|a context of 1) on a grid of"):
        build("mask", f"multiblock{options}")(1, Grid(shape, (1, 1)), "cpu")
