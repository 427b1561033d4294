"""Anomalies, the parts one by one, on a model made by hand: it rebuilds a hidden unit as what is visible around it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from unmask.errors import DataError, UserError
from unmask.masking.complementary import complement, complements, nearness
from unmask.masking.grid import take
from unmask.models.encoder import create_encoder
from unmask.tasks.anomaly.conformal import Calibration, ImageThreshold, image_threshold, images_needed, pixel_threshold
from unmask.tasks.anomaly.coreset import coreset, nearest
from unmask.tasks.anomaly.cues import errors
from unmask.tasks.anomaly.metrics import of_images, of_pixels
from unmask.tasks.anomaly.model import Finder, Settings
from unmask.tasks.anomaly.tiling import Tiling
from unmask.training.objective import Rebuilder

GRID, UNIT = 8, 4
SIDE = GRID * UNIT


class ByHand(Rebuilder):
    """Its visible units are deliberately wrong: nobody may take an error from them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        shape = {"image_size": (SIDE, SIDE), "patch_size": UNIT, "channels": 1, "mean": (128.0,), "std": (50.0,)}
        self.encoder = create_encoder("vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)", **shape).eval()

    def forward(self, batch):
        raise NotImplementedError

    def rebuild(self, x, mask, leak=False):
        grid = self.encoder.grid
        units = grid.cut(x.float())
        near = torch.stack([nearness(grid, visible) for visible in mask.visible])
        return grid.join((near @ take(units, mask.visible)).scatter(1, mask.visible[..., None].expand(
            -1, -1, units.shape[2]), 1e4))  # fmt: skip


