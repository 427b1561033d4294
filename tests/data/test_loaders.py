"""Batches: which sample comes when and how it is cropped depends on (seed, position) alone, by every path."""

from itertools import islice

import numpy as np
import pytest
import torch
from support.photos import photo

from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import Loader
from unmask.data.loaders.on_device import InMemory, cut, draw_boxes, uniform
from unmask.data.source import open_source
from unmask.data.transform import Transform, View, make_transform
from unmask.data.transforms.kernels.crop import MILD, FixedCrop, RandomCrop
from unmask.errors import UserError
from unmask.seeds import mix

VIEW = Transform(View(RandomCrop((16, 16))))


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    path = tmp_path_factory.mktemp("arrays") / "small.npz"
    np.savez(path, images=np.stack([photo(i, 24, 24) for i in range(30)]), labels=np.arange(30) % 3)
    return Samples(open_source(path), range(30), channels=3)


def taken(loader, count, first=0):
    return list(islice(loader(first), count))


def seen(batches):
    return [(b["views"][0], b["index"].tolist(), b["label"].tolist()) for b in batches]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x[0], y[0]) and x[1:] == y[1:] for x, y in zip(a, b))


def made(kind, samples, **options):
    return kind(samples=samples, view=VIEW, seed=7, **options)


@pytest.mark.parametrize("kind", [Loader, InMemory])
@pytest.mark.parametrize("crops", [1, 3])
def test_any_batch_can_be_the_first_and_ranks_share_one_order(kind, crops, samples):
    whole = seen(taken(made(kind, samples, batch=12, crops=crops), 8 * crops))
    assert same(whole[5:], seen(taken(made(kind, samples, batch=12, crops=crops), 8 * crops - 5, first=5)))
    ranks = [seen(taken(made(kind, samples, batch=6, crops=crops, rank=r, world=2), 8 * crops)) for r in (0, 1)]
    joined = [(torch.cat([a[0], b[0]]), a[1] + b[1], a[2] + b[2]) for a, b in zip(*ranks)]
    assert same(whole, joined)
    shown = [i for _, index, _ in whole for i in index]
    assert sorted(shown[: 30 * crops]) == sorted(list(range(30)) * crops)  # an epoch: every image, `crops` times
    assert shown[: 30 * crops : crops] == shown[crops - 1 : 30 * crops : crops]  # its crops follow each other
    assert all(label == i % 3 for _, index, labels in whole for i, label in zip(index, labels))
    assert whole[0][0].dtype == torch.uint8


@pytest.mark.parametrize("kind", [Loader, InMemory])
def test_several_crops_of_a_image_differ_and_the_first_is_the_usual_one(kind, samples):
    ones, several = taken(made(kind, samples, batch=4), 1)[0], taken(made(kind, samples, batch=12, crops=3), 1)[0]
    assert several["index"][::3].tolist() == ones["index"].tolist()
    views = several["views"][0].unflatten(0, (4, 3))
    assert torch.equal(views[:, 0], ones["views"][0])
    assert not torch.equal(views[:, 1], views[:, 0])
    assert not torch.equal(views[:, 1], views[:, 2])
    with pytest.raises(UserError, match="do not go evenly"):
        made(kind, samples, batch=8, crops=3)


def test_a_batch_is_what_its_seed_and_position_say_also_from_another_process(samples):
    expected = []
    for place in range(20, 40):
        epoch, spot = divmod(place, 30)
        index = int(torch.randperm(30, generator=torch.Generator().manual_seed(mix(7, epoch)))[spot])
        expected += VIEW(samples.image(index), torch.Generator().manual_seed(mix(7, epoch, index)))
    for workers in (0, 1):
        found = taken(made(Loader, samples, batch=20, workers=workers), 1, first=1)[0]["views"][0]
        assert torch.equal(found, torch.stack(expected))
        assert found.is_shared() == bool(workers)
    fast = Loader(samples=samples, view=RandomCrop((20, 20), resize="fast"), batch=20, seed=7)
    exact = Loader(samples=samples, view=RandomCrop((20, 20)), batch=20, seed=7)
    found, expected = (taken(loader, 1)[0]["views"][0] for loader in (fast, exact))
    assert found.stride(1) == 1  # turned round on the device
    assert (found.float() - expected.float()).abs().mean() < 3


def test_both_paths_show_the_same_images_in_the_same_order(samples):
    by_one, at_once = (taken(made(kind, samples, batch=11), 6) for kind in (Loader, InMemory))
    assert [b["index"].tolist() for b in by_one] == [b["index"].tolist() for b in at_once]


