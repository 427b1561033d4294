"""Audits: groups that are treated differently are found, others are not, and what the data has to do with it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_calibration_error

import unmask
from unmask.data.source import open_source
from unmask.errors import UserError
from unmask.studies.auditing.columns import group_columns
from unmask.studies.auditing.measures import Answered, adjust, answered, calibration_error, judge_groups
from unmask.studies.auditing.results import association, read_groups, shares_of


def answers(right_of, count=150, seed=0):
    """Images of groups a, b, c, answered rightly with these chances and always with confidence 0.8."""
    rng = np.random.default_rng(seed)
    values = np.repeat(list("abc"), count)
    right = rng.random(len(values)) < np.repeat(right_of, count)
    labels = np.arange(len(values)) % 2
    return values.tolist(), Answered(
        labels, np.where(right, labels, 1 - labels), np.full(len(values), 0.8), rng.random(len(values))
    )


def judged(values, images):
    groups, left = judge_groups(values, images, "site")
    return {g.value: {m.name: m for m in g.measures} for g in adjust([groups])[0]}, left


def test_a_group_that_is_treated_worse_is_found_by_accuracy_and_calibration_and_not_by_retrieval():
    of, _ = judged(*answers([0.8, 0.8, 0.4]))
    assert of["c"]["accuracy"].differs
    assert of["c"]["calibration error"].differs
    assert of["c"]["accuracy"].low < 0.4 < of["c"]["accuracy"].high
    assert of["c"]["accuracy"].rest == pytest.approx(0.8, abs=0.07)
    assert not any(group["retrieval"].differs for group in of.values())


@pytest.mark.slow
def test_equal_groups_rarely_differ_and_adjusting_never_makes_a_difference_surer():
    alarms = 0
    for seed in range(8):
        of, _ = judged(*answers([0.7, 0.7, 0.7], count=40, seed=seed))
        measures = [m for group in of.values() for m in group.values()]
        alarms += any(m.differs for m in measures)
        assert all(m.adjusted >= m.p - 1e-12 for m in measures)
    assert alarms <= 2


def test_groups_of_one_are_named_and_not_judged_and_alone_refused():
    values, images = answers([0.8, 0.8, 0.8], count=20)
    values[0] = "lone"
    of, left = judged(values, images)
    assert [(group.value, group.count) for group in left] == [("lone", 1)]
    assert set(of) == {"a", "b", "c"}
    with pytest.raises(UserError, match="fewer than two groups of 2 or more test images: a \\(59\\), lone \\(1\\)"):
        judge_groups(["lone"] + ["a"] * 59, images, "site")


def test_the_calibration_error_is_that_of_torchmetrics():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 500).astype(np.float32)
    labels = rng.integers(0, 3, 500)
    want = multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(labels), 3, n_bins=15)
    assert calibration_error(p.max(axis=1), p.argmax(axis=1) == labels) == pytest.approx(float(want), abs=1e-5)


def test_retrieval_is_the_share_of_near_images_with_the_same_label():
    vectors = np.repeat(np.eye(2, dtype=np.float32), 6, axis=0)
    labels = np.array([0] * 6 + [0, 1, 1, 1, 1, 1])
    p = np.eye(2, dtype=np.float32)[labels]
    assert answered(p, labels, vectors).precision == pytest.approx([1] * 6 + [0] + [0.8] * 5)


def test_a_probe_reads_groups_that_show_and_not_those_that_do_not():
    rng = np.random.default_rng(0)
    values = np.array(["x", "y"])[np.arange(400) % 2].tolist()
    seen = rng.normal(0, 1, (400, 6)).astype(np.float32)
    assert not read_groups((seen[:200], values[:200]), (seen[200:], values[200:])).is_read
    seen[:, 2] += 3 * (np.arange(400) % 2)
    assert read_groups((seen[:200], values[:200]), (seen[200:], values[200:])).is_read
    assert read_groups((seen[:200], [""] * 200), (seen[200:], values[200:])) is None


def test_shares_and_association_of_the_data():
    assert shares_of({"labelled": ["a", "a", "b", ""], "unlabelled": [""]}) == {"labelled": {"a": 2 / 3, "b": 1 / 3}}
    linked, p = association(["a", "b"] * 50, ["cat", "dog"] * 50)
    assert linked == pytest.approx(1, abs=1e-6)
    assert p < 0.001
    assert association(["a"] * 4, ["cat", "dog"] * 2) == (None, None)


@pytest.fixture
def sites(labelled, tmp_path):
    """A table that says of every labelled image from where it is: red ones mostly from north."""
    lines = ["path,site,one"]
    for number, path in enumerate(sorted(labelled.rglob("*.png"))):
        site = "north" if (path.parent.name == "red") != (number % 4 == 0) else "south"
        lines.append(f"{path.relative_to(labelled).as_posix()},{site},same")
    table = tmp_path / "groups.csv"
    table.write_text("\n".join(lines))
    return table


@pytest.mark.slow
def test_audit_writes_numbers_and_careful_words(pretrained, labelled, sites, tmp_path):
    out, index = tmp_path / "out", tmp_path / "index"
    options = {"on": labelled, "out": out, "index": index, "device": "cpu"}
    result = unmask.audit(pretrained.path, groups=sites, unlabelled=labelled, **options)
    assert [column.column for column in result.columns] == ["site"]
    content = json.loads((out / "audit.json").read_text())
    assert content["count"] == 16
    assert set(content["columns"][0]["shares"]) == {"labelled", "test", "unlabelled"}
    assert "not why" in content["sentence"]
    assert "Cramer's V" in content["sentence"]
    assert len((out / "audit.csv").read_text().splitlines()) == 1 + 2 * 3
    page = (out / "audit.html").read_text()
    for words in ("By site", "Did the data?", "Cramer&#39;s V", "calibration error", "retrieval", "adjusted p",
                  "linear probe", "Benjamini-Hochberg", "data:image/png;base64,", "balanced accuracy"):  # fmt: skip
        assert words in page, words
    assert page.count("<h2>") == 2
    again = unmask.audit(pretrained.path, groups=[sites, "site"], unlabelled=labelled, **options)
    assert again.columns == result.columns


def test_bad_groups_are_refused_with_what_to_do(pretrained, labelled, sites, tmp_path):
    options = {"on": labelled, "out": tmp_path / "out", "index": tmp_path / "index", "device": "cpu"}
    with pytest.raises(UserError, match="no column makes groups"):
        unmask.audit(pretrained.path, **options)
    with pytest.raises(UserError, match="there is no such file"):
        unmask.audit(pretrained.path, groups=tmp_path / "none.csv", **options)
    with pytest.raises(UserError, match="no column 'sit', did you mean 'site'"):
        unmask.audit(pretrained.path, groups=[sites, "sit"], **options)
    with pytest.raises(UserError, match="tells no groups apart"):
        unmask.audit(pretrained.path, groups=[sites, "one"], **options)
    foreign = tmp_path / "foreign.csv"
    foreign.write_text("path,site\nelsewhere.png,north\n")
    with pytest.raises(UserError, match="names no image"):
        unmask.audit(pretrained.path, groups=foreign, **options)
    foreign.write_text("who,site\nelsewhere.png,north\n")
    with pytest.raises(UserError, match="it needs one of path"):
        unmask.audit(pretrained.path, groups=foreign, **options)
    assert not (tmp_path / "out").exists()


LINES = ["path,site", "a.png,north", "sub/b.png,south"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([*LINES, "c.png,north", "d.png,north"], "names 2 of 4 images that are not in .*: c.png, d.png. Correct"),
        ([*LINES, ",north"], "names 1 of 3 images that are not in .*: a row without a path"),
        ([*LINES, "other/b.png,north"], r"other/b.png \(one sub/b.png has its name, but lies elsewhere\)"),
        ([*LINES, "a.png,north"], "more than one row for a.png: one row for each image"),
        ([*LINES, "./a.png,south"], "names a.png twice"),
        (["path,site,site", "a.png,north,south"], "more than one column site"),
        (["path,site"], "a heading and no rows"),
    ],
)
def test_tables_with_unknown_images_and_duplicates_are_refused(tmp_path, lines, words):
    for name in ("a.png", "sub/b.png"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    source, table = open_source(str(tmp_path / "data")), tmp_path / "groups.csv"
    table.write_text("\n".join(LINES))
    assert [row["site"] for row in group_columns(source, [table])] == ["north", "south"]
    again = tmp_path / "again.csv"
    again.write_text("\n".join(LINES))
    with pytest.raises(UserError, match=r"as .*groups\.csv does: one row for each image"):
        group_columns(source, [table, again])
    table.write_text("\n".join(lines))
    with pytest.raises(UserError, match=words):
        group_columns(source, [table])


def test_a_table_may_speak_of_the_unlabelled_images_too(tmp_path):
    sources = []
    for folder, name in (("labelled", "a.png"), ("photos", "b.png")):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / folder / name)
        sources.append(open_source(str(tmp_path / folder)))
    table = tmp_path / "groups.tsv"
    table.write_text("path\tsite\na.png\tnorth\nb.png\tsouth\n")
    labelled, photos = sources
    assert group_columns(labelled, [table], [photos]) == [{"site": "north"}]
    assert group_columns(photos, [table], [labelled]) == [{"site": "south"}]
    with pytest.raises(UserError, match="names 1 of 2 images"):
        group_columns(labelled, [table])


def test_accuracy_under_corruption_is_compared_where_every_group_was_tested():
    values, images = answers([0.8, 0.8, 0.8])
    shares = np.where(np.array(values) == "c", 0.2, 0.8) + np.tile([-0.1, 0.1], 225)
    shares[::3] = np.nan
    of, _ = judged(values, replace(images, corrupted=shares))
    measure = of["c"]["accuracy under corruption"]
    assert measure.value == pytest.approx(0.2, abs=0.02)
    assert measure.rest == pytest.approx(0.8, abs=0.02)
    assert measure.differs
    assert not of["c"]["accuracy"].differs
    shares[:150] = np.nan  # of group a nothing is known
    of, _ = judged(values, replace(images, corrupted=shares))
    assert list(of["c"]) == ["accuracy", "calibration error", "retrieval"]


@pytest.mark.slow
def test_a_fine_tuned_classifier_is_audited_and_asked_what_to_label(run, labelled, sites, photos, tmp_path):
    unmask.transfer(run.path, on=labelled, epochs=1, device="cpu")
    folder = run.path / "classify"
    result = unmask.audit(folder, on=labelled, groups=sites, out=tmp_path / "audit", device="cpu")
    right = unmask.predict(folder, labelled / "test", out=tmp_path / "p.csv", device="cpu")
    names = [name.split("/")[-2] for name in right.names]
    assert result.accuracy == pytest.approx(np.mean([a == b for a, b in zip(right.labels, names)]))
    assert result.classifier == "the classifier classify"
    selection = unmask.select(folder, photos, on=labelled, most=4, by="uncertain", out=tmp_path / "s", device="cpu")
    said = unmask.predict(folder, photos, out=tmp_path / "q.csv", device="cpu")
    margins = dict(zip(said.names, np.abs(np.diff(said.probabilities, axis=1))[:, 0]))
    assert [c.margin for c in selection.chosen] == pytest.approx(sorted(margins.values())[:4], abs=1e-4)
    assert "no label curve of fine-tuned accuracy" in selection.forecast.sentence()
    flat = tmp_path / "flat"
    for name in ("red", "blue"):
        (flat / name).mkdir(parents=True)
        for path in (labelled / "test" / name).iterdir():
            path.rename(flat / name / path.name)
    table = tmp_path / "flat.csv"
    lines = [f"{p.parent.name}/{p.name},{'ab'[n % 2]}" for n, p in enumerate(sorted(flat.rglob("*.png")))]
    table.write_text("\n".join(["path,site", *lines]))
    others = unmask.audit(folder, on=flat, groups=table, out=tmp_path / "audit2", device="cpu")
    assert others.count == 16
