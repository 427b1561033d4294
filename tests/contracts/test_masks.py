"""What every mask sampler keeps, on grids of one, two and three dimensions."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.masking import rows_of, sampler_of, told

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import LEVELS, Rows, as_bool, num_hidden
from unmask.registry import find, names

MASKS = names("mask")
NEEDY = [name for name in MASKS if find("mask", name).needs]
COVERING = [name for name in MASKS if find("mask", name).covers]
shapes = (
    st.integers(1, 3)
    .flatmap(lambda k: st.tuples(*[st.integers(1, 7)] * k))
    .filter(lambda s: torch.tensor(s).prod() > 1)
)


def grid_of(*shape):
    return Grid(shape, (1,) * len(shape))


def masks(sampler, batch, grid, seed=None, progress=1.0, **options):
    """Masks of images that the seed decides, as chance is."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    context = told(sampler, batch, grid, seed or 0, progress)
    return sampler(batch, grid, "cpu", generator, context=context, **options)


@pytest.mark.parametrize("name", COVERING)
@settings(max_examples=25, deadline=None)
@given(shape=shapes, ratio=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_every_mask_splits_the_units_in_two_with_the_exact_count(name, shape, ratio, seed):
    grid = grid_of(*shape)
    sampler = sampler_of(name, grid, ratio=ratio)
    mask, places = masks(sampler, 3, grid, seed), sampler.places(grid)
    both = torch.cat([mask.visible, mask.hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(grid.num_units).expand(3, -1))
    assert mask.hidden.shape[1] == sampler.count(grid)
    assert abs(mask.hidden.shape[1] * places / grid.num_units - num_hidden(places, ratio)) <= (places < grid.num_units)
    assert mask.visible.shape[1] >= 1


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("shape", [(8, 8), (14, 14), (6, 10), (30,), (4, 5, 6)])
def test_what_is_seen_and_what_is_predicted_are_disjoint_and_have_static_counts(name, shape):
    grid = grid_of(*shape)
    sampler = sampler_of(name, grid)
    drawn = [masks(sampler, 9, grid, seed, progress=seed / 6) for seed in range(6)]
    assert len({(m.visible.shape, m.hidden.shape) for m in drawn}) == 1
    for mask in drawn:
        seen, predicted = as_bool(mask.visible, grid.num_units), as_bool(mask.hidden, grid.num_units)
        assert not (seen & predicted).any()
        assert (seen.sum(dim=1) == mask.visible.shape[1]).all()
        assert bool((seen | predicted).all()) or not sampler.covers


@pytest.mark.parametrize("name", COVERING)
@pytest.mark.parametrize("ratio", [(0.4, 0.8), (0.9, 0.5)])
def test_the_ratio_of_every_mask_may_move_in_a_few_steps_over_the_training(name, ratio):
    grid = grid_of(4, 4, 5)
    sampler = sampler_of(name, grid, ratio=ratio)
    counts = [masks(sampler, 2, grid, 0, k / 20).hidden.shape[1] for k in range(20)]
    assert "progress" in sampler.needs
    assert len(set(counts)) == LEVELS == len(sampler.note(grid).split("hides ")[1].split(" of")[0].split(", "))
    assert counts == sorted(counts, reverse=ratio[0] > ratio[1])
    assert (counts[0], counts[-1]) == tuple(sampler_of(name, grid, ratio=end).count(grid) for end in ratio)
    assert sampler.count(grid, sampler.dearest) == min(counts)
    assert masks(sampler, 2, grid, 0).hidden.shape[1] == counts[-1]  # a trained model is drawn at its end


@pytest.mark.parametrize("name", MASKS)
def test_every_mask_is_seedable_and_changes_from_sample_to_sample(name):
    grid = grid_of(8, 8)
    sampler = sampler_of(name, grid)
    draws = [masks(sampler, 16, grid, seed) for seed in (1, 1, 2)]
    assert torch.equal(draws[0].hidden, draws[1].hidden)
    assert not torch.equal(draws[0].hidden, draws[2].hidden)
    hidden = as_bool(draws[0].hidden, 64)
    assert len(torch.unique(hidden, dim=0)) > 1


@pytest.mark.parametrize("name", MASKS)
def test_every_sample_gets_the_same_mask_however_the_batch_is_divided(name):
    grid = grid_of(6, 8)
    sampler = sampler_of(name, grid)
    context = told(sampler, 12, grid)
    whole = sampler(12, grid, "cpu", rows=Rows(5, 0, 12, 12), context=context)
    for parts in (2, 4):
        size = 12 // parts
        pieces = [
            sampler(size, grid, "cpu", rows=Rows(5, k * size, size, 12), context=rows_of(context, k * size, size))
            for k in range(parts)
        ]
        assert torch.equal(torch.cat([piece.hidden for piece in pieces]), whole.hidden)
    other = sampler(12, grid, "cpu", rows=Rows(6, 0, 12, 12), context=told(sampler, 12, grid, seed=1))
    assert not torch.equal(other.hidden, whole.hidden)
    assert len(torch.unique(as_bool(whole.hidden, 48), dim=0)) > 1


@pytest.mark.parametrize("name", MASKS)
def test_every_mask_is_the_same_in_bf16(name):
    grid = grid_of(6, 8)
    sampler = sampler_of(name, grid)
    with torch.autocast("cpu", torch.bfloat16):
        low = masks(sampler, 4, grid, 3)
    assert torch.equal(low.hidden, masks(sampler, 4, grid, 3).hidden)


@pytest.mark.parametrize("name", MASKS)
def test_every_mask_hides_every_unit_now_and_then(name):
    grid = grid_of(6, 6)
    hidden = as_bool(masks(sampler_of(name, grid), 4000, grid).hidden, 36)
    assert hidden.any(dim=0).all()
    assert (~hidden).any(dim=0).all()


@pytest.mark.parametrize("name", COVERING)
def test_every_mask_can_be_drawn_several_times_for_an_image(name):
    grid = grid_of(6, 6)
    sampler = sampler_of(name, grid, ratio=0.75)
    context, rows = told(sampler, 2, grid), Rows(5, 0, 2, 2)
    mask = sampler.several(3, 2, grid, "cpu", rows, context)
    assert mask.hidden.shape == (6, 27)
    both = torch.cat([mask.visible, mask.hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(36).expand(6, -1))


@pytest.mark.parametrize("name", NEEDY)
def test_masks_that_look_at_images_say_what_they_lack_and_have_a_stand_in_for_films(name):
    grid = grid_of(6, 6)
    sampler = sampler_of(name, grid)
    with pytest.raises(UserError, match=f"the mask {name} needs (a teacher's|the images)"):
        sampler(2, grid, "cpu")
    with pytest.raises(UserError, match=f"the mask {name} needs .*, which some method does not have"):
        sampler.require("some method")
    steady = [sampler.steady(2, grid, "cpu", torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(steady[0].hidden, steady[1].hidden)
    assert steady[0].hidden.shape[1] == sampler.count(grid)


@pytest.mark.parametrize("name", MASKS)
def test_what_a_mask_learned_lies_in_its_state(name):
    grid = grid_of(6, 6)
    sampler, other = sampler_of(name, grid, seed=1), sampler_of(name, grid, seed=2)
    other.load_state_dict(copy.deepcopy(sampler.state_dict()))
    assert torch.equal(masks(sampler, 3, grid, 7).hidden, masks(other, 3, grid, 7).hidden)


@pytest.mark.parametrize("name", COVERING)
def test_a_ratio_that_leaves_nothing_visible_is_refused_with_one_that_does(name):
    sampler = sampler_of(name, grid_of(4, 4), ratio=0.97)
    with pytest.raises(UserError, match=rf"{name} with a ratio of 0.97 leaves none of 16 patches.*most is 0.937"):
        sampler.require_grid(grid_of(4, 4))
    sampler.require_grid(grid_of(8, 8))
    sampler_of(name, grid_of(4, 4), ratio=0.937).require_grid(grid_of(4, 4))