@pytest.mark.parametrize("kind", [Loader, InMemory])
def test_every_loader_makes_the_views_that_are_asked_for(kind, samples):
    transform = make_transform(("crops", "dino(local=2)", "beit"), size=(16, 16), channels=3, patch=4)
    loader = kind(samples=samples, view=transform, seed=7, batch=11)
    batches = taken(loader, 6)
    for batch in batches:
        assert [view.shape for view in batch["views"]] == [(11, 3, *size) for size in transform.sizes]
        assert {view.dtype for view in batch["views"]} == {torch.uint8}
    for again, batch in zip(taken(loader, 3, first=3), batches[3:]):
        assert all(torch.equal(a, b) for a, b in zip(again["views"], batch["views"]))
    parts = [taken(kind(samples=samples, view=transform, seed=7, batch=11, rank=r, world=2), 3) for r in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(parts[1][2]["views"], batches[5]["views"]))
    first, second = (batches[0]["views"][place].float() for place in (1, 2))
    assert (first - second).abs().mean() > 5  # chance of their own


@pytest.mark.parametrize("view", [RandomCrop((16, 16), scale=(0.08, 1.0)), FixedCrop((16, 24)), RandomCrop((8, 32))])
def test_crops_drawn_at_once_have_the_chances_of_crops_drawn_one_by_one(view):
    chance = uniform(3, torch.arange(4000), torch.zeros(4000, dtype=torch.long), 23)
    assert chance.min() >= 0
    assert chance.max() < 1
    boxes = draw_boxes(view, 20, 26, chance).double()
    assert (boxes[:, 0] + boxes[:, 2]).max() <= 20
    assert (boxes[:, 1] + boxes[:, 3]).max() <= 26
    generator = torch.Generator().manual_seed(0)
    if isinstance(view, RandomCrop):
        one_by_one = torch.tensor([view.box(20, 26, generator) for _ in range(4000)]).double()
        for side in range(4):  # quantiles, mean and spread agree within what chance explains
            error = one_by_one[:, side].std() * (2 / 4000) ** 0.5
            assert (boxes[:, side].mean() - one_by_one[:, side].mean()).abs() <= 4 * error
            assert (boxes[:, side].std() - one_by_one[:, side].std()).abs() <= 0.05 * one_by_one[:, side].std() + 1e-9
        corners = torch.corrcoef(torch.stack([boxes[:, 2], boxes[:, 3]]))[0, 1]
        assert (corners - torch.corrcoef(one_by_one[:, 2:].T)[0, 1]).abs() < 0.08
    else:
        assert {tuple(box) for box in boxes[:, 2:].long().tolist()} == {view.window(20, 26)}
        assert len(boxes[:, :2].unique(dim=0)) == (20 - view.window(20, 26)[0] + 1) * (26 - view.window(20, 26)[1] + 1)
    assert 0.45 < (chance[:, 22] < 0.5).double().mean() < 0.55


def test_crops_cut_at_once_are_those_of_the_exact_resize(samples):
    images = samples.stacked("cpu")
    boxes = torch.tensor([[i % 5, i % 7, 9 + i % 8, 5 + i % 10] for i in range(len(images))])
    flips = torch.arange(len(images)) % 2 == 0
    for size in ((16, 16), (6, 20)):  # growing and shrinking
        found = cut(images, boxes, flips, size)
        for i, (top, left, h, w) in enumerate(boxes.tolist()):
            window = images[i, :, top : top + h, left : left + w]
            expected = torch.nn.functional.interpolate(window[None], size, mode="bicubic", antialias=True)[0]
            expected = expected.flip(-1) if flips[i] else expected
            assert (found[i].int() - expected.int()).abs().max() <= 1
        torch.set_float32_matmul_precision("medium")  # as runs may: pixels must not depend on it, nor on the batch
        alone = torch.cat([cut(images[i : i + 1], boxes[i : i + 1], flips[i : i + 1], size) for i in range(8)])
        torch.set_float32_matmul_precision("highest")
        assert torch.equal(found[:8], alone)


def test_the_fast_resize_is_near_the_exact_one_and_never_shrinks_much():
    image = torch.from_numpy(photo(5, 300, 400)).permute(2, 0, 1)
    exact, fast = (FixedCrop((224, 224), flip=False, resize=resize) for resize in ("exact", "fast"))
    small, chance = FixedCrop((64, 64), flip=False, resize="fast"), lambda: torch.Generator().manual_seed(1)
    difference = (exact(image, chance()).int() - fast(image, chance()).int()).abs().float()
    assert 0 < difference.mean() < 1.0
    assert small.window(300, 400)[0] / 64 > MILD
    assert torch.equal(small(image, chance()), FixedCrop((64, 64), flip=False)(image, chance()))
    assert fast(image[:1], chance()).shape == (1, 224, 224)
    deep = image.float()
    assert torch.equal(fast(deep, chance()), exact(deep, chance()))
