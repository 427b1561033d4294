"""Resampling, windows of intensity and foreground boxes of volumes."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from unmask.data.transforms.kernels import volume as kernels
from unmask.errors import UserError


@pytest.mark.parametrize("new", [(4, 9, 12), (8, 6, 5), (1, 1, 1), (16, 12, 10)])
def test_resampled_voxels_have_the_values_of_their_places(new):
    size = (8, 6, 5)
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *size)))
    affine = nib.affines.from_matvec(np.random.default_rng(1).normal(size=(3, 3)), [1, 2, 3])
    moved = kernels.resampled_affine(affine, size, new)
    places = np.stack(np.meshgrid(*map(np.arange, new), indexing="ij"), -1)
    back = nib.affines.apply_affine(np.linalg.inv(affine) @ moved, places)  # indices in the original
    right = [map_coordinates(channel, np.moveaxis(back, -1, 0), order=1, mode="nearest") for channel in values.numpy()]
    np.testing.assert_allclose(kernels.resample(values, new), np.stack(right), atol=1e-12)
    labels = torch.arange(240).reshape(size)
    nearest = np.floor(back + 0.5 + 1e-9).astype(int)
    right = labels.numpy()[tuple(np.moveaxis(nearest, -1, 0))]
    np.testing.assert_array_equal(kernels.resample_labels(labels, new), right)


def test_a_size_keeps_the_extent_and_the_same_size_changes_nothing():
    assert kernels.size_at((40, 60, 60), (3.0, 1.0, 1.0), (1.5, 1.5, 1.5)) == (80, 40, 40)
    assert kernels.size_at((1, 2, 3), (1.0, 1.0, 1.0), (100.0, 100.0, 100.0)) == (1, 1, 1)
    values = torch.rand(1, 3, 4, 5)
    assert torch.equal(kernels.resample(values, (3, 4, 5)), values)
    with pytest.raises(UserError, match="spacing"):
        kernels.size_at((1, 2, 3), (1.0, 1.0, 1.0), (0.0, 1.0, 1.0))


def test_windows_of_intensity_are_numpys_percentiles():
    values = torch.rand(2, 5, 6, 7) * torch.tensor([1.0, 50.0]).reshape(2, 1, 1, 1)
    low, high = kernels.percentile_window(values, 2, 90)
    right = np.percentile(values.flatten(1).numpy(), [2, 90], axis=1)
    np.testing.assert_allclose(torch.stack([low, high]), right, rtol=1e-6)
    scaled = kernels.windowed(values, low, high)
    assert scaled.amin((1, 2, 3)).tolist() == [0, 0]
    assert scaled.amax((1, 2, 3)).tolist() == [1, 1]
    assert kernels.windowed(torch.full((1, 1, 1, 3), -50.0), -1000.0, 1000.0).flatten().tolist() == pytest.approx(
        [0.475] * 3
    )
    assert kernels.windowed(torch.full((1, 2, 2, 2), 3.0), 3.0, 3.0).abs().sum() == 0
    for ends in ((50, 50), (-1, 50), (0, 101)):
        with pytest.raises(UserError, match="percentiles"):
            kernels.percentile_window(values, *ends)


def test_the_foreground_is_what_air_and_its_noise_are_not():
    generator = torch.Generator().manual_seed(0)
    air = -1000 + 20 * torch.randn(1, 20, 30, 40, generator=generator)
    air[0, 5:9, 10:21, 3:9] = 40
    assert kernels.foreground_box(air) == ((5, 9), (10, 21), (3, 9))
    assert kernels.foreground_box(air, margin=4) == ((1, 13), (6, 25), (0, 13))
    assert kernels.foreground_box(air, level=1e9) == ((0, 20), (0, 30), (0, 40))
    dim = torch.zeros(1, 20, 30, 40)  # as of a brain cut out: nothing of what is not 0 may be lost
    dim[0, 3:17, 4:26, 5:35] = 1
    dim[0, 6:10, 8:20, 9:30] = 99
    assert kernels.foreground_box(dim) == ((3, 17), (4, 26), (5, 35))
    two = torch.zeros(2, 6, 6, 6)
    two[0, 1, 1, 1] = two[1, 4, 4, 4] = 9
    assert kernels.foreground_box(two, level=0) == ((1, 5), (1, 5), (1, 5))
    affine = np.diag([3.0, 2, 1, 1])
    assert kernels.cropped_affine(affine, ((5, 9), (10, 21), (3, 4)))[:3, 3].tolist() == [15, 20, 3]
