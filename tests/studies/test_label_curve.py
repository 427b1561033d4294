"""The label-efficiency curve: what it measures, what it says, and the study behind it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import unmask
from unmask.data.datasets.draws import draw_rows
from unmask.errors import DataError, Interrupted, UserError
from unmask.studies.label_curve.curve import (
    PRETRAINED,
    RANDOM,
    SCRATCH,
    Curve,
    Worth,
    draw_curve,
    horizontal_gap,
    make_point,
    worths,
)
from unmask.studies.label_curve.study import Cell, records_in, scores_of

SIZES = ("1", "5", "25", "100")


def points(mine, theirs, protocol="full", rival=SCRATCH, spread=0.004):
    found = []
    for name, line in ((PRETRAINED, mine), (rival, theirs)):
        for size, accuracy in zip(SIZES, line):
            draws = [accuracy - spread, accuracy, accuracy + spread]
            found.append(make_point(protocol, name, size, float(size), draws, 1000))
    return found


def curve(found):
    return Curve(found, worths(found, 1000), ["a", "b"], {"train": 400, "test": 1000}, [])


def test_a_curve_that_needs_a_quarter_of_the_labels_is_worth_four_times():
    labels = np.array([1.0, 4.0, 16.0, 64.0])
    theirs = np.array([0.2, 0.4, 0.6, 0.8])
    mine = np.array([0.4, 0.6, 0.8, 0.9])  # where theirs is with four times the labels
    ratio, levels = horizontal_gap(labels, mine, theirs)
    assert abs(ratio - 4) < 1e-6
    assert levels == pytest.approx((0.4, 0.8))
    assert abs(horizontal_gap(labels, theirs, mine)[0] - 1 / 4) < 1e-6
    assert abs(horizontal_gap(labels, mine, mine)[0] - 1) < 1e-9


def test_curves_that_never_meet_have_no_bound():
    labels = np.array([1.0, 10.0])
    assert horizontal_gap(labels, np.array([0.8, 0.9]), np.array([0.1, 0.2])) == (math.inf, None)
    assert horizontal_gap(labels, np.array([0.1, 0.2]), np.array([0.8, 0.9])) == (0.0, None)


@pytest.mark.parametrize(
    ("mine", "theirs", "begin"),
    [
        ((0.4, 0.6, 0.75, 0.9), (0.2, 0.4, 0.6, 0.75), "Pretraining is worth"),
        ((0.2, 0.4, 0.6, 0.75), (0.4, 0.6, 0.75, 0.9), "Pretraining costs labels"),
        ((0.2, 0.4, 0.6, 0.75), (0.201, 0.399, 0.6, 0.751), "No clear benefit"),
        ((0.8, 0.85, 0.9, 0.95), (0.1, 0.2, 0.3, 0.4), "Pretraining is worth more than the largest"),
    ],
)
def test_the_sentence_says_whether_pretraining_helps(mine, theirs, begin):
    text = curve(points(mine, theirs)).sentence()
    assert text.startswith(begin)
    assert ("Intervals lie apart at" in text) == (begin.startswith("Pretraining is worth"))
    assert "inf" not in text.replace("interval", "")


@pytest.mark.slow
def test_fine_tuning_leads_the_sentence_and_frozen_stands_in_for_it():
    frozen = points((0.5, 0.6, 0.7, 0.8), (0.2, 0.3, 0.4, 0.5), "linear", RANDOM)
    assert "at random, frozen" in curve(frozen).sentence()
    both = frozen + points((0.2, 0.4, 0.6, 0.75), (0.4, 0.6, 0.75, 0.9))
    assert "from scratch" in curve(both).sentence()
    assert curve(points((0.5,), (0.4,))).sentence().startswith("Nothing to compare")


def test_the_image_and_the_json_are_written(tmp_path):
    found = curve(points((0.4, 0.6, 0.75, 0.9), (0.2, 0.4, 0.6, 0.75)))
    draw_curve(found, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads(json.dumps(found.to_json()))
    assert content["sentence"] == found.sentence()
    assert 3 < content["worths"][0]["ratio"] < 7


def test_the_heading_fits_the_image_and_is_the_sentence_as_it_stands():
    from unmask.studies.label_curve.curve import _heading

    assert _heading("Nothing to compare with.", 5.5) == "Nothing to compare with."
    long = _heading(f"No clear benefit: {'worth ' * 20}(95 % interval 1.0 to 1.0). More.", 5.5)
    assert long.endswith("1.0).")
    assert max(map(len, long.split("\n"))) <= 63


def test_draws_are_nested_and_stratified():
    labels = np.repeat([0, 1, 2], [40, 30, 10])
    small, large = draw_rows(labels, 2, 1, 0), draw_rows(labels, 5, 1, 0)
    assert set(small) <= set(large)
    assert np.bincount(labels[large]).tolist() == [5, 5, 5]
    assert not np.array_equal(large, draw_rows(labels, 5, 2, 0))
    assert np.bincount(labels[draw_rows(labels, 0.1, 0, 0)]).tolist() == [4, 3, 1]
    assert np.bincount(labels[draw_rows(labels, 0.01, 0, 0)]).tolist() == [1, 1, 1]


def test_records_survive_a_cut_off_line_and_refuse_other_weights(tmp_path):
    path = tmp_path / "labels.jsonl"
    cell = {"protocol": "full", "competitor": PRETRAINED, "size": "5", "draw": 0, "accuracy": 0.5}
    records_in(path, {"weights of pretrained": "a"}).add(cell)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"protocol": "full", "compet')
    again = records_in(path, {"weights of pretrained": "a", "weights of other": "c"})
    assert scores_of(again) == {Cell("full", PRETRAINED, "5", 0): 0.5}
    again.add(cell | {"draw": 1, "accuracy": 0.6})
    assert len(scores_of(records_in(path, {"weights of pretrained": "a"}))) == 2
    for name in ("pretrained", "other"):
        with pytest.raises(UserError, match=f"weights of {name}"):
            records_in(path, {f"weights of {name}": "b"})


@pytest.fixture
def run(run):
    return run.path


OPTIONS = {"labels_per_class": (2, "all"), "draws": 2, "epochs": 1, "precision": "32", "jobs": 1, "device": "cpu"}


@pytest.mark.slow
def test_an_interrupted_study_goes_on_and_equals_an_uninterrupted_one(run, labelled, tmp_path, monkeypatch):
    options = OPTIONS | {"protocols": ("linear", "attentive", "full"), "labels_per_class": 2}
    whole = unmask.labels(run, on=labelled, out=tmp_path / "whole", **options)
    from unmask.studies.label_curve.classification import ClassificationStudy

    accuracy, calls = ClassificationStudy.measure, []

    def stop_in_the_middle(self, cell):
        calls.append(cell)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return accuracy(self, cell)

    monkeypatch.setattr(ClassificationStudy, "measure", stop_in_the_middle)
    with pytest.raises(Interrupted, match="8 of 12 trainings are kept"):
        unmask.labels(run, on=labelled, out=tmp_path / "parts", **options)
    assert not (tmp_path / "parts" / "labels.json").exists()
    again = unmask.labels(run, on=labelled, out=tmp_path / "parts", **options)
    assert len(calls) == 9 + 4
    assert again.points == whole.points
    assert {p.competitor for p in whole.points} == {PRETRAINED, SCRATCH, RANDOM}
    assert all(p.low <= p.accuracy <= p.high for p in whole.points)


@pytest.mark.slow
def test_side_by_side_gives_what_one_after_the_other_gives(run, labelled, tmp_path):
    options = OPTIONS | {"protocols": "full", "labels_per_class": (2,)}
    one = unmask.labels(run, on=labelled, out=tmp_path / "one", **options)
    two = unmask.labels(run, on=labelled, out=tmp_path / "two", **(options | {"jobs": 2}))
    assert one.points == two.points


def test_the_report_shows_the_curve(run, labelled):
    found = unmask.labels(run, on=labelled, **(OPTIONS | {"protocols": "knn", "fractions": 0.5}))
    assert [p.size for p in found.line("knn", PRETRAINED)] == ["2", "50 %", "all"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "How many labels does pretraining save?" in page
    assert found.line("knn", PRETRAINED)[1].size == "50 %"


def test_sizes_that_the_data_lacks_are_named(run, labelled, tmp_path, capsys):
    unmask.labels(run, on=labelled, out=tmp_path / "o", **(OPTIONS | {"protocols": "knn", "labels_per_class": (1, 50)}))
    assert "50 labels per class: left out, the smallest class has 12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocols": "ful"}, "did you mean 'full'"),
        ({"labels_per_class": "many"}, "whole numbers, or all"),
        ({"labels_per_class": 0}, "above 0"),
        ({"labels_per_class": (50, 100)}, "nothing to draw: 50 labels per class.*smallest class has 12.*all"),
        ({"protocols": ()}, "a protocol or more"),
        ({"labels_per_class": ()}, "how many labels to draw"),
        ({"fractions": 1.5}, "between 0 and 1"),
        ({"against": "vit_tinny_patch16_224"}, "vit_tinny_patch16_224"),
    ],
)
def test_mistakes_are_named(run, labelled, change, words, tmp_path):
    with pytest.raises(UserError, match=words):
        unmask.labels(run, on=labelled, out=tmp_path / "out", **(OPTIONS | change))
    assert not (tmp_path / "out").exists()


def test_data_without_labels_is_refused(run, photos, tmp_path):
    with pytest.raises(DataError, match="no image"):
        unmask.labels(run, on=photos, out=tmp_path / "out")
    with pytest.raises(UserError, match="--on"):
        unmask.labels(run)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.0, math.inf, "whether pretraining saves labels or costs labels does not show here"),
        (0.0, 3.0, "worth between less than 0.1 and 3.0 times the labels, at 95 %"),
        (0.8, math.inf, "worth 0.8 times the labels or more, at 95 %"),
    ],
)
def test_an_undecided_worth_names_no_factor_that_could_be_taken_for_a_result(low, high, words):
    pair = [make_point("full", name, "5", 5, [0.8, 0.7], 100) for name in (PRETRAINED, SCRATCH)]
    sentence = Curve(pair, [Worth("full", SCRATCH, 4.0, low, high, None)], ["a", "b"], {}, []).sentence()
    assert sentence.startswith("No clear benefit: ")
    assert words in sentence
    assert "4.0" not in sentence
    assert "upper bound" not in sentence


def test_a_curve_that_never_beats_the_commonest_class_says_so_first():
    pair = [make_point("full", name, "5", 5, [0.7, 0.7], 100) for name in (PRETRAINED, SCRATCH)]
    flat = Curve(pair, [], ["a", "b"], {}, [], majority=0.7)
    assert flat.sentence().startswith(
        "No classifier is clearly better than always answering the commonest class, which gives 70"
    )
    assert replace(flat, majority=0.5).sentence().startswith("Nothing to compare")
