"""Boxes of volumes around the foreground: they hold a voxel of it, by the generator alone; what has none says so."""

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.modality import make_modality
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.data.transforms.kernels.box import RandomBox
from unmask.data.transforms.kernels.volume import foreground_places
from unmask.errors import UserError


def spot(size, first, side=2):
    """Nothing, and a bright cube."""
    values = torch.zeros(1, *size)
    d, h, w = first
    values[:, d : d + side, h : h + side, w : w + side] = 1.0
    return values


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(6, 20)] * 3), st.integers(0, 2**31), st.floats(0.01, 1.0))
def test_every_box_holds_foreground_and_lies_within_the_volume(size, seed, share):
    chance = np.random.default_rng(seed)
    values = spot(size, [int(chance.integers(0, side - 1)) for side in size])
    places = torch.zeros(size)
    for place in foreground_places(values):
        places[tuple(place)] = 1
    view = RandomBox((4, 4, 4), scale=(share, share), foreground=True)
    both = torch.cat([values, places[None], torch.ones(1, *size)])  # cut alike; the level is of the first
    seen = []

    def cut(sample, target):
        seen.append(sample)
        return torch.zeros(3, *target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unmask.data.transforms.kernels.box.resized", cut)
        patch.setattr("unmask.data.transforms.kernels.box.foreground_places", lambda _: foreground_places(values))
        view(both, torch.Generator().manual_seed(seed))
    assert seen[0][1].any()
    assert seen[0][2].all()
    sides = [max(1, round(share ** (1 / 3) * side)) for side in size]
    assert list(seen[0].shape[1:]) == sides


def test_small_boxes_anywhere_mostly_miss_what_those_around_the_foreground_hold():
    values = spot((24, 24, 24), (3, 18, 9))
    hits = {}
    for foreground in (False, True):
        view = RandomBox((8, 8, 8), scale=(0.04, 0.04), foreground=foreground)
        views = [view(values, torch.Generator().manual_seed(n)) for n in range(60)]
        hits[foreground] = sum(float(v.max()) > 0.3 for v in views)
        assert torch.equal(views[7], view(values, torch.Generator().manual_seed(7)))
    assert hits[True] == 60
    assert hits[False] < 20


def test_the_foreground_may_lie_anywhere_in_its_box():
    values, view = (
        spot((24, 24, 24), (12, 12, 12), side=1),
        RandomBox((8, 8, 8), scale=(1 / 27, 1 / 27), foreground=True),
    )
    places = {
        tuple(torch.nonzero(view(values, torch.Generator().manual_seed(n))[0] > 0.5)[0].tolist()) for n in range(80)
    }
    assert {axis for place in places for axis in place} == set(range(8))


def test_boxes_are_as_before_where_nothing_is_asked_for_and_nothing_stands_out():
    flat, noise = torch.full((1, 9, 9, 9), 0.5), torch.rand(1, 9, 9, 9)
    assert len(foreground_places(flat)) == 0
    for values, foreground in ((flat, True), (noise, False)):
        view = RandomBox((4, 4, 4), scale=(0.2, 0.8), foreground=foreground)
        plain = RandomBox((4, 4, 4), scale=(0.2, 0.8))
        assert torch.equal(
            view(values, torch.Generator().manual_seed(1)), plain(values, torch.Generator().manual_seed(1))
        )


def test_large_volumes_are_looked_at_in_even_steps():
    places = foreground_places(spot((100, 60, 20), (40, 0, 0), side=20))
    assert len(places) == len(range(42, 60, 3)) * len(range(0, 20, 2)) * 20
    assert places[:, 0].min() >= 40
    assert places[:, 0].max() < 60


def test_the_modality_cuts_so_where_it_is_asked_for_and_counts_volumes_without_foreground(tmp_path):
    for number in range(3):
        values = spot((12, 10, 8), (2, 3, 4))[0].numpy() if number else np.full((12, 10, 8), 7, np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{number}.nii")
    source = open_source(tmp_path, 'volume(crops="foreground")')
    sheet = inspect(source, max_side=64)[0]
    assert sheet.notes["no foreground in it: crops lie anywhere"] == 1
    window = source.modality.window("random", (4, 4, 4), 0.05, False, "exact")
    assert window.foreground
    assert window == make_modality(source.modality.text).window("random", (4, 4, 4), 0.05, False, "exact")
    assert not make_modality("volume").window("random", (4, 4, 4), 0.05, False, "exact").foreground
    with pytest.raises(UserError, match="crops of volumes are anywhere or foreground; got 'foregruond'"):
        make_modality('volume(crops="foregruond")')
