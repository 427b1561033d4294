"""Which images to label next: diverse, uncertain, near copies once, nothing labelled; and what is forecast of it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.photos import photo

import unmask
from unmask.errors import DataError, UserError
from unmask.evaluation.frozen.linear import Linear
from unmask.studies.label_curve.forecast import Measured, forecast, forecast_linear, forecast_recorded
from unmask.studies.selection.pick import DIVERSE, MIX, UNCERTAIN, Pool, margins, pick
from unmask.studies.selection.results import Counts, Selection
from unmask.tasks.retrieval.neighbours import unit

NONE = np.zeros((0, 8), np.float32)


def clusters(counts, seed=0, spread=0.05):
    """Vectors of length 1 around one axis each, and their cluster."""
    of = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).normal(0, spread, (len(of), 8))
    return unit((np.eye(8)[of] + noise).astype(np.float32)), of


def pool_of(vectors, margins=None, groups=None):
    groups = np.arange(len(vectors)) if groups is None else np.asarray(groups)
    return Pool(vectors, np.ones(len(vectors), bool), lambda row: groups == groups[row], margins)


def test_diverse_picks_take_one_of_every_cluster_however_rare_it_is():
    vectors, of = clusters([200, 200, 5, 3], spread=0.01)
    for seed in range(5):
        rows = [p.row for p in pick(pool_of(vectors), NONE, 4, DIVERSE, seed)]
        assert sorted(of[rows]) == [0, 1, 2, 3]


def test_what_is_labelled_is_not_asked_for_again():
    vectors, of = clusters([60, 60, 60])
    for by in (DIVERSE, MIX):
        rows = [p.row for p in pick(pool_of(vectors, np.full(180, 0.5)), vectors[of == 0][:3], 2, by)]
        assert sorted(of[rows]) == [1, 2]


def test_uncertain_picks_are_those_of_the_smallest_margins_and_the_mix_is_unsure_and_diverse():
    vectors, of = clusters([50, 50, 50, 50])
    lead = np.where(np.isin(of, [0, 1]), 0.02, 0.999) + np.arange(200) * 1e-6
    picks = pick(pool_of(vectors, lead), NONE, 10, UNCERTAIN)
    assert [p.row for p in picks] == np.argsort(lead)[:10].tolist()
    assert [p.margin for p in picks] == pytest.approx(sorted(lead)[:10])
    mixed = [p.row for p in pick(pool_of(vectors, lead), NONE, 2, MIX)]
    assert sorted(of[mixed]) == [0, 1]


def test_near_copies_are_picked_once_and_the_same_seed_picks_the_same():
    vectors, _ = clusters([30])
    picks = pick(pool_of(vectors, groups=np.arange(30) // 3), NONE, 30, DIVERSE)
    assert sorted(p.row // 3 for p in picks) == list(range(10))
    again = pick(pool_of(vectors, groups=np.arange(30) // 3), NONE, 30, DIVERSE)
    other = pick(pool_of(vectors, groups=np.arange(30) // 3), NONE, 30, DIVERSE, seed=1)
    assert picks == again != other


def test_identical_features_still_give_as_many_picks_as_are_wanted():
    vectors = unit(np.ones((6, 8), np.float32))
    assert len({p.row for p in pick(pool_of(vectors), vectors[:1], 6, DIVERSE)}) == 6


def test_margins():
    assert margins(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])) == pytest.approx([0.2, 0.7])
    assert margins(np.array([[0.9, 0.45], [0.0, 1.0]]), multi_label=True) == pytest.approx([0.1, 1.0])
    assert margins(np.ones((2, 1))).tolist() == [1, 1]


def test_linear_probabilities_agree_with_its_answers():
    rng = np.random.default_rng(0)
    y = np.repeat([3, 7, 9], 20)
    x = (rng.normal(0, 1, (60, 5)) + y[:, None] * [1, 0, 0, -1, 0]).astype(np.float32)
    classes, p = Linear().fit_probabilities(x, y, x)
    assert classes.tolist() == [3, 7, 9]
    assert p.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    assert classes[p.argmax(axis=1)].tolist() == Linear().fit_predict(x, y, x).tolist()


def law(n):
    return 1 - (0.1 + 0.9 * n**-0.5)


def test_a_forecast_follows_a_power_law_and_its_interval_holds_the_truth():
    rng = np.random.default_rng(0)
    points = [Measured(n, list(rng.binomial(2000, law(n), 5) / 2000)) for n in (25, 50, 100, 200)]
    told = forecast(points, 2000, 200, 400)
    assert told.low < law(400) < told.high
    assert told.accuracy == pytest.approx(law(400), abs=0.02)
    assert told.high - told.low < 0.1
    assert "at 400 labels" in told.sentence()


def test_an_odd_curve_makes_the_interval_wide():
    smooth = [Measured(n, [law(n)] * 3) for n in (25, 50, 100, 200)]
    odd = [*smooth[:3], Measured(200, [law(200) - 0.2] * 3)]
    wide, narrow = forecast(odd, 10_000, 200, 300), forecast(smooth, 10_000, 200, 300)
    assert wide.miss > 0.15
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


@pytest.mark.parametrize(
    ("points", "num_test", "then", "reason"),
    [
        ([Measured(n, [0.5]) for n in (8, 16, 32)], 100, 40, "3 different numbers of labels"),
        ([Measured(n, [0.5]) for n in (8, 16, 32, 64)], 5, 80, "5 test images are too few"),
        ([Measured(n, [0.5]) for n in (8, 16, 32, 64)], 100, 257, "not followed beyond 4 times"),
    ],
)
def test_where_no_forecast_can_be_given_the_reason_is(points, num_test, then, reason):
    told = forecast(points, num_test, 64, then)
    assert told.accuracy is None
    assert reason in told.sentence()


def test_a_forecast_for_a_linear_classifier_with_a_test_split_and_without():
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = (rng.normal(0, 2, (240, 6)) + np.eye(6)[y] * 3).astype(np.float32)
    with_split = forecast_linear(x[:120], y[:120], 60, (x[120:], y[120:]))
    without = forecast_linear(x[:120], y[:120], 60)
    for told in (with_split, without):
        assert (told.now, told.then) == (120, 180)
        assert 0.4 < told.low <= told.accuracy <= told.high < 1
    assert [p.labels for p in with_split.points] == [15, 30, 60, 120]
    assert forecast_linear(x, y * 0, 60).reason == "the labelled images are all of one class"
    assert "no class has two" in forecast_linear(x[:3], y[:3], 60).reason


def test_forecasts_and_selections_call_samples_by_their_word():
    few = [Measured(n, [0.5]) for n in (8, 16, 32, 64)]
    assert "5 test recordings are too few" in forecast(few, 5, 64, 80, word="recording").sentence()
    x = np.zeros((3, 2), np.float32)
    assert forecast_linear(x, np.zeros(3, int), 1, word="clip").reason == "the labelled clips are all of one class"
    counts, told = Counts(20, 0, 0, 0, 0), forecast(few, 5, 64, 80)
    assert Selection(Path(), DIVERSE, "clip", [], counts, "", told).sentences(0)[0].startswith("0 clips to label out")


def test_data_that_is_labelled_itself_is_opened_and_told_of_once(pretrained, pool, tmp_path, capsys):
    (pool / "labels.csv").write_text("path,label\nnew0.png,red\nnew1.png,red\nnew2.png,blue\nnew3.png,blue\n")
    unmask.select(pretrained.path, pool, on=pool, most=2, out=tmp_path / "out", device="cpu")
    said = capsys.readouterr().out
    assert said.count("have no row, so no label") == 1
    assert "4 labelled images of 2 classes" in said


def test_a_recorded_curve_of_fine_tuned_accuracy_is_used_and_none_is_said():
    points = [
        {"protocol": "full", "competitor": "pretrained", "per_class": n / 2, "draws": [law(n)] * 3}
        for n in (25, 50, 100, 200)
    ]
    curve = {"points": points, "classes": ["a", "b"], "counts": {"test": 500}, "score": "accuracy"}
    assert forecast_recorded(curve, 200, 100).accuracy == pytest.approx(law(300), abs=0.02)
    assert "no label curve of fine-tuned accuracy" in forecast_recorded({}, 200, 100).sentence()


@pytest.fixture
def pool(tmp_path, labelled):
    """Images to choose from: new ones, a copy of each of two others, copies of labelled ones, a broken one."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for seed in range(10):
        Image.fromarray(photo(500 + seed)).save(folder / f"new{seed}.png")
    Image.fromarray(photo(500)).save(folder / "copy0.bmp")
    Image.fromarray(photo(501)).save(folder / "copy1.jpg", quality=95)
    first = labelled / "train" / "red" / "003.png"
    Image.open(first).save(folder / "labelled.bmp")
    Image.open(labelled / "test" / "blue" / "002.png").save(folder / "tested.jpg", quality=95)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("by", ["mix", "diverse", "uncertain"])
