"""`transfer --to detect`, from boxes to a detector: metrics, learning, resuming, predicting, refusing."""

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.boxmaking import draw, write_coco, write_yaml, write_yolo
from support.small import SMALL

import unmask
from unmask.data.annotations.objects import Target
from unmask.errors import DataError, Interrupted, UserError
from unmask.models.encoder import create_encoder
from unmask.tasks.detection.detections import Detections
from unmask.tasks.detection.detector import ImageDetector
from unmask.tasks.detection.metrics import box_scores
from unmask.tasks.detection.objective import Detect
from unmask.tasks.detection.plan import Shapes, fit_anchors
from unmask.tasks.detection.transfer import DetectTask
from unmask.training import checkpoint

FAST = {"to": "detect", "input_size": 64, "jitter": (1, 1), "flip": "off", "width": 32, "rois": 32, "batch": 5}
FAST |= {"device": "cpu", "precision": "32", "patience": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Five images, and a run that hardly learnt anything."""
    root = tmp_path_factory.mktemp("detect")
    scenes = draw(root / "data" / "images")
    for split in ("train", "val", "test"):
        write_coco(root / "data", split, scenes)
    small = SMALL | {"model": "vit_tiny_patch16_224(depth=1, embed_dim=64, num_heads=2)", "image_size": 64}
    unmask.pretrain(root / "data" / "images", out=root / "run", steps=2, **small)
    return root


def trained(place, epochs):
    options = FAST | {"epochs": epochs, "lr": 3e-3, "layer_decay": 1.0, "log_every": max(1, epochs // 2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DetectTask, "looks", 1)
        return unmask.transfer(place / "run", on=place / "data", out=place / f"{epochs} epochs", **options).path


@pytest.fixture(scope="module")
def learnt(place):
    """A detector that learnt the five images by heart."""
    return trained(place, 110)


def truth(*rows):
    boxes = torch.tensor([row[1:] for row in rows], dtype=torch.float32).view(-1, 4)
    labels = torch.tensor([row[0] for row in rows], dtype=torch.int64)
    return Target(boxes, labels, torch.zeros(len(rows), dtype=torch.bool), None)


def detected(*rows):
    """Rows of class, score and box."""
    boxes = np.array([row[2:] for row in rows], np.float32).reshape(-1, 4)
    labels, scores = np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.float32)
    return Detections("a", (100, 100), boxes, labels, scores, ["x", "y"])


def test_average_precision_of_cases_made_by_hand():
    two = truth((0, 0, 0, 40, 40), (0, 50, 50, 90, 90))
    perfect = detected((0, 0.9, 0, 0, 40, 40), (0, 0.8, 50, 50, 90, 90))
    found, curves = box_scores([perfect], [two], ["x", "y"])
    assert (found["map"], found["map50"], found["objects"], found["medium"]) == (1.0, 1.0, 2, 1.0)
    assert found["small"] is None
    assert [entry["name"] for entry in found["per_class"]] == ["x"]
    assert (curves["x"] == 1).all()
    shifted = detected((0, 0.9, 8, 0, 48, 40), (0, 0.8, 58, 50, 98, 90))  # overlap 32 / 48 = 0.67: good for 4 of 10
    found, _ = box_scores([shifted], [two], ["x", "y"])
    assert found["map"] == pytest.approx(0.4, abs=1e-6)
    assert (found["map50"], found["map75"]) == (1.0, 0.0)
    twice = detected((0, 0.9, 0, 0, 40, 40), (0, 0.85, 0, 0, 40, 40), (0, 0.8, 50, 50, 90, 90))
    found, _ = box_scores([twice], [two], ["x", "y"])  # precision 1 up to half of the recall, then 2 of 3
    assert found["map50"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-6)
    found, _ = box_scores([detected((1, 0.9, 0, 0, 40, 40))], [two], ["x", "y"])  # right box, wrong class
    assert found["map"] == 0
    found, _ = box_scores([detected()], [truth()], ["x", "y"])
    assert found["map"] is None
    crowd = two._replace(crowd=torch.tensor([False, True]))
    found, _ = box_scores([twice], [crowd], ["x", "y"])  # what lies in a crowd is neither right nor wrong
    assert found["objects"] == 1
    masked = truth((0, 0, 0, 40, 40))._replace(masks=torch.ones(1, 40, 40, dtype=torch.uint8))
    shapes = np.ones((1, 28, 28), np.float32)
    one = Detections("a", (40, 40), *(v[:1] for v in (perfect.boxes, perfect.labels, perfect.scores)), ["x"], shapes)
    found, _ = box_scores([one], [masked], ["x"], masks=True)
    assert (found["map"], found["mask_map"], found["per_class"][0]["mask_ap50"]) == (1.0, 1.0, 1.0)


def test_anchors_fit_the_boxes_at_the_size_that_is_seen():
    images = np.array([[480.0, 640], [640, 480]])
    shapes = Shapes(images, np.array([[40.0, 40], [200, 200], [40, 40]]), np.array([0, 0, 1]))
    np.testing.assert_allclose(shapes.scaled((256, 320))[:, 0], [20, 100, 20])  # the window turns with the image
    anchors, ratios, why = fit_anchors(shapes.scaled((256, 320)), [4, 8, 16, 32])
    assert (anchors, ratios) == ([16, 32, 64, 128, 256], [0.5, 1, 2])
    assert "20 to 92 px" in why
    anchors, ratios, _ = fit_anchors(np.array([[8.0, 80], [9, 90], [700, 700]]), [4, 8, 16, 32])
    assert ratios == [0.25, 0.5, 1, 2, 4]
    assert anchors[0] == 32
    assert anchors[-1] == pytest.approx(632, abs=5)  # farther apart than twice, to reach the large ones


@pytest.mark.slow
def test_five_images_are_learnt_by_heart(learnt):
    assert json.loads((learnt / "metrics.json").read_text())["test"]["map"] > 0.9


@pytest.mark.slow
def test_a_few_steps_bring_the_loss_down_and_all_files_are_written(place):
    folder = trained(place, 8)
    result = json.loads((folder / "metrics.json").read_text())
    assert result["val"]["map"] == result["test"]["map"]
    assert {entry["name"]: entry["count"] for entry in result["test"]["per_class"]} == {"disc": 5, "box": 5}
    page = (folder / "report.html").read_text()
    for words in ("annotated boxes beside those found", "precision by recall", "On the test split", "disc"):
        assert words in page
    assert page.count("data:image/png") == 3
    assert json.loads((folder / "data_sheet.json").read_text())["boxes"]["train"] == {"disc": 5, "box": 5}
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert any({"objectness", "proposal_boxes", "classes", "boxes"} <= record.keys() for record in records)
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses[-1] < losses[0]
    found = json.loads((folder / "results.json").read_text())  # with the ids of instances_test2017.json
    assert {entry["category_id"] for entry in found} <= {3, 7}
    assert {entry["image_id"] for entry in found} == {11, 12, 13, 14, 15}


@pytest.mark.slow
def test_predictions_are_in_the_pixels_of_images_of_any_size(place, learnt):
    detector = unmask.load(learnt)
    names = [place / "data" / "images" / f"{i}.png" for i in range(5)]
    small = detector.predict(names, batch=2)
    assert [found.name.split("/")[-1] for found in small] == [f"{i}.png" for i in range(5)]
    image = np.asarray(Image.open(names[0])).transpose(2, 0, 1)
    large = np.zeros((3, 192 + 5, 192), np.uint8) + image[:, :1, :1]
    large[:, :192] = image.repeat(3, 1).repeat(3, 2)
    shrunk = detector.view(torch.from_numpy(large)).image  # what the detector sees of it, so that it finds the same
    first, second, third = detector.predict([large, image, shrunk])
    assert (first.size, second.size, third.size) == ((197, 192), (64, 64), (64, 64))
    assert sorted(first.names) == sorted(second.names) == ["box", "disc"]
    assert first.names == third.names
    np.testing.assert_allclose(first.boxes, third.boxes * [192 / 62, 197 / 64, 192 / 62, 197 / 64], atol=0.05)
    table = json.loads((place / "data" / "annotations" / "instances_val2017.json").read_text())
    true = {e["category_id"]: e["bbox"] for e in table["annotations"] if e["image_id"] == 11}
    for name, box in zip(second.names, second.boxes):
        x, y, width, height = true[{"box": 7, "disc": 3}[name]]
        np.testing.assert_allclose(box, [x, y, x + width, y + height], atol=4)
    assert unmask.load(learnt).predict(np.stack([image] * 2))[1].scores.shape == second.scores.shape
    with pytest.raises(UserError, match="3 x h x w"):
        detector.predict([image[:2]])


@pytest.mark.slow
def test_predict_writes_what_coco_tools_read_and_names_bad_images(place, learnt, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    Image.new("RGB", (31, 77), (80, 80, 80)).save(tmp_path / "other.png")
    images = [place / "data" / "images", tmp_path / "broken.png", tmp_path / "other.png"]
    found = unmask.predict(learnt, images, out=tmp_path / "out", device="cpu", batch=4)
    assert len(found) == 6
    assert "left out: broken.png" in capsys.readouterr().out
    assert len(list((tmp_path / "out" / "drawn").glob("*.png"))) == 6
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO(tmp_path / "out" / "predictions.json")
        results = ours.loadRes(str(tmp_path / "out" / "results.json"))
        judged = COCOeval(ours, results, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    assert judged.stats[0] > 0.9  # what was listed is found among the results
    assert {c["id"]: c["name"] for c in ours.dataset["categories"]} == {3: "disc", 7: "box"}
    assert {(i["width"], i["height"]) for i in ours.dataset["images"]} == {(64, 64), (31, 77)}
    with pytest.raises(UserError, match="give a folder"):
        unmask.predict(learnt, images, out=tmp_path / "a.csv", device="cpu")
    with pytest.raises(DataError, match="no image could be read"):
        unmask.predict(learnt, [tmp_path / "broken.png"], out=tmp_path / "none", device="cpu")
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_an_interrupted_training_continues_to_the_same_weights(place, monkeypatch):
    options = FAST | {"epochs": 4, "batch": 4, "accumulate": 2, "jitter": (0.5, 1.5), "flip": "on", "rois": 8}
    options |= {"on": place / "data", "log_every": 1, "drop_path": 0.1}
    whole = unmask.transfer(place / "run", out=place / "whole", **options)
    saves = []

    def stopping(*args, **kwargs):
        saves.append(1)
        if len(saves) == 3:
            raise Interrupted("stopped", 2)
        return score(*args, **kwargs)

    score = DetectTask.score
    monkeypatch.setattr(DetectTask, "score", stopping)
    monkeypatch.setattr("unmask.training.keeping.Keeping.due", lambda self, step, steps: True)
    with pytest.raises(Interrupted):
        unmask.transfer(place / "run", out=place / "again", **options)
    newest = checkpoint.read_newest(place / "again")
    assert newest is not None
    assert newest[1]["step"] == 2
    again = unmask.transfer(place / "run", out=place / "again", **options)
    one, two = whole.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert whole.metrics["test"] == again.metrics["test"]


def test_every_parameter_that_is_trained_gets_a_gradient():
    torch.manual_seed(0)
    encoder = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(64, 64), patch_size=16)
    detector = ImageDetector(
        encoder, ["x", "y"], size=(64, 64), anchors=[16, 32, 64, 128, 256], width=16, rois=16, masks=True
    )
    task = Detect(detector).train()
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, 8:40, 8:40] = masks[1, 30:60, 20:60] = 1
    full = {"boxes": torch.tensor([[8.0, 8, 40, 40], [20, 30, 60, 60]]), "labels": torch.tensor([0, 1]), "masks": masks}
    empty = {name: value[:0] for name, value in full.items()}
    batch = {"views": [torch.randint(0, 255, (2, 3, 64, 64))], "targets": [full, empty]}
    found = task(batch)
    assert found["loss"].item() == pytest.approx(sum(v.item() for k, v in found.items() if k != "loss"), rel=1e-5)
    found["loss"].backward()
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    assert not [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum() > 0]
    with torch.autocast("cpu", torch.bfloat16):
        assert all(value.dtype == torch.float32 for value in task(batch).values())
    frozen = Detect(detector, "linear")
    assert not any(p.requires_grad for p in frozen.encoder.parameters())
    scales = {frozen.treatment(name, p)[0] for name, p in Detect(detector, layer_decay=0.5).named_parameters()}
    assert scales == {1.0}
    assert {Detect(detector, layer_decay=0.5).treatment(n, p)[0] for n, p in task.named_parameters()} == {
        0.25,
        0.5,
        1.0,
    }


def test_features_are_standardised_before_the_pyramid():
    encoder = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(64, 64), patch_size=16)
    sizes = {"size": (64, 64), "anchors": [16, 32, 64, 128, 256], "width": 16}
    backbone: Any = ImageDetector(encoder, ["x"], **sizes, standardize=True).train().rcnn.backbone
    seen = []
    backbone.pyramid.register_forward_pre_hook(lambda _, args: seen.extend(args[0]))
    backbone(torch.randint(0, 255, (4, 3, 64, 64)))
    assert seen[0].mean(dim=(0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(seen[0].var(dim=(0, 2, 3), unbiased=False), torch.ones(192), atol=0.01, rtol=0)


def test_patches_of_any_size_get_whole_strides(place):
    encoder = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(56, 56), patch_size=14)
    shape = {"anchors": [16, 32, 64, 128, 256], "width": 16, "rois": 8, "pyramid": "simple(scales=(2, 1, 0.5, 0.25))"}
    detector = ImageDetector(encoder, ["x"], size=(112, 224), **shape).eval()
    found = detector.predict([np.zeros((3, 50, 90), np.uint8)], threshold=0)
    assert (found[0].boxes <= [90, 50, 90, 50]).all()
    with pytest.raises(UserError, match="four whole strides"):
        ImageDetector(encoder, ["x"], size=(112, 224), **shape | {"pyramid": "simple"})


def test_what_cannot_work_is_refused_before_anything_is_written(place, tmp_path):
    def refused(match, **options):
        with pytest.raises(UserError, match=match):
            unmask.transfer(place / "run", out=tmp_path / "out", **FAST | {"on": place / "data"} | options)
        assert not (tmp_path / "out").exists()

    refused("to detect there are full and linear", protocol="partial")
    refused(r"multiples of 64 here, got 60 64; e.g. --input-size 64 64", input_size=(60, 64))
    refused("--mixup is for --to classify", mixup=0.8)
    refused("nowhere does not exist", images=tmp_path / "nowhere")
    refused("needs 0 < smallest <= largest", jitter=(2, 1))
    refused("takes 5 sides", anchors=(8, 16))
    with pytest.raises(UserError, match="--input-size is for --to detect"):
        unmask.transfer(place / "run", to="classify", on=place / "data", input_size=64)


@pytest.mark.slow
def test_masks_are_learnt_from_polygons(place, tmp_path):
    for split in ("train", "val"):
        scenes = draw(tmp_path / "data" / "images" / split, 4)
        write_yolo(tmp_path / "data", split, scenes, masks=True)
    write_yaml(tmp_path / "data", train="images/train", val="images/val", names="[box, disc]")
    options = FAST | {"epochs": 1, "batch": 4, "rois": 8, "protocol": "linear", "log_every": 1}
    done = unmask.transfer(place / "run", on=tmp_path / "data", out=tmp_path / "out", init="none", **options)
    assert "mask_map" in done.metrics["test"]
    assert done.model.rcnn.backbone.scales[0].num_batches_tracked > 0
    found = done.model.predict([np.zeros((3, 33, 47), np.uint8)], threshold=0.0)[0]
    assert found.masks.shape == (len(found), 33, 47)
    shown = unmask.predict(tmp_path / "out", tmp_path / "data" / "images" / "val", out=tmp_path / "p", threshold=0.02)
    entries = json.loads((tmp_path / "p" / "predictions.json").read_text())["annotations"]
    assert len(entries) == sum(len(one) for one in shown) > 0
    assert all(entry["segmentation"]["size"] == [64, 64] for entry in entries)
