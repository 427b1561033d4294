"""`anomaly fit` and `anomaly apply` from end to end on a small run: files, figures, what is refused and why."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.photos import photo
from support.small import SMALL

import unmask
from unmask.errors import DataError, UserError
from unmask.tasks.anomaly.results import Accuracy

QUICK = {"false_alarms": 0.2, "sets": 1, "memory": 100, "device": "cpu"}


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Normal images; test images, some with a square, its mask under another name; a broken file."""
    root = tmp_path_factory.mktemp("anomaly")
    for seed in range(24):
        save(photo(seed), root / "normal" / f"{seed:02d}.png")
    for seed in range(6):
        save(photo(100 + seed), root / "test" / "good" / f"{seed}.png")
        image, mask = photo(200 + seed), np.zeros((48, 64), np.uint8)
        image[20:30, 24:34], mask[20:30, 24:34] = (255, 0, 255), 255
        save(image, root / "test" / "square" / f"{seed}.png")
        save(mask, root / "masks" / "square" / f"{seed}_mask.png")
    (root / "test" / "good" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    unmask.pretrain(root / "normal", out=root / "run", steps=3, **SMALL)
    unmask.anomaly("fit", root / "run", root / "normal", out=root / "fitted", **QUICK)
    return root


@pytest.fixture
def undrawn(monkeypatch):
    """Images and pages take longer than all the rest, and one test looks at them."""
    monkeypatch.setattr("unmask.tasks.anomaly.apply.draw_heatmap", lambda *given: None)
    monkeypatch.setattr("unmask.cli.commands.anomaly.write_page", lambda *given: None)


def rows(folder):
    with open(folder / "scores.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_apply_writes_scores_maps_figures_images_and_a_page(root, tmp_path, capsys):
    options = {"on": root / "test", "masks": root / "masks", "save_maps": "npy", "heatmaps": 3, "device": "cpu"}
    found = unmask.anomaly("apply", root / "fitted", out=tmp_path / "out", **options)
    said = capsys.readouterr().out
    assert "left out: good/broken.png" in said
    table = rows(tmp_path / "out")
    assert len(table) == len(found) == 12
    assert [row["label"] for row in table] == ["normal"] * 6 + ["anomalous"] * 6
    for place, row in enumerate(table):
        assert float(row["both"]) == pytest.approx(found.scores["both"][place], rel=1e-5)
        above = float(row["both"]) > float(row["threshold"])
        assert row["verdict"] == ("anomalous" if above else "normal")
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    for method in ("rebuild", "features", "both"):
        figures = content["figures"][method]
        assert 0 <= figures["images"]["low"] <= figures["images"]["auroc"] <= figures["images"]["high"] <= 1
        assert 0 <= figures["pixels"]["auroc"] <= 1
        assert figures["false_alarms"]["count"] == figures["found"]["count"] == 6
    assert content["lines"][1] in said.replace("\n", " ")
    assert len(list((tmp_path / "out" / "heatmaps").rglob("*.png"))) == 3
    image = Image.open(next((tmp_path / "out" / "heatmaps").rglob("*.png")))
    assert image.width > 2 * image.height * 0.9  # the image, and the map beside it
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The most anomalous" in page
    assert "AUROC of pixels" in page
    assert "http" not in page.split("</style>")[1]
    # in Python the same comes out
    finder = unmask.load(root / "fitted")
    again = finder.predict(root / "test" / "square")
    for method, scores in again.scores.items():
        np.testing.assert_allclose(scores, found.scores[method][6:], atol=1e-4)
    np.testing.assert_array_equal(again.anomalous, found.anomalous[6:])
    saved = np.load(tmp_path / "out" / "maps" / "square" / "3.npy")
    np.testing.assert_allclose(again.maps[3], saved, atol=1e-4)
    assert saved.shape == (32, 32)
    assert saved.max() == pytest.approx(found.scores["both"][9], abs=1e-4)


def test_apply_without_labels_gives_verdicts_only(undrawn, root, tmp_path, capsys):
    out = tmp_path / "out"
    options = {"method": "features", "save_maps": "tif", "device": "cpu"}
    found = unmask.anomaly("apply", root / "fitted", root / "test" / "good", out=out, **options)
    assert set(rows(out)[0]) == {
        "path",
        "rebuild",
        "features",
        "both",
        "method",
        "threshold",
        "verdict",
        "pixels_above",
    }
    assert found.method == rows(out)[0]["method"] == "features"
    assert found.figures["features"] == Accuracy()
    assert tifffile.imread(out / "maps" / "0.tif").max() == pytest.approx(found.scores["features"][0], abs=1e-4)
    (out / "heatmaps").mkdir(exist_ok=True)
    stale = out / "heatmaps" / "of-yesterday.png"
    save(photo(1), stale)
    unmask.anomaly("apply", root / "fitted", root / "test" / "good", out=out, device="cpu")
    assert not stale.exists()
    assert not (out / "maps" / "0.tif").exists()
    assert "earlier call" in capsys.readouterr().out


def test_labels_come_from_a_table_or_from_masks_alone(undrawn, root, tmp_path):
    shutil.copytree(root / "test" / "square", tmp_path / "flat")
    lines = [f"{i}.png,{'scratched' if i % 2 else 'fine'}" for i in range(6)]
    (tmp_path / "flat" / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    options = {"on": tmp_path / "flat", "out": tmp_path / "out", "device": "cpu"}
    with pytest.raises(DataError, match="does not say which images are normal: its classes are fine, scratched"):
        unmask.anomaly("apply", root / "fitted", **options)
    with pytest.raises(UserError, match="did you mean 'fine'"):
        unmask.anomaly("apply", root / "fitted", normal="fin", **options)
    assert not (tmp_path / "out").exists()
    found = unmask.anomaly("apply", root / "fitted", normal="fine", **options)
    assert found.labels.tolist() == [0, 1] * 3
    masks = tmp_path / "masks"
    for i in (1, 4):
        save((np.arange(64) > 40)[None].repeat(48, 0).astype(np.uint8), masks / f"{i}.png")  # zeros and ones
    save(np.zeros((20, 64), np.uint8), masks / "2.png")  # another shape
    (tmp_path / "flat" / "labels.csv").unlink()
    found = unmask.anomaly("apply", root / "fitted", masks=masks, **options)
    assert found.labels[[0, 1, 3, 4, 5]].tolist() == [0, 1, 0, 1, 0]
    assert found.labels[2] == -1
    assert found.figures["both"].pixels is not None


def test_the_same_fit_again_has_nothing_to_do_and_another_is_refused(root, capsys):
    before = (root / "fitted" / "finder.safetensors").stat().st_mtime_ns
    finder = unmask.anomaly("fit", root / "run", root / "normal", out=root / "fitted", **QUICK)
    assert "nothing to do" in capsys.readouterr().out
    saved = json.loads((root / "fitted" / "config.json").read_text())["calibrations"]
    assert json.loads(json.dumps(finder.to_config()["calibrations"])) == saved
    with pytest.raises(UserError, match="fitted otherwise"):
        unmask.anomaly("fit", root / "run", root / "normal", out=root / "fitted", **QUICK | {"sets": 2})
    assert (root / "fitted" / "finder.safetensors").stat().st_mtime_ns == before


def test_held_out_images_are_others_and_copies_are_left_out(root, tmp_path, capsys):
    shutil.copytree(root / "normal", tmp_path / "normal")
    for seed in range(5):
        shutil.copy(tmp_path / "normal" / "00.png", tmp_path / "normal" / f"copy{seed}.png")
    options = QUICK | {"method": "features"}
    unmask.anomaly("fit", root / "run", tmp_path / "normal", out=tmp_path / "one", **options)
    said = capsys.readouterr().out
    assert "5 exact copies" in said
    counts = json.loads((tmp_path / "one" / "config.json").read_text())["counts"]
    assert counts == {"fit": 17, "held out": 7}
    unmask.anomaly("fit", root / "run", root / "normal", out=tmp_path / "two", **options,
                   calibrate_on=root / "test" / "good")  # fmt: skip
    assert "left out: broken.png" in capsys.readouterr().out
    assert json.loads((tmp_path / "two" / "config.json").read_text())["counts"] == {"fit": 24, "held out": 6}
    with pytest.raises(DataError, match=r"0 held-out normal images cannot promise 0\.2"):
        unmask.anomaly("fit", root / "run", root / "normal", out=tmp_path / "three", **options,
                       calibrate_on=tmp_path / "normal")  # fmt: skip
    assert not (tmp_path / "three").exists()
    unmask.anomaly("fit", root / "run", root / "normal", out=tmp_path / "four", **options)
    assert "pretraining saw" in capsys.readouterr().out


def test_an_encoder_alone_gives_features_but_cannot_rebuild(root, tmp_path):
    run = shutil.copytree(root / "run", tmp_path / "run")
    encoder = run / "encoder.safetensors"
    with pytest.raises(UserError, match="no run folder, so there is no decoder to rebuild with; use --method features"):
        unmask.anomaly("fit", encoder, root / "normal", out=tmp_path / "out", **QUICK)
    for path in run.rglob("*.ckpt"):
        path.unlink()
    with pytest.raises(UserError, match="no decoder to rebuild with"):
        unmask.anomaly("fit", run, root / "normal", out=tmp_path / "out", **QUICK)
    unmask.anomaly("fit", run, root / "normal", out=tmp_path / "out", method="features", **QUICK)
    finder = unmask.load(tmp_path / "out")
    assert set(finder.predict(root / "test" / "square").scores) == {"features"}
    with pytest.raises(UserError, match="no method 'rebuild' was fitted"):
        unmask.anomaly("apply", tmp_path / "out", root / "test" / "square", method="rebuild", out=tmp_path / "res")


def test_what_cannot_work_is_one_clear_line_and_nothing_is_written(root, tmp_path):
    run, normal, out = root / "run", root / "normal", tmp_path / "out"
    for given, options, words in [
        (("aply", run, normal), {}, "no action 'aply', did you mean 'apply'"),
        ((), {}, "say what to do"),
        (("fit", run), {}, "name at least one image: unmask anomaly fit RUN NORMALS"),
        (("fit", run, normal), {"masks": "m"}, "--masks belongs to unmask anomaly apply"),
        (("apply", run, normal), {"sets": 2}, "--sets belongs to unmask anomaly fit"),
        (("fit", run, normal), {"method": "feature"}, "did you mean 'features'"),
        (("fit", run, normal), {"false_alarms": 0}, "false-alarms must be between 0 and 1"),
        (("fit", run, normal), {"layers": 7}, "--layers 7: the encoder has 1, from 0 to 0"),
        (("fit", run, normal), {"normal": "ok"}, "--normal ok: no such class"),
        (("fit", run, normal), {}, r"7 held-out normal images cannot promise 0\.05|12 held-out"),
        (("fit", tmp_path / "nothing", normal), {}, "no such folder"),
        (("apply", run, normal), {}, "has no finder.safetensors"),
        (("apply", root / "fitted", tmp_path / "nothing"), {}, "does not exist"),
        (("apply", root / "fitted", normal), {"masks": normal.parent / "masks"}, "no mask"),
    ]:
        with pytest.raises(UserError, match=words):
            unmask.anomaly(*given, out=out, device="cpu", **options)
    assert not out.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for given in (("fit", run, normal), ("apply", root / "fitted", normal)):
        with pytest.raises(UserError, match="holds something else"):
            unmask.anomaly(*given, out=tmp_path / "full", device="cpu")


def test_the_command_line_explains_both_actions(root, tmp_path, capsys, undrawn):
    from unmask.cli.main import run

    with pytest.raises(SystemExit):
        run(["anomaly", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "unmask anomaly fit RUN NORMALS" in said
    assert "unmask anomaly apply FOLDER IMAGES" in said
    out = str(tmp_path / "out")
    assert run(["anomaly", "apply", str(root / "fitted"), str(root / "test" / "square" / "1.png"), "--out", out]) == 0
    assert len(rows(tmp_path / "out")) == 1
