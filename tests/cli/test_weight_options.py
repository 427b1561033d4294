"""How weights are read, said on the command line: mean and std, averages, students, sizes; and no hub without need."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from support.photos import photo

import unmask
from unmask.errors import UserError
from unmask.tasks.open import load_architecture
from unmask.weights.reading import Reading


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(16):
        place = folder / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(photo(number)).save(place)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    options = {"depth": 1, "img_size": 32, "patch_size": 8, "num_classes": 0}
    nets = [timm.create_model("vit_tiny_patch16_224", **options).state_dict() for _ in range(2)]
    path = tmp_path_factory.mktemp("weights") / "renamed.pth"
    torch.save({"state_dict": nets[0], "state_dict_ema": nets[1]}, path)
    return path


MODEL = "vit_tiny_patch16_224(depth=1)"


def test_load_and_embed_take_mean_std_and_the_average(images, weights, tmp_path, capsys):
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.2, 0.2, 0.4)}
    encoder = unmask.load(weights, model=MODEL, ema=True, **given)
    assert encoder.mean.tolist() == pytest.approx([25.5, 51.0, 76.5])
    expected = torch.load(weights, weights_only=True)["state_dict_ema"]["patch_embed.proj.weight"]
    assert torch.equal(encoder.net.patch_embed.proj.weight, expected)
    features = []
    for number, options in enumerate(({}, given, {"ema": True}, {"weights_size": (32, 32)})):
        out = tmp_path / f"{number}.npz"
        unmask.embed(weights, images, out=out, device="cpu", **options)
        features.append(np.load(out)["features"])
    assert not np.allclose(features[0], features[1])
    assert not np.allclose(features[0], features[2])
    assert np.allclose(features[0], features[3])
    assert "Warning: neither the file nor its name says" in capsys.readouterr().err
    with pytest.raises(UserError, match="no student"):
        unmask.embed(weights, images, out=tmp_path / "x.npz", device="cpu", student=True)


@pytest.mark.slow
def test_pretrain_starts_from_the_average_and_keeps_the_mean(images, weights, tmp_path):
    small = {"steps": 1, "batch": 8, "device": "cpu", "decoder": "full(dim=32, depth=1)", "model": MODEL}
    given = {"mean": (0.4, 0.4, 0.4), "std": (0.3, 0.3, 0.3), "ema": True}
    run = unmask.pretrain(images, out=tmp_path / "run", init=weights, decoder_warmup=0, **given, **small)
    assert run.config.model.ema
    assert run.config.data.mean == pytest.approx((102.0,) * 3)
    average = torch.load(weights, weights_only=True)["state_dict_ema"]["patch_embed.proj.weight"]
    assert (run.encoder().net.patch_embed.proj.weight - average).abs().max() < 2e-3  # after one step at a rate of 1e-3
    with pytest.raises(UserError, match="--ema belongs to --init"):
        unmask.pretrain(images, out=tmp_path / "other", ema=True, **small)


def test_from_scratch_a_timm_name_fetches_nothing(images, tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("unmask.weights.open.pretrained", refuse)
    plan = {"epochs": 1, "device": "cpu", "dry_run": True, "batch": 4}
    name = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"
    assert unmask.transfer(name, on=images, init="none", out=tmp_path / "out", **plan) is None


class Opened(Exception):
    """Raised in place of opening weights: how they are to be read."""


COMMANDS = {
    "embed": {},
    "map": {},
    "search": {"query": "query"},
    "evaluate": {"on": "images"},
    "labels": {"on": "images"},
    "labels to segment": {"on": "images", "to": "segment"},
    "show features": {"what": "features"},
    "show attention": {"what": "attention"},
    "doctor": {},
    "anomaly": {"method": "features"},
    "transfer": {"on": "images", "to": "classify"},
    "transfer from scratch": {"on": "images", "to": "classify", "init": "none"},
    "transfer init": {"on": "images", "to": "segment", "init": "weights"},
    "pretrain": {"init": "weights"},
}


@pytest.mark.parametrize("given", [{"ema": True}, {"student": True}], ids=["ema", "student"])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_opens_weights_reads_them_as_it_is_told(name, given, images, weights, tmp_path, monkeypatch):
    def noted(*_, reading, **__):
        raise Opened(reading)

    for module in ("tasks.open", "planning.initial_weights", "evaluation.doctor.subject"):
        monkeypatch.setattr(f"unmask.{module}.open_weights", noted)
    places = {"images": images, "weights": weights, "query": images / "a" / "0.png"}
    options = {key: places.get(value, value) for key, value in COMMANDS[name].items()}
    command, given = name.split()[0], {**given, "mean": (1, 2, 3), "std": (4, 5, 6), "weights_size": (32, 48)}
    if command == "transfer":  # whose own --ema is of its training
        given = {"weights_ema" if key == "ema" else key: value for key, value in given.items()}
    places = {"anomaly": ("fit", weights, images), "doctor": (weights,), "pretrain": (images,)}
    places |= {"embed": (weights, images), "map": (weights, images), "search": (weights, images)}
    places |= {"show": (weights, images / "a" / "0.png")}
    out = {} if command == "doctor" else {"out": tmp_path / ("out.npz" if command == "embed" else "out")}
    if command in ("map", "show"):
        out = {"out": tmp_path / ("out.html" if command == "map" else "out.png")}
    with pytest.raises(Opened) as caught:
        getattr(unmask, command)(*places.get(command, (weights,)), **options, **given, **out)
    copies = {"ema": bool(given.get("ema") or given.get("weights_ema")), "student": bool(given.get("student"))}
    assert caught.value.args == (Reading(mean=(1, 2, 3), std=(4, 5, 6), size=(32, 48), **copies),)


@pytest.mark.parametrize(
    ("command", "given", "words"),
    [
        ("show", {"mean": (1, 2, 3), "std": (4, 5, 6)}, "--mean, --std: of --what features and --what attention"),
        ("doctor", {"ema": True}, "is a run, whose own mean, std and weights are looked at"),
        ("anomaly", {"student": True, "method": "rebuild"}, "--student: a run's decoder rebuilds what"),
    ],
)
def test_where_a_run_is_looked_at_as_a_whole_options_of_weights_are_refused(command, given, words, run, images):
    places = {"show": (run.path, images / "a" / "0.png"), "doctor": (run.path,), "anomaly": ("fit", run.path, images)}
    with pytest.raises(UserError, match=words):
        getattr(unmask, command)(*places[command], **given)


def test_of_a_timm_name_mean_and_std_are_taken_from_scratch_and_a_choice_among_networks_is_refused():
    name, given = "vit_tiny_patch16_224(depth=1)", {"mean": (0.1, 0.2, 0.3), "std": (0.2, 0.2, 0.4)}
    assert load_architecture(name, **given).mean.tolist() == pytest.approx([25.5, 51.0, 76.5])
    for opening in (load_architecture, unmask.load):
        for option in ({"ema": True}, {"student": True}, {"weights_size": 32}):
            with pytest.raises(UserError, match="is a name of timm's, not a file with several networks"):
                opening(name, **option)
