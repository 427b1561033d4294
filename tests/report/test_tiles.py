"""Images drawn in tiles of a model's size."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unmask.masking.mask import Mask
from unmask.models.encoder import create_encoder
from unmask.registry import build
from unmask.report.tiles import InTiles, cut, tiled_row

SIDES = st.integers(1, 4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    encoder = create_encoder(
        "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)",
        image_size=(16, 16),
        patch_size=4,
        mean=(128.0,) * 3,
        std=(60.0,) * 3,
    )
    parts = {"mask": "random", "target": "pixels(normalize=False)", "decoder": "full(dim=32, depth=1, heads=2)"}
    return build("method", "mae", encoder=encoder, **parts).eval()


def masks(model, tiles):
    grid = model.encoder.grid
    order = torch.rand(tiles, grid.num_units, generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    return Mask(order[:, :4], order[:, 4:])


@given(down=SIDES, across=SIDES, height=SIDES, width=SIDES)
def test_tiles_are_what_lies_there_row_by_row(down, across, height, width):
    image = torch.arange(3 * down * height * across * width).view(3, down * height, across * width)
    tiles = cut(image, (height, width))
    assert tiles.shape == (down * across, 3, height, width)
    for number, tile in enumerate(tiles):
        top, left = number // across * height, number % across * width
        assert torch.equal(tile, image[:, top : top + height, left : left + width])


@given(st.integers(16, 90), st.integers(16, 90), st.integers(16, 64))
def test_a_view_has_whole_tiles_and_no_more_pixels_than_asked_for(height, width, shorter):
    view = InTiles(shorter, (16, 16))(torch.zeros(3, height, width))
    assert min(view.shape[1:]) == shorter // 16 * 16
    assert all(side % 16 == 0 for side in view.shape[1:])
    assert max(view.shape[1:]) <= shorter * max(height, width) / min(height, width) + 1


def test_a_row_of_tiles_shows_the_image_its_hidden_patches_and_what_each_tile_alone_tells(model):
    image = torch.randint(0, 256, (3, 32, 48)).float()
    image[:, :16, :16] = 3.0  # a dark tile is not drawn brighter than it is
    mask = masks(model, 6)
    row = tiled_row(model, image, mask, "photo", True)
    shown = row.columns["input"]
    np.testing.assert_allclose(shown, image.permute(1, 2, 0).numpy() / 255, atol=1e-6)
    masked = np.isclose(row.columns["masked"], 0.62).all(axis=2)
    assert masked.mean() == 12 / 16
    assert not row.columns["error"][~masked].any()
    assert row.caption == f"mean error {row.columns['error'][masked].mean():.2f} std"
    other = image.clone()
    other[:, 16:, 32:] = 255 - other[:, 16:, 32:]  # the last tile
    changed = (
        tiled_row(model, other, mask, "photo", True).columns["rebuilt + visible"] != row.columns["rebuilt + visible"]
    ).any(axis=2)
    assert changed[16:, 32:].any()
    assert not changed[:16].any()
    assert not changed[16:, :32].any()
