"""Sounds aligned with images from end to end: each finds the other above chance, unless pairs are shuffled; words that
the encoder of images knows are compared with sounds; label curves of samples of several kinds."""

import json

import numpy as np
import pytest
import soundfile
import torch
from scipy.stats import binom
from support.captioned import COLOURS, captioned, coloured
from support.methods import teacher_file
from support.sampling import write_samples
from support.small import SMALL
from support.tones import RATE, hues_with_tones, tone
from torch.nn.functional import normalize

import unmask
from unmask.errors import UserError
from unmask.runs.text import open_text

TINY = {"model": "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)", "precision": "32", "device": "cpu"}
TINY |= {"workers": 0, "warmup": 1, "lr": 2e-3, "matmul": "default"}
PARTS = "multimodal(rgb=image, sound=audio, size=32, patch=8)"
TEST = 24  # pairs
EACH = 8  # samples of a colour
PAIRED = TEST - 2  # of them have a tone
BY_CHANCE = 1e-4  # how likely it is that guessing finds as many as a test asks for


def trained(folder, shuffled=False):
    data = hues_with_tones(folder / "pairs", {"train": 64, "test": TEST}, shuffled, missing=16)
    method = f"align(of={str(teacher_file())!r})"
    return unmask.pretrain(data, out=folder / "run", method=method, modality=PARTS, steps=60, batch=32, **TINY), data


def test_pairs(data, out):
    """The test split by itself."""
    for part in ("rgb", "sound"):
        (out / part).mkdir(parents=True)
        for path in sorted((data / part / "test").iterdir()):
            (out / part / path.name).symlink_to(path)
    return out


test_pairs.__test__ = False


def more_than_chance(count, share):
    """How many of `count` guesses, each right with this probability, are as good as never right."""
    return int(binom.isf(BY_CHANCE, count, share)) + 1


def recall_at_5(run, pairs, out):
    found = unmask.search(run.path, pairs, recall=True, out=out, device="cpu")
    assert [(recall.query, recall.found) for recall in found.recalls] == [("rgb", "sound"), ("sound", "rgb")]
    assert {recall.count for recall in found.recalls} == {PAIRED}
    written = json.loads((out / "recall.json").read_text())["recall"]
    assert written[0]["recall"]["5"]["share"] == found.recalls[0].share(5)[0]
    return [recall.right[5] for recall in found.recalls]


@pytest.mark.slow
def test_an_image_finds_its_sound_and_a_sound_its_image(tmp_path):
    run, data = trained(tmp_path)
    pairs = test_pairs(data, tmp_path / "test")
    assert min(recall_at_5(run, pairs, tmp_path / "recall")) >= more_than_chance(PAIRED, 5 / PAIRED)
    image, sound = pairs / "rgb" / "005.png", pairs / "sound" / "005.wav"
    found = unmask.search(run.path, pairs, query=image, top=5, out=tmp_path / "sounds", device="cpu")
    assert "005.png" in [hit.path for hit in found.hits]
    assert {hit.same for hit in found.hits} == {""}  # its partner is no copy of it
    back = unmask.search(run.path, pairs, query=sound, among="rgb", top=5, out=tmp_path / "images", device="cpu")
    away = [abs(int(hit.path.removesuffix(".png")) - 5) for hit in back.hits]
    assert sum(away) / len(away) < 4  # of those nearest in hue 1.2, of any 8
    with pytest.raises(UserError, match=r"--among sond, did you mean 'sound'"):
        unmask.search(run.path, pairs, query=image, among="sond", out=tmp_path / "no")
    with pytest.raises(UserError, match="names all parts"):
        unmask.search(run.path, pairs, query=image, among=["rgb", "sound"], out=tmp_path / "no")


@pytest.mark.slow
def test_nothing_is_found_where_pairs_are_shuffled(tmp_path):
    run, data = trained(tmp_path, shuffled=True)
    right = recall_at_5(run, test_pairs(data, tmp_path / "test"), tmp_path / "recall")
    assert max(right) < more_than_chance(PAIRED, 5 / PAIRED)


