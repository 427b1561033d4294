"""The comparison: choices without test labels, intervals that mean what they say, words that fit the numbers."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from unmask.data.datasets.draws import hold_out
from unmask.errors import UserError
from unmask.evaluation.compare import _draws, best_candidate, judge
from unmask.evaluation.features import Features
from unmask.evaluation.frozen.linear import GRID, Linear
from unmask.evaluation.verdict import Difference, Score, Verdict, draw_verdict, markdown, table

CLASSES = ["ant", "bee", "cat"]
COUNTS = {"train": 240, "val": 90, "test": 300}
RNG = np.random.default_rng(0)
LABELS = {split: np.arange(count) % 3 for split, count in COUNTS.items()}
CENTRES = RNG.normal(size=(3, 8))


def noisy(apart, seed=0, labels=LABELS, **pools):
    """A competitor; `apart` says how well its features tell the classes apart."""

    def features(split):
        found = {}
        for place, (name, distance) in enumerate({"mean": apart, **pools}.items()):
            rng = np.random.default_rng([seed, place, len(split)])
            x = CENTRES[LABELS[split]] * distance + rng.normal(size=(COUNTS[split], 8))
            found[name] = x.astype(np.float32)
        return Features(found, labels[split], np.arange(COUNTS[split]))

    return features


@pytest.fixture(scope="module")
def verdict():
    competitors = {"pretrained": noisy(1.0, cls=0.1), "random init": noisy(0.4, 1), "raw pixels": noisy(0.2, 2)}
    return judge(
        competitors | {"vit_small.dino": noisy(2.0, 3)}, classes=CLASSES, labels_per_class=(1, 5, 200), draws=4
    )


def test_better_features_win_and_the_better_pooling_is_chosen(verdict):
    for evaluator in ("knn", "linear"):
        mine, theirs = verdict.score("pretrained", evaluator), verdict.score("random init", evaluator)
        assert mine.pooling == "mean"
        assert mine.low < mine.accuracy < mine.high
        assert mine.accuracy > theirs.accuracy + 0.1
        assert verdict.difference("random init", evaluator).low > 0
        assert [few.labels for few in mine.few] == [1, 5]  # no class has 200
        assert mine.few[1].accuracy > mine.few[0].accuracy
        assert len(mine.few[0].draws) == 4
    assert verdict.counts == COUNTS
    assert verdict.majority == pytest.approx(1 / 3)


def test_test_labels_have_no_say_in_any_choice(verdict):
    shuffled = LABELS | {"test": np.random.default_rng(4).permutation(LABELS["test"])}
    other = {"pretrained": noisy(1.0, cls=0.1, labels=shuffled), "random init": noisy(0.4, 1, labels=shuffled)}
    again = judge(other, classes=CLASSES, labels_per_class=())
    for score in again.scores:
        before = verdict.score(score.competitor, score.evaluator)
        assert (score.pooling, score.setting, score.val_accuracy) == (
            before.pooling,
            before.setting,
            before.val_accuracy,
        )
        assert score.accuracy < before.accuracy


def test_validation_labels_do_decide():
    wrong = LABELS | {"val": (LABELS["val"] + 1) % 3}  # with these, the worse pooling answers more of them rightly
    found = judge({"pretrained": noisy(2.0, cls=0.0, labels=wrong)}, classes=CLASSES, labels_per_class=())
    assert {score.pooling for score in found.scores} == {"cls"}


def test_judging_twice_gives_the_same_and_another_seed_other_draws(verdict):
    competitor = {"pretrained": noisy(1.0, cls=0.1)}
    one, two, three = (
        judge(competitor, classes=CLASSES, evaluators=["linear"], labels_per_class=(1,), draws=4, seed=seed).scores[0]
        for seed in (0, 0, 1)
    )
    assert one == two
    assert one.few[0] == verdict.score("pretrained", "linear").few[0]  # others in the comparison change nothing
    assert one.few[0].draws != three.few[0].draws


def test_draws_take_as_many_of_each_class_and_those_of_more_labels_hold_those_of_fewer():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 4], [9, 20, 30]))
    few, more = _draws(labels, 2, 5, seed=3), _draws(labels, 7, 5, seed=3)
    for one, other in zip(few, more):
        assert np.unique(labels[one], return_counts=True)[1].tolist() == [2, 2, 2]
        assert set(one) < set(other)
    assert len({tuple(rows) for rows in few}) == 5
    assert _draws(labels, 10, 5, seed=3) == []


def test_balanced_accuracy_is_scikit_learns_and_balances():
    from unmask.evaluation.compare import _balanced

    labels = np.array([0] * 90 + [1] * 10)
    features = Features({}, labels, labels)
    assert _balanced(features, np.zeros(100, int)) == 0.5
    answers = np.random.default_rng(0).integers(0, 2, 100)
    assert _balanced(features, answers) == pytest.approx(balanced_accuracy_score(labels, answers))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _balanced(features, np.where(labels == 0, 7, 1)) == 0.5  # a class that the test split lacks


def test_samples_without_a_label_are_left_out():
    some = {split: np.where(np.arange(len(y)) < 30, y, -1) for split, y in LABELS.items()}
    found = judge({"pretrained": noisy(1.0, labels=some)}, classes=CLASSES, labels_per_class=())
    assert found.counts == {"train": 30, "val": 30, "test": 30}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluators": ["lineal"]}, "did you mean 'linear'"),
        ({"classes": ["ant"]}, "1 class names, but labels up to 2"),
        ({"draws": 0}, "a draw"),
        (
            {"competitors": {"a": noisy(1), "b": noisy(1, labels=LABELS | {"train": LABELS["train"][::-1]})}},
            "different",
        ),
        ({"competitors": {"a": noisy(1, labels=LABELS | {"val": LABELS["val"] * 0 - 1})}}, "val split has no labelled"),
        ({"competitors": {"a": noisy(1, labels=LABELS | {"train": LABELS["train"] * 0})}}, "two classes"),
    ],
)
def test_what_cannot_be_judged_is_said(change, message):
    given = {"competitors": {"pretrained": noisy(1)}, "classes": CLASSES} | change
    with pytest.raises(UserError, match=message):
        judge(given.pop("competitors"), **given)


def test_held_out_samples_are_a_share_of_every_class():
    labels = np.array([0] * 50 + [1] * 10 + [2] * 2 + [3] + [-1] * 5)
    keep, held = hold_out(labels, 0.2)
    assert np.sort(np.concatenate([keep, held])).tolist() == list(range(len(labels)))
    assert np.unique(labels[held], return_counts=True)[1].tolist() == [10, 2, 1]
    assert hold_out(labels, 0.2)[1].tolist() == held.tolist()
    assert hold_out(labels, 0.2, seed=1)[1].tolist() != held.tolist()
    with pytest.raises(UserError, match="none can be held out"):
        hold_out(np.array([0, 1, 2]))
    with pytest.raises(UserError, match="share"):
        hold_out(labels, 1.0)


def made(**accuracies):
    """A verdict with these linear accuracies (percent), and differences known to 2 points."""
    names = {"pretrained": "pretrained", "random": "random init", "pixels": "raw pixels", "dino": "dino"}
    scores = [
        Score(names[n], "linear", "mean", "linear(C=1)", 0.5, a / 100, a / 100 - 0.01, a / 100 + 0.01, a / 100)
        for n, a in accuracies.items()
    ]
    first = scores[0].accuracy
    differences = [
        Difference("linear", s.competitor, first - s.accuracy, first - s.accuracy - 0.02, first - s.accuracy + 0.02)
        for s in scores[1:]
    ]
    return Verdict(CLASSES, {"train": 9000, "val": 1000, "test": 2000}, 1 / 3, 0, scores, differences)


@pytest.mark.parametrize(
    ("accuracies", "start"),
    [
        ({"pretrained": 62, "random": 45, "pixels": 38}, "Pretraining helped: linear"),
        ({"pretrained": 62, "random": 45}, "Pretraining helped: linear"),
        ({"pretrained": 62, "random": 61, "pixels": 38}, "No clear benefit: linear"),
        ({"pretrained": 40, "random": 45, "pixels": 38}, "Pretraining hurt: linear"),
        ({"pretrained": 62, "random": 45, "pixels": 61.5}, "Pretraining helped, but raw pixels do as well: linear"),
        ({"pretrained": 62, "random": 45, "pixels": 70}, "Pretraining helped, but raw pixels do better: linear"),
        ({"pretrained": 62, "pixels": 70}, "Raw pixels are better: linear"),
        ({"pretrained": 62, "dino": 70}, "Nothing to compare with: linear"),
    ],
)
def test_the_sentence_says_what_the_numbers_say(accuracies, start):
    assert made(**accuracies).sentence().startswith(start)


def test_the_sentence_gives_its_grounds():
    text = made(pretrained=62, random=60.8, pixels=38, dino=90).sentence()
    assert text == (
        "No clear benefit: linear accuracy of pretrained 62.0 % (61.0-63.0) against 60.8 % (59.8-61.8) for the same"
        " encoder at random initialisation (+1.2 points, -0.8 to +3.2; the intervals overlap) and 38.0 % (37.0-39.0)"
        " for raw pixels (+24.0 points, +22.0 to +26.0); 2,000 test images, mean pooling, chosen on the validation"
        " split. For comparison, dino reaches 90.0 % (89.0-91.0)."
    )
    assert "commonest class would give 33.3 %" in made(pretrained=34, random=30).sentence()


def test_a_second_evaluator_agrees_or_says_otherwise(verdict):
    assert "By kNN the same: " in verdict.sentence()
    other = [replace(d, accuracy=0.0, low=-0.1, high=0.1) if d.evaluator == "knn" else d for d in verdict.differences]
    assert "By kNN the result differs: no clear benefit: " in replace(verdict, differences=other).sentence()


def test_the_verdict_is_json_a_table_and_markdown(verdict):
    content = json.loads(json.dumps(verdict.to_json()))
    assert content["sentence"] == verdict.sentence()
    assert content["scores"][0]["few"][0]["labels"] == 1
    assert table(verdict).row_count == 8
    lines = markdown(verdict).splitlines()
    assert lines[0] == verdict.sentence()
    assert len({line.count("|") for line in lines[2:]}) == 1


@pytest.mark.parametrize("few", [True, False])
def test_the_image_is_1200_pixels_wide_and_not_empty(verdict, few, tmp_path):
    if not few:
        verdict = replace(verdict, scores=[replace(score, few=[]) for score in verdict.scores])
    draw_verdict(verdict, tmp_path / "evaluation.png")
    with Image.open(tmp_path / "evaluation.png") as image:
        assert image.size == (1200, 480)
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
    assert {(0, 114, 178), (110, 110, 110), (213, 94, 0)} <= colors  # pretrained, random init, raw pixels
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.png"]


class Peaked(Linear):
    """As accurate as its strength is near to `best`, tenfold steps away."""

    best = 1.0

    def candidates(self):
        return [Peaked(C) for C in GRID]

    def beyond(self, tried):
        return [Peaked(candidate.C) for candidate in super().beyond(tried)]

    def fit_predict(self, train_x, train_y, test_x):
        return (np.arange(20) < abs(math.log10(self.C / self.best)) - 1e-6).astype(int)


@pytest.mark.parametrize("best", [1e5, 1e-7, 1.0])
def test_the_grid_of_penalties_is_widened_until_the_best_lies_inside(best, monkeypatch):
    monkeypatch.setattr(Peaked, "best", best)
    nothing, right = (np.zeros((20, 1), np.float32), np.zeros(20, int)), np.zeros(20, int)
    accuracy, chosen = best_candidate(Peaked(), nothing, (nothing[0], right))
    assert accuracy == 1.0
    assert chosen.C == pytest.approx(best)
