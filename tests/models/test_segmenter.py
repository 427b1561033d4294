"""The parts of segmentation: heads and their gradients, sliding windows, losses, figures, and views."""

import numpy as np
import pytest
import torch
from support.photos import photo
from support.segmenting import batch, scene, segmenter

from unmask.data.annotations.legend import Legend
from unmask.data.transforms.labelled.segmentation import SceneView
from unmask.models.sliding_window import most_probable, places, slide
from unmask.tasks.segmentation.figures import colours_of
from unmask.tasks.segmentation.metrics import overlap
from unmask.tasks.segmentation.objective import Segment, dice_loss
from unmask.tasks.segmentation.plan import class_weights


def test_one_window_is_the_whole_image_and_batches_change_nothing():
    model = segmenter(window=(32, 40)).eval()
    image = torch.from_numpy(photo(3, 32, 40)).permute(2, 0, 1)
    whole = model(image[None])[0].argmax(dim=0).numpy()
    (found,) = model.maps([(image, (32, 40))])
    assert np.array_equal(found, whole)
    others = [
        torch.from_numpy(photo(i, h, w)).permute(2, 0, 1) for i, (h, w) in enumerate([(50, 33), (32, 95), (20, 20)])
    ]
    shown = [(p, tuple(p.shape[1:])) for p in [image, *others]]
    one, many = ([*model.maps(shown, batch=size)] for size in (1, 7))
    assert [m.shape for m in many] == [size for _, size in shown]
    assert all((a == b).mean() > 0.999 for a, b in zip(one, many))


def test_overlapping_windows_are_averaged_and_nothing_is_left_out():
    assert places(10, 6) == [0, 4]
    assert places(6, 6) == [0]
    assert places(20, 6) == [0, 4, 8, 12, 14]
    image = torch.zeros(1, 6, 10)
    calls = []

    def run(x):
        calls.append(len(x))
        number = float(len(calls))  # the second window says otherwise, more loudly
        logits = torch.zeros(len(x), 2, 6, 6)
        logits[:, 0], logits[:, 1] = 1.0, 0.0 if number == 1 else 1.5
        return logits

    shape = {"window": (6, 6), "side": 6, "fill": torch.zeros(1), "batch": 1}
    (found,) = slide(run, [(image, (6, 10))], **shape)
    assert calls == [1, 1]
    assert found.tolist() == [[0] * 6 + [1] * 4] * 6  # columns 4 and 5 see both: 1.0 against a mean of 0.75
    calls.clear()
    (large,) = slide(run, [(image, (36, 60))], **shape)
    mean = torch.tensor([[1.0] * 10, [0.0] * 4 + [0.75] * 2 + [1.5] * 4])[:, None].expand(2, 6, 10)
    assert np.array_equal(large, most_probable(mean, (36, 60)))  # a sum would move the border by a pixel