def test_select_leaves_out_what_is_labelled_and_takes_copies_once(pretrained, labelled, pool, tmp_path, by):
    out = tmp_path / "out"
    options = {"on": labelled, "out": out, "index": tmp_path / "index", "device": "cpu", "by": by}
    selection = unmask.select(pretrained.path, pool, most=20, **options)
    paths = {chosen.path for chosen in selection.chosen}
    assert len(paths) == len(selection.chosen) == 10
    assert not paths & {"labelled.bmp", "tested.jpg", "broken.png"}
    for one, other in (("new0.png", "copy0.bmp"), ("new1.png", "copy1.jpg")):
        assert len(paths & {one, other}) == 1
    assert selection.counts.copies_of_labelled == 2
    with open(out / "select.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == [chosen.path for chosen in selection.chosen]
    assert all(row["reason"] and row["score"] and row["nearest_label"] in ("red", "blue") for row in table)
    assert all((row["margin"] == "") == (by == "diverse") for row in table)
    record = json.loads((out / "select.json").read_text())
    assert "10 images to label out of 15" in record["sentence"]
    assert (out / "select.html").stat().st_size > 10_000
    assert (out / "select.png").exists()
    three = unmask.select(pretrained.path, pool, most=3, **options)
    again = unmask.select(pretrained.path, pool, most=3, **options)
    assert len(three.chosen) == 3
    assert three.chosen == again.chosen


def test_the_table_becomes_labels_once_it_is_filled_in(pretrained, labelled, pool, tmp_path):
    from unmask.data.source import open_source

    out = tmp_path / "out"
    unmask.select(pretrained.path, pool, on=labelled, most=3, out=out, index=tmp_path / "i", device="cpu")
    text = (out / "select.csv").read_text()
    (pool / "labels.csv").write_text(text)
    assert all(item.label is None for item in open_source(pool).items)
    (pool / "labels.csv").write_text("".join(line.replace(",,", ",red,", 1) for line in text.splitlines(keepends=True)))
    assert sum(item.label == "red" for item in open_source(pool).items) == 3
    rest = unmask.select(pretrained.path, pool, on=labelled, most=20, out=out, index=tmp_path / "i", device="cpu")
    assert rest.counts.labelled_in_data == 3
    assert len(rest.chosen) == 7  # no copies of those either


def test_bad_input_of_select_is_refused_with_what_to_do(pretrained, labelled, tmp_path):
    with pytest.raises(UserError, match="say what is labelled already"):
        unmask.select(pretrained.path, labelled)
    with pytest.raises(UserError, match="mix"):
        unmask.select(pretrained.path, labelled, on=labelled, by="mixed")
    options = {"out": tmp_path / "out", "index": tmp_path / "index", "device": "cpu"}
    with pytest.raises(DataError, match="nothing is left to choose from"):
        unmask.select(pretrained.path, labelled, on=labelled, **options)
    single = tmp_path / "single"
    single.mkdir()
    for seed in (3, 4):
        Image.fromarray(photo(seed)).save(single / f"{seed}.png")
    (single / "labels.csv").write_text("path,label\n3.png,red\n4.png,red\n")
    with pytest.raises(DataError, match="are all 'red'"):
        unmask.select(pretrained.path, labelled, on=single, **options)
    chosen = unmask.select(pretrained.path, labelled, by="diverse", most=2, **options)
    assert len(chosen.chosen) == 2
    assert "nothing is labelled yet" in chosen.forecast.sentence()
