"""`stress` from end to end on a small classifier of red and blue images: corruptions, groups (by `audit`), mistakes."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.photos import photo
from support.small import SMALL

import unmask
from unmask.cli.synonyms import refuse_unknown
from unmask.cli.verb import commands
from unmask.data.source import open_source
from unmask.errors import DataError, Interrupted, UserError
from unmask.studies.auditing.columns import choose_columns
from unmask.studies.robustness.results import Cell, Stress

QUICK = {"corruptions": ("fog", "contrast"), "severities": (1, 5), "device": "cpu"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images with a labels.csv: the colour is the label; of site B every second label is wrong."""
    root = tmp_path_factory.mktemp("data")
    rows = ["path,label,split,site,sex,note,patient"]
    for split, count in (("train", 24), ("test", 40)):
        for number in range(count):
            blue, site = number % 2, "AB"[number // 2 % 2]
            image = photo(number + 100 * (split == "test"), 32, 32) // 2
            image[..., 2 * blue] += 110
            name = f"{split}{number:02d}.png"
            Image.fromarray(image).save(root / name)
            wrong = split == "test" and site == "B" and number // 4 % 2
            label = ("red", "blue")[blue != wrong]
            rows.append(f"{name},{label},{split},{site},{'mf'[number // 5 % 2]},same,p{number}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    run = unmask.pretrain(data, out=root / "run", steps=2, **SMALL)
    options = {"protocol": "linear", "epochs": 25, "batch": 24, "workers": 0, "device": "cpu", "precision": "32"}
    return unmask.transfer(run.path, on=data, out=root / "classifier", **options)


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained.path, tmp_path / "classifier")


@pytest.fixture
def undrawn(monkeypatch):
    """Images and pages take longer than all the rest, and one test looks at them."""
    for name in ("draw_stress", "draw_examples", "write_report"):
        monkeypatch.setattr(f"unmask.cli.commands.stress.{name}", lambda *given: None)


@pytest.mark.slow
def test_stress_measures_every_cell_and_writes_figures_images_and_the_report(folder, data, capsys):
    result = unmask.stress(folder, on=data, **QUICK)
    content = json.loads((folder / "stress.json").read_text())
    assert [(c["corruption"], c["severity"]) for c in content["cells"]] == [
        *(("fog", 1), ("fog", 5), ("contrast", 1), ("contrast", 5))
    ]
    assert result.count == 40
    for cell in result.cells:
        assert cell.low <= cell.accuracy <= cell.high
        assert cell.drop == pytest.approx(result.accuracy - cell.accuracy)
        assert cell.drop_low <= cell.drop <= cell.drop_high
    assert result.mean("fog").accuracy == pytest.approx(np.mean([c.accuracy for c in result.cells[:2]]))
    assert content["mean"]["accuracy"] == pytest.approx(np.mean([c.accuracy for c in result.cells]))
    said = capsys.readouterr().out.replace("\n", " ")
    assert content["sentence"] in said
    assert "mCE" not in said + json.dumps(content)
    assert content["table"][0][0] == "corruption"
    assert content["table"][-1][0] == "mean"
    for name in ("stress.png", "stress_examples.png"):
        assert min(Image.open(folder / name).size) > 200
    page = (folder / "report.html").read_text()
    assert "How robust is it?" in page


def test_accuracy_is_that_of_the_classifier_on_the_images_as_they_are_damaged(undrawn, folder, data):
    from unmask.studies.robustness.corrupt import corrupt

    result = unmask.stress(folder, on=data, **QUICK)
    classifier = unmask.load(folder)
    source = open_source(data)
    right = []
    for index, item in enumerate(source.items):
        if item.split == "test":
            image = torch.from_numpy(np.asarray(Image.open(data / item.name))).permute(2, 0, 1)
            damaged = corrupt(image, "contrast", 5, seed=0, number=index)
            with torch.no_grad():
                answer = classifier(damaged[None]).argmax()
            right.append(classifier.classes[int(answer)] == item.label)
    assert result.cell("contrast", 5).accuracy == pytest.approx(np.mean(right))


@pytest.mark.slow
def test_groups_are_compared_by_audit_under_corruption_too(undrawn, folder, data, tmp_path):
    with pytest.raises(UserError, match="stress has no option 'groups': groups are compared by unmask audit RUN"):
        unmask.stress(folder, on=data, groups="site", **QUICK)
    with pytest.raises(UserError, match="unmask stress has no option --groups: groups are compared by unmask audit"):
        refuse_unknown("stress", commands(), commands()["stress"], ["x", "--groups", "site"])
    options = {"on": data, "device": "cpu", "out": tmp_path / "audit", "index": tmp_path / "index"}
    alone = unmask.audit(folder, **options)
    assert [column.column for column in alone.columns] == ["site", "sex"]  # note has one value, patient too many
    stress = unmask.stress(folder, on=data, most=30, **QUICK)
    result = unmask.audit(folder, **options)
    site = {group.value: {m.name: m for m in group.measures} for group in result.columns[0].groups}
    assert {group.value: group.count for group in result.columns[0].groups} == {"A": 20, "B": 20}
    assert site["A"]["accuracy"].value > site["B"]["accuracy"].value
    assert site["B"]["accuracy"].differs
    assert all(0 <= group.balanced_accuracy <= 1 for group in result.columns[0].groups)
    sites = [source_row["site"] for source_row in csv.DictReader((data / "labels.csv").open())]
    shares = list(csv.DictReader((folder / "stress_images.csv").open()))
    assert len(shares) == stress.count == 30
    assert np.mean([float(row["right_under_corruption"]) for row in shares]) == pytest.approx(stress.mean().accuracy)
    own = [float(row["right_under_corruption"]) for row in shares if sites[24 + int(row["path"][4:6])] == "A"]
    assert site["A"]["accuracy under corruption"].value == pytest.approx(np.mean(own), abs=1e-5)
    (folder / "stress_images.csv").write_text("path\nx.png\n")
    with pytest.raises(UserError, match="unmask stress makes it anew"):
        unmask.audit(folder, **options)
    (folder / "stress.json").write_text("{}")  # of other weights
    assert unmask.audit(folder, **options).columns == alone.columns


@pytest.mark.parametrize(
    ("column", "words"),
    [("sight", "did you mean 'site'"), ("note", "no groups apart"), ("patient", "40 different values")],
)
def test_columns_that_make_no_groups_are_refused(column, words):
    rows = [{"site": "AB"[n % 2], "note": "same", "patient": f"p{n}"} for n in range(40)]
    with pytest.raises(UserError, match=words):
        choose_columns(rows, [column])
    assert choose_columns(rows, ["site", "site"]) == choose_columns(rows, []) == ["site"]


@pytest.mark.slow
def test_an_interrupted_test_goes_on_where_it_stopped(undrawn, folder, data, monkeypatch, capsys):
    from unmask.studies.robustness.bench import Bench

    whole = unmask.stress(folder, on=data, **QUICK).to_json()
    (folder / "stress_cells.json").unlink()
    original, computed = Bench.right, []

    def right(bench, name, severity):
        if len(computed) == 2 and stop:
            raise KeyboardInterrupt
        computed.append((name, severity))
        return original(bench, name, severity)

    monkeypatch.setattr(Bench, "right", right)
    stop = True
    with pytest.raises(Interrupted, match="2 of 4 results are kept") as caught:
        unmask.stress(folder, on=data, **QUICK)
    assert caught.value.exit_code == 130
    stop = False
    assert unmask.stress(folder, on=data, **QUICK).to_json() == whole
    assert computed == [("fog", 1), ("fog", 5), ("contrast", 1), ("contrast", 5)]
    computed.clear()
    unmask.stress(folder, on=data, **QUICK)
    assert computed == []
    capsys.readouterr()
    unmask.stress(folder, on=data, seed=1, **QUICK)  # other chance: nothing fits
    assert len(computed) == 4
    assert "computed anew" in capsys.readouterr().out
    (folder / "stress_cells.json").write_text("{")
    unmask.stress(folder, on=data, **QUICK)
    assert len(computed) == 8


def test_fewer_images_are_drawn_by_seed(undrawn, folder, data):
    first, second = (unmask.stress(folder, on=data, most=10, **QUICK) for _ in range(2))
    assert first.count == 10
    assert first.to_json() == second.to_json()


def test_grey_images_are_damaged_grey_and_all_of_unsplit_data_are_tested(folder, tmp_path):
    for name in ("blue", "red"):
        (tmp_path / "grey" / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray(photo(number, 40, 50, 1)).save(tmp_path / "grey" / name / f"{number}.png")
    result = unmask.stress(folder, on=tmp_path / "grey", out=tmp_path / "out", corruptions="gaussian_noise",
                           severities=3, device="cpu")  # fmt: skip
    assert result.count == 6
    examples = np.asarray(Image.open(tmp_path / "out" / "stress_examples.png").convert("RGB")).astype(int)
    inside = examples[examples.shape[0] // 2 :, examples.shape[1] // 4 : -examples.shape[1] // 4]
    assert np.abs(inside[..., 0] - inside[..., 2]).max() <= 2


def test_what_cannot_be_tested_is_one_clear_line(folder, data, tmp_path, photos):
    with pytest.raises(UserError, match="did you mean 'fog'"):
        unmask.stress(folder, on=data, corruptions="fogg", device="cpu")
    with pytest.raises(UserError, match="severities must be 1"):
        unmask.stress(folder, on=data, severities=6)
    with pytest.raises(UserError, match="say on which"):
        unmask.stress(folder)
    with pytest.raises(UserError, match="unmask transfer"):
        unmask.stress(tmp_path / "nothing", on=data, device="cpu")
    with pytest.raises(DataError, match=r"labels\.csv"):
        unmask.stress(folder, on=photos, device="cpu")
    (tmp_path / "other" / "reddish").mkdir(parents=True)
    (tmp_path / "other" / "green").mkdir()
    for name in ("reddish", "green"):
        Image.fromarray(photo(1)).save(tmp_path / "other" / name / "1.png")
    with pytest.raises(UserError, match="does not know: green, reddish"):
        unmask.stress(folder, on=tmp_path / "other", device="cpu")
    assert not (folder / "stress.json").exists()


def test_a_classifier_that_answers_one_class_for_everything_is_told_first(undrawn, folder, data, capsys):
    weights = load_file(folder / "classifier.safetensors")
    (head,) = [name for name, values in weights.items() if values.shape[:1] == (2,) and values.ndim == 2]
    weights[head].zero_()
    weights[head.replace("weight", "bias")].copy_(torch.tensor([0.0, 5.0]))  # red for all; blue comes first
    save_file(weights, folder / "classifier.safetensors")
    result = unmask.stress(folder, on=data, **QUICK)
    assert result.accuracy == 0.5
    words = "It answers red for every test image, so it tells no classes apart"
    assert result.sentence().startswith(words)
    assert json.loads((folder / "stress.json").read_text())["sentence"].startswith(words)
    said = " ".join(capsys.readouterr().out.split())
    assert words in said
    assert said.index(words) < said.index("Written:")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.2, "Accuracy falls: "), (-0.1, 0.2, "No clear drop in accuracy: "), (-0.2, -0.1, "Accuracy rises: ")],
)
def test_the_sentence_claims_no_more_than_the_interval_of_the_drop(low, high, words):
    cells = [Cell("fog", 3, 0.5, 0.4, 0.6, (low + high) / 2, low, high)]
    stress = Stress(100, ["a", "b"], False, accuracy=0.6, low=0.5, high=0.7, balanced_accuracy=0.6, cells=cells)
    assert stress.sentence().startswith(
        f"{words}60.0 % (50.0-70.0) on clean images, 50.0 % (40.0-60.0) on average over"
    )