def test_enlarging_in_strips_equals_torchs(monkeypatch):
    logits = torch.randn(4, 9, 13, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(logits[None], (50, 31), mode="bilinear")[0].argmax(dim=0).numpy()
    monkeypatch.setattr("unmask.models.sliding_window.STRIP", 4 * 31 * 7)
    assert (most_probable(logits, (50, 31)) == expected).mean() > 0.999


def test_figures_equal_an_independent_computation():
    rng = np.random.default_rng(0)
    truths = [rng.integers(0, 4, size).astype(np.uint8) for size in ((30, 20), (7, 9))]  # class 4 is nowhere
    answers = [np.where(rng.random(t.shape) < 0.6, t, rng.integers(0, 5, t.shape)).astype(np.uint8) for t in truths]
    truths[0][:5] = 255
    found = overlap(zip(answers, truths), list("abcde"))
    a, t = (np.concatenate([x.ravel() for x in xs]) for xs in (answers, truths))
    a, t = a[t != 255], t[t != 255]
    iou = [((a == c) & (t == c)).sum() / ((a == c) | (t == c)).sum() for c in range(4)]
    recall = [(a == c)[t == c].mean() for c in range(4)]
    assert [c["iou"] for c in found["per_class"]] == [*map(pytest.approx, iou), None]
    assert found["miou"] == pytest.approx(np.mean(iou))
    assert found["pixel_accuracy"] == pytest.approx((a == t).mean())
    assert found["mean_accuracy"] == pytest.approx(np.mean(recall))
    assert found["per_class"][4] == {"name": "e", "share": 0.0, "answered": pytest.approx((a == 4).mean()), "iou": None,
                                     "accuracy": None}  # fmt: skip
    assert np.sum(found["confusion"]) == found["pixels"] == len(t)


def test_the_loss_leaves_void_out_and_weighs_classes():
    task = Segment(segmenter(), weights=[1.0, 2.0, 4.0], dice=1.0)
    data = batch()
    data["views"][0][:, -1] = 255
    found = task(data)
    assert found["loss"].item() == 0.0
    logits = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(0, 2, (2, 5, 6), generator=torch.Generator().manual_seed(1))
    truth[0, 0] = 255
    known = truth != 255
    flat, labels = logits.permute(0, 2, 3, 1)[known], truth[known]
    expected = torch.nn.functional.cross_entropy(flat, labels, weight=torch.tensor([1.0, 2.0, 4.0]))
    share = flat.softmax(dim=1)
    dice = [2 * share[labels == c, c].sum() / (share[:, c].sum() + (labels == c).sum()) for c in (0, 1)]
    torch.testing.assert_close(dice_loss(logits, truth), 1 - torch.stack(dice).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(task._loss(logits, truth), expected + 1 - torch.stack(dice).mean(), rtol=1e-4, atol=1e-5)
    assert class_weights(np.array([100.0, 400.0, 1.0, 0.0])) == [1.0, 0.5, 10.0, 0.0]


def test_image_and_map_go_through_the_same_and_chance_is_the_generators_alone():
    truth = 2 * (torch.from_numpy(scene(3, 60, 90)[1]) > 0).byte()
    both = torch.stack([60 * truth + 20] * 3 + [truth]).byte()
    view = SceneView((48, 56), 60, (7.0,) * 3, distort=False)
    state = torch.get_rng_state()
    seen, voids = set(), 0
    for seed in range(40):
        found = view(both, torch.Generator().manual_seed(seed))
        assert torch.equal(found, view(both, torch.Generator().manual_seed(seed)))
        inside = found[3] != 255
        assert set(found[3][inside].unique().tolist()) <= {0, 2}  # numbers are not mixed
        voids += int((~inside).sum())
        assert (found[:3, ~inside] == 7).all()
        off = (found[0][inside].int() - 60 * found[3][inside].int() - 20).abs()
        assert (off > 30).float().mean() < 0.12  # only where bilinear edges meet nearest ones
        seen.add(tuple(found.flatten()[::97].tolist()))
    assert len(seen) > 30
    assert voids
    assert torch.equal(state, torch.get_rng_state())


def test_crops_of_nearly_one_class_are_drawn_again():
    truth = torch.zeros(80, 80)
    truth[:20, :20] = 1
    both = torch.stack([truth] * 3 + [truth]).byte()

    def varied(limit):
        view = SceneView((32, 32), 80, (0.0,) * 3, scale=(1.0, 1.0), limit=limit, distort=False)
        found = [view(both, torch.Generator().manual_seed(seed))[3] for seed in range(40)]
        return sum(0.25 <= float((one == 1).float().mean()) <= 0.75 for one in found)

    assert varied(0.75) > 1.5 * varied(1.0)


def test_distortion_changes_colours_and_never_the_map():
    image, truth = scene(1)
    both = torch.cat([torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(truth)[None]])
    plain, bent = (SceneView((40, 48), 40, (0.0,) * 3, (1.0, 1.0), 1.0, False, on) for on in (False, True))
    changed = 0
    for seed in range(10):
        a, b = (view(both, torch.Generator().manual_seed(seed)) for view in (plain, bent))
        assert torch.equal(a[3], b[3])
        changed += not torch.equal(a[:3], b[:3])
    assert changed >= 6


@pytest.mark.parametrize(("count", "apart"), [(7, 60), (11, 60), (21, 60), (150, 20)])
def test_classes_get_colours_that_can_be_told_apart(count, apart):
    colours = np.array(colours_of(range(count), Legend()) + [[0, 0, 0]])  # void is black
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=2)[np.triu_indices(count + 1, 1)]
    assert distances.min() >= apart
    assert len(colours_of(range(255), Legend())) == 255
