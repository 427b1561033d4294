"""What `tune` searches, drops, judges and says."""

from itertools import pairwise

import numpy as np
import pytest
from support.clusters import blobs
from support.configuring import config_of

from unmask.errors import DataError, UserError
from unmask.evaluation.features import Features
from unmask.evaluation.intervals import repeated_difference
from unmask.studies.ablation.any_axis import Text
from unmask.studies.comparison.judging import packed
from unmask.studies.tuning.findings import Outcome, key_of, rounds_of, to_json
from unmask.studies.tuning.halving import FINALISTS, rungs, survivors
from unmask.studies.tuning.judging import PARTS, deal, judge_on_validation
from unmask.studies.tuning.report import literature, next_command
from unmask.studies.tuning.run import Length, chosen_by
from unmask.studies.tuning.space import NAMED, axis_of, chosen_axes

CONFIG = config_of(decoder="full(dim=32, depth=1, heads=2)", mask="random(ratio=0.75)", target="pixels")
IMAGES = 400


@pytest.mark.parametrize("values", range(1, 30))
def test_every_round_halves_the_values_and_doubles_their_runs(values):
    rounds = rungs(values, 3)
    assert rounds[0].values == values
    assert (rounds[-1].share, rounds[-1].seeds) == (1.0, 3)
    assert rounds[-1].values <= max(values if values <= FINALISTS else 0, FINALISTS)
    for first, second in pairwise(rounds):
        assert second.share == 2 * first.share
        assert first.seeds == 1
        assert second.values == max(FINALISTS, -(-first.values // 2))


def test_the_baseline_survives_and_what_diverged_does_not():
    accuracies = {"a": 0.5, "b": 0.9, "own": 0.1, "d": 0.8, "e": 0.8}
    assert survivors(["a", "b", "own", "d", "e", "gone"], accuracies, "own", 3) == ["b", "own", "d"]


def test_images_are_dealt_out_evenly_and_alike():
    labels = np.repeat([0, 1, 2], [40, 9, 4])
    part = deal(labels, 0)
    for label in (0, 1, 2):
        counts = np.bincount(part[labels == label], minlength=PARTS)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(part, deal(labels, 0))
    assert not np.array_equal(part, deal(labels, 1))
    with pytest.raises(DataError, match="3 labelled samples"):
        deal(np.repeat([0, 1], [40, 3]), 0)


def clusters(count, apart):
    x, labels = blobs(count, 2, apart=apart)
    return Features({"mean": x}, labels, np.arange(count))


def test_every_image_is_judged_by_a_classifier_that_has_not_seen_it():
    assert judge_on_validation(clusters(160, apart=6.0), "knn(k=1)", 0).mean() > 0.98
    correct = judge_on_validation(clusters(160, apart=0.0), "knn(k=1)", 0)  # one that has seen it knows it by heart
    assert 0.3 < correct.mean() < 0.7


def line(accuracy, seed=0, loss=1.0):
    """A recorded run with so many images right: those whose turn it is in an order that all runs share."""
    order = np.random.default_rng(seed).permutation(IMAGES)
    correct = np.zeros(IMAGES, bool)
    correct[order[: round(accuracy * IMAGES)]] = True
    return {"correct": packed(correct), "loss": loss, "seconds": 2.0}


def outcome_of(text, accuracies, seeds=(0, 1, 2), before=None, diverged=()):
    """accuracies: of the values, by label."""
    axis = Text.parse(text).axis(CONFIG)
    own = next(value for value in axis.values if not value.changes).key
    plan, lines = rungs(len(axis.values), len(seeds)), {}
    for _ in plan:
        rounds, values, finished = rounds_of(axis, plan, before or {}, lines, seeds)
        for value in values:
            for seed in seeds[: rounds[-1].rung.seeds]:
                run = {"diverged": "nan"} if value.label in diverged else line(accuracies[value.label], seed)
                lines[key_of(value, before or {}), f"{rounds[-1].rung.share:g}", seed] = run
    rounds, _, finished = rounds_of(axis, plan, before or {}, lines, seeds)
    return Outcome(axis, own, rounds, finished)


RATIOS = "mask.ratio=0.5,0.65,0.75,0.85,0.9"


def test_a_better_value_is_found_and_said_with_its_interval():
    found = outcome_of(RATIOS, {"0.5": 0.4, "0.65": 0.45, "0.75": 0.5, "0.85": 0.6, "0.9": 0.7})
    assert [len(done.results) for done in found.rounds] == [5, 3]
    assert found.winner.label == "90 %"
    assert "mask.ratio: 90 % is better than 75 % by 20.0 points (" in found.sentence
    assert chosen_by([found]) == {"mask": "random(ratio=0.9)"}
    result = found.final.of("mask=random(ratio=0.9)")
    orders = [np.random.default_rng(seed).permutation(IMAGES) for seed in (0, 1, 2)]
    mine, base = (np.array([np.isin(np.arange(IMAGES), o[:n]) for o in orders]) for n in (280, 200))
    assert result.difference == repeated_difference(mine, base, 0.975)  # two comparisons: Bonferroni
    assert to_json(found)["better"]["changes"] == {"mask": "random(ratio=0.9)"}


def test_noise_is_called_noise_and_changes_nothing():
    found = outcome_of(RATIOS, {"0.5": 0.4, "0.65": 0.45, "0.75": 0.5, "0.85": 0.505, "0.9": 0.45})
    assert found.winner is None
    assert "75 % is within noise of the best here: 85 % is ahead by" in found.sentence
    assert chosen_by([found]) == {}
    behind = outcome_of("mask.ratio=0.75,0.9", {"0.75": 0.6, "0.9": 0.5})
    assert "no value is better than 75 %: the nearest, 90 %, is behind by 10.0 points" in behind.sentence


def test_what_diverged_is_left_out_and_said():
    accuracies = {"0.5": 0.4, "0.65": 0.45, "0.75": 0.5, "0.85": 0.9, "0.9": 0.45}
    found = outcome_of(RATIOS, accuracies, diverged=("0.85",))
    assert found.rounds[0].diverged == ["85 %"]
    assert found.best.label != "85 %"
    gone = outcome_of("mask.ratio=0.75,0.9", {"0.9": 0.5}, diverged=("0.75",))
    assert "the baseline diverged" in gone.sentence


def test_runs_of_the_axes_before_are_shared_and_unfinished_rounds_are_not_concluded():
    axis = Text.parse("mask.ratio=0.5,0.75,0.9").axis(CONFIG)
    keys = [key_of(value, {"batch": 4}) for value in axis.values]
    assert keys == ["batch=4, mask=random(ratio=0.5)", "batch=4", "batch=4, mask=random(ratio=0.9)"]
    assert [key_of(value, {}) for value in axis.values][1] == "baseline"
    rounds, values, finished = rounds_of(axis, rungs(3, 1), {}, {("baseline", "1", 0): line(0.5)}, [0])
    assert not finished
    assert len(values) == 3
    assert "not finished" in Outcome(axis, "baseline", rounds, finished).sentence
    assert Outcome(axis, "baseline", rounds, finished).winner is None


def test_runs_of_one_length_have_equal_flops():
    length = Length(steps=1000, flops=2e9, step_seconds=0.1, judging_seconds=5.0)
    assert length.steps_of(2e9, 1.0) == 1000
    assert length.steps_of(8e9, 0.5) == 125
    assert length.seconds(0.5) == pytest.approx(55.0)


@pytest.mark.parametrize("name", NAMED)
def test_every_named_axis_has_values_around_the_baseline(name):
    axis = axis_of(name, CONFIG).axis(CONFIG)
    assert len(axis.values) >= 2
    assert sum(not value.changes for value in axis.values) == 1


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ((), "say what to tune"),
        (("ratios",), "did you mean 'ratio'"),
        (("ratio", "mask.ratio=0.5,0.6"), "twice"),
        (("mask.ratio",), "no axis"),
        (("masks.ratio=0.5",), "did you mean 'mask'"),
    ],
)
def test_axes_that_do_not_exist_are_said(axes, said):
    with pytest.raises(UserError, match=said):
        chosen_axes(axes)


def test_an_axis_with_nothing_to_choose_between_is_said():
    with pytest.raises(UserError, match="there is only 7"):
        axis_of("patch_size", CONFIG.with_options({"image_size": (28, 28), "patch_size": 7}))


def test_the_command_to_go_on_with_can_be_typed_and_sources_stand_beside():
    chosen = {"mask": "random(ratio=0.9)", "image_size": (64, 32), "patch_size": 4}
    line = "unmask pretrain photos --mask 'random(ratio=0.9)' --image-size 64 32 --patch-size 4"
    assert next_command(("photos",), chosen) == line
    ratio = outcome_of("mask.ratio=0.75,0.9", {"0.75": 0.6, "0.9": 0.5})
    assert any("75 %" in row["text"] and "arxiv" in row["source"] for row in literature(ratio, "image"))
    assert [row["text"] for row in literature(ratio, "audio")] == [
        "spectrograms, AudioMAE: 80 % of all units, without structure"
    ]
    assert not literature(ratio, "series")