def coloured_pairs(folder):
    """Squares of a colour with tones: red is low, green is high."""
    for height, colour in enumerate(COLOURS):
        for part in ("rgb", "sound"):
            (folder / part / colour).mkdir(parents=True)
        for number in range(EACH):
            coloured(colour, number).save(folder / "rgb" / colour / f"{number}.png")
            samples = tone(height / 2, np.random.default_rng([height, number]))
            soundfile.write(folder / "sound" / colour / f"{number}.wav", samples, RATE)
    return folder


def right_by_words(run, data, out):
    """How many of the first EACH samples of all colours together are of the colour that is asked for."""
    hits = unmask.search(run.path, data, query=list(COLOURS), top=EACH, out=out, device="cpu").hits
    assert len(hits) == EACH * len(COLOURS)
    return sum(hit.path.split("/")[0].startswith(hit.query) for hit in hits)


@pytest.mark.slow
def test_words_that_the_encoder_of_images_knows_find_sounds(tmp_path):
    photos, pairs = captioned(tmp_path / "photos", each=EACH), coloured_pairs(tmp_path / "pairs")
    quick = {key: value for key, value in SMALL.items() if key != "decoder"} | {"matmul": "default"}
    method = "siglip(text_width=32, text_depth=1, out=32)"
    images = unmask.pretrain(photos, out=tmp_path / "images", method=method, steps=200, lr=3e-3, crop=0.9, **quick)
    enough = more_than_chance(EACH * len(COLOURS), 1 / len(COLOURS))
    assert right_by_words(images, photos, tmp_path / "photos_found") >= enough  # else it has nothing to teach
    method = f"align(of={str(images.path)!r})"
    run = unmask.pretrain(pairs, out=tmp_path / "run", method=method, modality=PARTS, steps=40, batch=16, **TINY)
    assert right_by_words(run, pairs, tmp_path / "sounds_found") >= enough
    kept, theirs = open_text(run.path), open_text(images.path)
    torch.testing.assert_close(kept.of_texts(["blue"]), theirs.of_texts(["blue"]))
    features, objective = torch.randn(3, 48, generator=torch.manual_seed(0)), run.objective()
    with torch.no_grad():
        torch.testing.assert_close(kept.words.of_images(features), normalize(objective.head(features), dim=1))
    verdict = unmask.evaluate(run.path, on=pairs, evaluators=("knn",), labels_per_class=1, draws=1)
    assert verdict.scores
    content = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    assert 0 <= content["zero_shot"]["accuracy"] <= 1
    assert [judged["found"] for judged in content["recall"]] == ["sound", "rgb"]


@pytest.mark.slow
def test_runs_that_were_not_aligned_refuse_the_options_of_those_that_were(pretrained, photos, tmp_path):
    with pytest.raises(UserError, match="--among is for encoders that were aligned with images"):
        unmask.search(pretrained.path, photos, query=photos, among="sound", out=tmp_path / "out")
    with pytest.raises(UserError, match="--recall is for encoders that were aligned with images"):
        unmask.search(pretrained.path, photos, recall=True, out=tmp_path / "out")


@pytest.mark.slow
def test_label_curves_of_samples_of_several_kinds(tmp_path):
    data = write_samples(tmp_path / "data", "multimodal", each=8)
    text = "multimodal(rgb=image, depth=image, sound=audio, size=32, patch=8)"
    model = "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)"
    small = {"decoder": "per_part(dim=16, depth=1, heads=2)", "model": model}
    run = unmask.pretrain(data, out=tmp_path / "run", modality=text, steps=2, batch=8, **TINY | small)
    protocols = ["knn", "full"]
    options = {"labels_per_class": 2, "draws": 2, "jobs": 1, "epochs": 1, "device": "cpu"}
    curve = unmask.labels(run.path, on=data, protocols=protocols, **options)
    points = curve.to_json()["points"]
    assert {point["protocol"] for point in points} == set(protocols)
    assert all(0 <= point["accuracy"] <= 1 for point in points)
    assert (run.path / "labels.json").exists()