def scene(seed, defect=False, noise=60):
    """Below, one half, left or right, is noise; above, at one place, there may be a black or white dot: neither can
    be rebuilt, and both are normal. A defect is a faint square in the calm half. Returns the image and its place."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE), 128.0) + rng.normal(0, 2, (SIDE, SIDE))
    half = slice(0, SIDE // 2) if rng.random() < 0.5 else slice(SIDE // 2, SIDE)
    image[12:, half] += rng.normal(0, noise, (SIDE - 12, SIDE // 2))
    image[4:8, 12:16] = rng.choice([0, 255, 128, 128])
    mask = np.zeros((SIDE, SIDE), bool)
    if defect:
        left = int(rng.integers(3, 8)) + (SIDE // 2 if half.start == 0 else 0)
        top = int(rng.integers(18, 25))
        mask[top : top + 4, left : left + 4] = True
        image[mask] += 60
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8))[None], mask


def finder_of(normalize_errors="place-texture", methods=("rebuild",), noise=60, **options):
    options |= {"methods": methods, "normalize_errors": normalize_errors, "sets": 2, "blur": 1.0, "layers": (1,)}
    finder = Finder(ByHand(), Settings(**options)).eval()
    normal = torch.stack([scene(seed, noise=noise)[0] for seed in range(64)])
    if "rebuild" in methods:
        finder.fit_rebuild(normal.split(16))
    if "features" in methods:
        finder.fit_features([(normal, torch.arange(64))])
    for name in methods:
        finder.calibrations[name] = Calibration(ImageThreshold(0.05, 19, 3.0, 0.05, (0.0, 1.0)), 3.0, 0.0)
    return finder


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 210), st.floats(0.02, 0.98), st.integers(0, 5))
def test_complementary_masks_hide_every_unit_and_each_equally_often(num, ratio, seed):
    masks = complement(num, ratio, seed)
    times = torch.zeros(num, dtype=torch.long)
    for mask in masks:
        assert sorted([*mask.visible[0].tolist(), *mask.hidden[0].tolist()]) == list(range(num))
        assert mask.visible.shape[1] >= 1
        times[mask.hidden[0]] += 1
    assert len(set(times.tolist())) == 1
    assert times[0] >= 1
    sizes = [mask.hidden.shape[1] for mask in masks]
    assert max(sizes) - min(sizes) <= 1


def test_three_quarters_are_four_masks_and_sets_differ():
    masks = complements(64, 0.75, sets=2)
    assert [mask.visible.shape[1] for mask in masks] == [16] * 8
    assert not torch.equal(masks[0].visible, masks[4].visible)
    with pytest.raises(UserError, match="between 0 and 1"):
        complement(64, 1.0)


def test_errors_are_of_hidden_units_and_of_the_place_where_they_are():
    model, x = ByHand(), torch.full((2, 1, SIDE, SIDE), 128, dtype=torch.uint8)
    x[1, :, 12:16, 20:24] = 228  # one unit, two deviations brighter than all around it
    error, texture = errors(model, complements(GRID**2, 0.75, 2), x)
    assert error.shape == texture.shape == (2, GRID, GRID)
    assert error[0].max() < 1e-6  # a plain image is rebuilt; what is wrong in visible units does not count
    assert error[1, 3, 5] == pytest.approx(4.0, rel=1e-3)
    assert error[1].flatten().argmax() == 3 * GRID + 5
    assert texture[1, 3, 6] > texture[1, 7, 0]  # beside it is busier than far away


@pytest.mark.slow
def test_a_faint_defect_is_found_and_only_because_errors_are_compared_with_normal_ones():
    found, hits = {}, {}
    tested = [scene(1000 + seed, defect=True) for seed in range(24)]
    for kind in ("place-texture", "place", "texture", "none"):
        maps = finder_of(kind).predict(torch.stack([image for image, _ in tested])).maps
        found[kind] = of_pixels(maps, [mask for _, mask in tested]).auroc
        hits[kind] = np.mean([mask.flat[one.argmax()] for one, (_, mask) in zip(maps, tested)])
    assert found["place-texture"] > 0.95
    assert found["none"] < 0.75
    assert found["place-texture"] > found["place"] + 0.2  # the noisy half is left or right
    assert hits["place-texture"] > hits["texture"] + 0.2  # the dot is the largest error, but always at its place


def test_features_find_what_no_normal_image_has():
    finder = finder_of(methods=("rebuild", "features", "both"), memory=500, noise=0)
    assert finder.bank.shape == (500, 24)
    plain = torch.stack([scene(2000 + seed, noise=0)[0] for seed in range(12)])
    odd = plain.clone()
    odd[:, :, 20:28, 4:12] = torch.arange(8, dtype=torch.uint8)[None, None, :, None] * 36  # a ramp
    for method in ("features", "both"):
        scores = finder.predict(torch.cat([plain, odd]), method=method).scores[method]
        assert roc_auc_score([0] * 12 + [1] * 12, scores) > 0.9, method


def test_a_image_is_judged_for_itself_whatever_is_in_its_batch():
    finder = finder_of(methods=("rebuild", "features", "both"), memory=200)
    images = torch.stack([scene(3000 + seed, defect=seed % 2)[0] for seed in range(5)])
    together = finder.predict(images)
    for place in range(5):
        alone = finder.predict(images[place : place + 1], batch=1)
        for method, scores in together.scores.items():
            assert alone.scores[method][0] == pytest.approx(scores[place], abs=1e-4)
        np.testing.assert_allclose(alone.maps[0], together.maps[place], atol=1e-4)


@pytest.mark.slow
def test_false_alarms_on_fresh_normal_images_are_as_promised():
    finder = finder_of()
    scores = finder.predict(torch.stack([scene(5000 + seed)[0] for seed in range(600)]), batch=100).scores["rebuild"]
    rng, seen = np.random.default_rng(0), []
    for _ in range(200):  # many draws of 49 held-out images; the rest are fresh
        order = rng.permutation(scores)
        seen.append((order[49:] > image_threshold(order[:49], 0.1).threshold).mean())
    assert 0.07 < np.mean(seen) <= 0.107  # 0.1, and the chance of 200 draws
    image = image_threshold(scores[:49], 0.1)
    assert image.expected == pytest.approx(5 / 50)
    inside = [image.between[0] <= one <= image.between[1] for one in seen]
    assert 0.75 < np.mean(inside) < 0.99


def test_the_share_of_pixels_above_is_as_promised():
    rng, seen = np.random.default_rng(1), []
    for _ in range(300):
        maps = [rng.normal(rng.normal(), 1, (6, 5 + i % 3)) for i in range(40)]  # pixels of an image are alike
        seen.append(np.mean(maps[-1] > pixel_threshold(maps[:-1], 0.1)))
    assert 0.05 < np.mean(seen) < 0.12


def test_too_few_normal_images_are_refused_with_the_number_needed():
    assert images_needed(0.05) == 19
    assert image_threshold(np.arange(19.0), 0.05).threshold == 18
    with pytest.raises(DataError, match=r"18 held-out normal images cannot promise 0\.05 false alarms: 19 are needed"):
        image_threshold(np.arange(18.0), 0.05)
    with pytest.raises(DataError, match="99 are needed"):
        pixel_threshold([np.zeros((2, 2))] * 20, 0.01)


def test_the_memory_leaves_no_gap_and_own_images_do_not_count():
    rng = np.random.default_rng(0)
    centres = 10.0 * torch.arange(6)
    x = torch.cat([c + torch.from_numpy(rng.normal(0, 0.1, (50, 3))).float() for c in centres])
    assert sorted(set((coreset(x, 6) // 50).tolist())) == list(range(6))
    assert coreset(x, 1000).tolist() == list(range(300))
    wide = x.repeat(1, 60)  # more dimensions than are compared
    assert sorted(set((coreset(wide, 6) // 50).tolist())) == list(range(6))
    bank, owner = x[::50], torch.arange(6)
    assert nearest(x[:1], bank).item() == pytest.approx(0, abs=1e-3)
    assert nearest(x[:1], bank, (torch.tensor([0]), owner)).item() == pytest.approx(10 * 3**0.5, rel=0.1)


@pytest.mark.parametrize("size", [(32, 32), (50, 32), (33, 70)])
def test_tiles_cover_the_image_and_fit_together_again(size):
    tiling = Tiling((16, 16), tiles=2)
    image = torch.rand(3, *size)
    whole = tiling.whole(image)
    assert min(whole.shape[1:]) == 32
    tiles = tiling.cut(whole)
    torch.testing.assert_close(tiling.join(tiles[:, 0], whole.shape[1:]), whole[0])
    assert Tiling((16, 16)).cut(Tiling((16, 16)).whole(image)).shape == (1, 3, 16, 16)


def test_a_defect_at_the_edge_that_a_square_cuts_off_is_seen_by_tiles():
    wide = torch.cat([scene(7000)[0], scene(7001)[0]], dim=2)
    damaged = wide.clone()
    damaged[:, :, :4] = 255
    differs = {tiles: [] for tiles in (0, 1)}
    for tiles in differs:
        finder = finder_of(tiles=tiles)
        first, second = (finder.predict(x[None]).maps[0] for x in (wide, damaged))
        differs[tiles] = np.abs(first - second).max()
        assert first.shape == ((32, 64) if tiles else (32, 32))
    assert differs[0] == 0
    assert differs[1] > 1


def test_areas_are_those_of_scikit_learn_and_lie_in_their_intervals():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    scores = (np.round(rng.normal(labels, 1), 1)) * 100  # ties, and far outside of 0..1
    found = of_images(np.append(scores, 5e5), np.append(labels, -1))
    assert found.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert found.low < found.auroc < found.high
    masks = [rng.random((9, 7)) < 0.2 * (i % 2) for i in range(30)]
    maps = [rng.normal(0, 1, mask.shape) + mask for mask in masks]
    area = of_pixels(maps, masks)
    flat = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
    assert area.auroc == pytest.approx(roc_auc_score(*flat), abs=1e-6)
    assert area.low < area.auroc < area.high
