"""Parts of objects judged per object and per category, against a loop over points and parts."""

import numpy as np
import pytest

from unmask.data.annotations.legend import VOID
from unmask.tasks.segmentation.points.metrics import cloud_overlap
from unmask.tasks.segmentation.points.part_scores import categories_of

CLASSES = ["mug/cup", "mug/handle", "table/top", "table/leg", "table/drawer", "lamp/foot"]
PARTS = {"mug": [0, 1], "table": [2, 3, 4], "lamp": [5]}


def objects(count=9):
    """Truth of one category each, some without one of its parts, and predictions that stray into other categories."""
    chance = np.random.default_rng(0)
    for number in range(count):
        name = ["mug", "table"][number % 2]
        parts = PARTS[name][: 1 + number % 3]
        truth = chance.choice(parts, 50)
        predicted = np.where(chance.random(50) < 0.6, truth, chance.choice([*PARTS[name], 5], 50))
        truth[:5] = VOID
        yield predicted.astype(np.uint8), truth.astype(np.uint8)


def by_hand(pairs):
    scores = {name: [] for name in PARTS}
    for predicted, truth in pairs:
        judged = truth != VOID
        name = next(name for name, parts in PARTS.items() if truth[judged][0] in parts)
        ious = []
        for part in PARTS[name]:
            both = np.sum((predicted == part) & (truth == part) & judged)
            either = np.sum(((predicted == part) | (truth == part)) & judged)
            ious.append(1.0 if either == 0 else both / either)
        scores[name].append(np.mean(ious))
    return {name: values for name, values in scores.items() if values}


def test_figures_of_objects_and_categories_are_those_of_a_loop_over_parts():
    result, _ = cloud_overlap(objects(), CLASSES)
    wanted = by_hand(objects())
    assert result["instance_miou"] == pytest.approx(np.mean([v for values in wanted.values() for v in values]))
    assert result["category_miou"] == pytest.approx(np.mean([np.mean(values) for values in wanted.values()]))
    assert {entry["name"]: entry["clouds"] for entry in result["per_category"]} == {"mug": 5, "table": 4}
    low, high = result["instance_miou_interval"]
    assert low < result["instance_miou"] < high
    assert result["instance_miou"] != pytest.approx(result["cloud_miou"], abs=1e-3)


def test_a_part_that_nobody_has_counts_as_right_and_other_clouds_not_at_all():
    whole = np.zeros(10, np.uint8)
    mixed = np.array([0] * 5 + [2] * 5, np.uint8)
    nothing = np.full(10, VOID, np.uint8)
    result, rows = cloud_overlap([(whole, whole), (mixed, mixed), (whole, nothing)], CLASSES)
    assert (result["instance_miou"], result["per_category"][0]["clouds"]) == (1.0, 1)
    assert len(rows) == 3


@pytest.mark.parametrize("names", [["top", "leg"], ["table/top", "leg"], ["/top", "/leg"], []])
def test_without_categories_in_all_names_there_are_no_such_figures(names):
    assert categories_of(names) is None
    if names:
        truth = np.array([0, 1] * 5, np.uint8)
        assert "instance_miou" not in cloud_overlap([(truth, truth)], names)[0]
