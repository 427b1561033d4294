"""Advice: the table of rules, what pixels show, and the commands that it ends with."""

import random
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.advice import FACTS
from support.photos import photo
from support.small import sheet_of

from unmask.choice import Choice
from unmask.cli.main import parse
from unmask.errors import DataError
from unmask.studies.advice.answer import AtHand, weights_at_hand
from unmask.studies.advice.appearance import KINDS, guess_kind, lost_detail, measure_appearance
from unmask.studies.advice.commands import Places, make_commands, pretraining_options
from unmask.studies.advice.facts import UNKNOWN, Facts, count_labels, find_annotations
from unmask.studies.advice.look import FIRST, MOST, look_at_sample
from unmask.studies.advice.table import REMARK, STRENGTHS, decide, read_rules

VALUES = {
    "images": [1, 30, 500, 3000, 20_000, 200_000, 2_000_000], "unseen": [0, 5], "bad_share": [0, 0.2],
    "channels": [1, 3, 10], "side": [28, 224], "size_ratio": [1.0, 8.0], "kind": list(KINDS), "guessed": [True, False],
    "near_share": [0, 0.1], "framed_alike": [0.1, 0.6], "grey_as_colour": [0, 1.0], "leaked": [0, 4],
    "classes": [0, 10, 100], "labels_per_class": [0, 5, 60, 600], "annotated": ["none", "none", "boxes", "masks"],
    "device": ["cpu", "cuda"], "memory": [8.0, 40.0], "patches": [UNKNOWN, 49, 196], "lost": [UNKNOWN, 0.0, 0.4],
    "epochs": [UNKNOWN, 3.0, 400.0],
}  # fmt: skip


def many_facts(count=4000):
    draw = random.Random(0)
    for _ in range(count):
        yield replace(FACTS, **{name: draw.choice(values) for name, values in VALUES.items()})


def test_every_rule_has_a_source_and_decides_for_some_images():
    rules, unused = read_rules(), {f"{rule.topic}.{rule.name}" for rule in read_rules()}
    assert all(rule.say and rule.ground and rule.source and rule.strength in STRENGTHS for rule in rules)
    assert len({(rule.topic, rule.name) for rule in rules}) == len(rules)
    draws = many_facts()
    while unused and (facts := next(draws, None)):
        unused -= {statement.rule for statement in decide(facts)[1]}
    assert unused == set()


def test_the_first_rule_of_a_topic_that_holds_decides_and_every_remark_is_said():
    rules = read_rules()
    for facts in many_facts(300):
        decided, statements = decide(facts)
        said = [statement.rule for statement in statements]
        for topic in ("start", "method", "mask", "length", "judge"):  # which weights: only where some are used
            (statement,) = (
                [s for s in statements if s.topic == topic]
                if topic != "mask"
                else [s for s in statements if s.topic == topic] or [None]
            )
            if statement is None:
                assert decided.method != "mae"
                continue
            first = next(rule for rule in rules if rule.topic == topic and rule.holds(decided))
            assert statement.rule == f"{topic}.{first.name}"
        remarks = [f"remark.{rule.name}" for rule in rules if rule.topic == REMARK and rule.holds(decided)]
        assert said[len(said) - len(remarks) :] == remarks
        assert (decided.weights != "unknown") == (decided.start in ("published", "continue"))


def test_nothing_holds_of_what_is_not_known():
    unknown = replace(FACTS, kind="unknown", patches=UNKNOWN, lost=UNKNOWN)
    conditions = [condition for rule in read_rules() for condition in rule.conditions]
    assert not any(c.holds(unknown) for c in conditions if c.fact in ("patches", "lost"))
    assert {c.values for c in conditions if c.fact == "kind" and c.holds(unknown)} == {("unknown",)}


@pytest.mark.parametrize("what", ["if = sides < 3", "strength = sure", "if = images < few", "colour = red"])
def test_a_mistake_in_the_table_is_named(what, tmp_path):
    key = what.split(" = ")[0]
    lines = {"if": "images < 3", "choose": "mae", "say": "a", "ground": "b", "source": "c", "strength": "thin"}
    lines[key] = what.split(" = ", 1)[1]
    path = tmp_path / "rules.ini"
    path.write_text("[method.odd]\n" + "\n".join(f"{name} = {value}" for name, value in lines.items()))
    with pytest.raises(ValueError, match=r"rule \[method.odd\]|few"):
        read_rules(path)


@pytest.mark.parametrize(
    ("changes", "decisions"),
    [
        ({}, {"start": "published", "weights": "vit_small_patch16_224.dino", "judge": "linear"}),
        ({"device": "cuda", "memory": 8.0}, {"weights": "vit_small_patch14_dinov2.lvd142m", "method": "dino"}),
        ({"device": "cuda"}, {"start": "published", "weights": "vit_base_patch14_dinov2.lvd142m"}),
        ({"device": "cuda", "images": 200_000}, {"start": "continue", "weights": "vit_base_patch16_224.mae"}),
        ({"device": "cuda", "images": 2_000_000}, {"start": "scratch", "judge": "full"}),
        ({"side": 32, "images": 50_000}, {"start": "scratch", "mask": "random(ratio=0.75)"}),
        ({"channels": 10, "kind": "bands"}, {"start": "scratch", "method": "mae"}),
        ({"kind": "xray", "patches": 196}, {"mask": "random(ratio=0.9)"}),
        ({"kind": "xray", "patches": 49}, {"mask": "random(ratio=0.75)"}),
        ({"kind": "scans", "patches": 196}, {"mask": "random(ratio=0.75)"}),  # pixels alone do not justify 90 %
        ({"annotated": "boxes", "classes": 0}, {"judge": "detect"}),
        ({"classes": 0, "labels_per_class": 0}, {"judge": "labels"}),
    ],
)  # fmt: skip
def test_what_is_advised(changes, decisions):
    facts, _ = decide(replace(FACTS, **changes))
    assert {name: getattr(facts, name) for name in decisions} == decisions


def test_a_statement_on_a_guessed_kind_says_what_it_takes_for_granted():
    said = {s.topic: s.weight for s in decide(replace(FACTS, guessed=True))[1]}
    assert said["start"] == "strong, if photographs"
    assert {s.topic: s.weight for s in decide(FACTS)[1]}["start"] == "strong"


def images_of(kind, count=40, size=64):
    """Synthetic images with the traits of a kind."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    framed = np.exp(-8 * ((rows - 0.5) ** 2 + (columns - 0.5) ** 2))
    for seed in range(count):
        noise = np.asarray(photo(seed, size, size))
        if kind == "photographs":  # each of its own colour, with upright and level edges
            blocks = rng.integers(0, 128, 3) + rng.integers(0, 96, (4, 4, 1)) + rng.integers(0, 16, (4, 4, 3))
            yield np.kron(blocks.astype(np.uint8), np.ones((size // 4, size // 4, 1), np.uint8))
        elif kind == "scans":
            yield (200 * framed + noise[..., 0] / 12).astype(np.uint8)
        elif kind == "drawings":
            yield np.where(noise[..., 0] > 128, 255, 0).astype(np.uint8)
        elif kind == "unoriented":  # pink discs at any place
            image = np.full((size, size, 3), (230, 200, 220), np.uint8)
            for y, x in rng.uniform(0.1, 0.9, (12, 2)):
                image[(rows - y) ** 2 + (columns - x) ** 2 < 0.008] = (170, 90, 150)
            yield image


def measured(images):
    pixels = {i: torch.from_numpy(np.atleast_3d(image).copy()).permute(2, 0, 1) for i, image in enumerate(images)}
    values = np.concatenate([image.flatten() for image in pixels.values()])
    extreme = float(((values < 26) | (values > 229)).mean())
    sheet = sheet_of(channel_counts={str(len(pixels[0])): len(pixels)}, share_extreme=extreme, where="here")
    return pixels, measure_appearance(pixels), sheet


@pytest.mark.parametrize("kind", ["photographs", "scans", "drawings", "unoriented"])
def test_the_kind_of_images_is_guessed_from_pixels(kind):
    _, appearance, sheet = measured(images_of(kind))
    assert guess_kind(appearance, sheet)[0] == kind


def test_what_pixels_do_not_tell_is_not_claimed():
    few = measured(images_of("photographs", 5))
    assert guess_kind(*few[1:]) == ("unknown", "5 images are too few to guess from")
    noise = [np.random.default_rng(i).integers(60, 190, (64, 64, 3)).astype(np.uint8) for i in range(40)]
    assert guess_kind(*measured(noise)[1:])[0] in ("unknown", "unoriented")  # never photographs
    grey = [photo(i, 64, 64, 1) for i in range(40)]  # layouts differ
    assert guess_kind(*measured(grey)[1:])[0] == "unknown"
    _, appearance, _ = measured(images_of("photographs"))
    assert guess_kind(appearance, sheet_of(channel_counts={"7": 40}))[0] == "bands"


def test_copies_and_grey_images_stored_as_colour_are_counted():
    images = [photo(i, 48, 48) for i in range(8)]
    _, appearance, _ = measured([*images, images[0], (images[1] * 0.9).astype(np.uint8)])
    assert appearance.near_copies == 4
    assert appearance.grey_as_colour == 0
    grey = [np.repeat(photo(i, 48, 48, 1)[..., None], 3, axis=2) for i in range(4)]
    assert measured(grey)[1].grey_as_colour == 1
    assert measured([g[..., 0] for g in grey])[1].grey_as_colour == 0


def test_lost_detail_is_the_share_of_the_variance_that_shrinking_takes():
    stripes = torch.zeros(1, 64, 64)
    stripes[:, :, ::2] = 255.0
    smooth = torch.linspace(0, 255, 64).expand(1, 64, 64)
    assert lost_detail([stripes.byte()], 16) > 0.9
    assert lost_detail([smooth.byte()], 16) < 0.02
    assert lost_detail([stripes.byte()], 64) == 0
    assert lost_detail([], 16) == 0


@pytest.mark.slow
def test_a_sample_is_looked_at_in_a_bounded_time(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", images=np.stack([photo(i % 50, 16, 16) for i in range(MOST + 200)]))
    look = look_at_sample([str(tmp_path / "x.npz")])
    assert look.sheet.count == MOST + 200
    assert look.sheet.checked == len(look.pixels) == MOST
    look = look_at_sample([str(tmp_path / "x.npz")], seconds=0.0)
    assert look.sheet.checked == FIRST
    assert len(look.samples) == MOST + 200


def test_broken_files_are_left_out_and_mostly_broken_data_is_refused(tmp_path):
    for i in range(4):
        Image.fromarray(photo(i)).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    look = look_at_sample([str(tmp_path)])
    assert (look.sheet.count, len(look.pixels), len(look.samples)) == (5, 4, 4)
    for i in range(8):
        (tmp_path / f"bad{i}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot be used"):
        look_at_sample([str(tmp_path)])


def test_labels_are_counted_by_class_and_boxes_are_no_classes(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for name in "ab":
            folder = tmp_path / "d" / split / name
            folder.mkdir(parents=True)
            for i in range(count + (name == "b")):
                Image.fromarray(photo(i)).save(folder / f"{i}.png")
    labels = count_labels([str(tmp_path / "d")], required=True)
    assert labels.counts == {"a": 3, "b": 4}
    assert labels.tested == 5
    assert labels.least == 3
    assert "2 classes, 3 to 4 images" in labels.sentence()
    with pytest.raises(DataError, match="no image has a label"):
        count_labels([str(tmp_path / "d" / "train" / "a")], required=True)
    assert find_annotations([str(tmp_path / "d")]) == "none"
    boxes = tmp_path / "d" / "train" / "labels"
    boxes.mkdir()
    (boxes / "0.txt").write_text("0 0.5 0.5 0.2 0.2\n")


PLANNED = {"image_size": Choice([64, 64], ""), "patch_size": Choice(8, ""), "epochs": Choice(120.0, "")}


def lines(facts, *, here=False, own=False, data=("my photos/it's",), on=("labelled",), device="auto", init=""):
    facts, _ = decide(facts)
    places = Places(data, on, device, Path)
    weights = AtHand("w.safetensors", True, own=True) if own else AtHand(facts.weights, here)
    options = pretraining_options(facts, places, False, init)
    return make_commands(facts, places, weights, options, PLANNED)


CASES = [
    replace(FACTS, images=images, channels=channels, device=device, kind=kind, annotated=annotated, classes=classes)
    for images in (1, 3000, 200_000)
    for channels in (1, 3, 10)
    for device in ("cpu", "cuda")
    for kind, annotated, classes in (("photographs", "none", 10), ("xray", "none", 0), ("unoriented", "boxes", 0))
]


def test_every_command_parses_as_it_is_printed():
    given = ({"here": True}, {"here": False}, {"own": True})
    printed = {command.line for facts in CASES for where in given for command in lines(facts, **where)}
    shapes = {re.sub(r"\d+", "1", line): line for line in printed}  # parsing takes time: numbers alone change nothing
    for line in shapes.values():
        program, *words = shlex.split(line)
        assert program == "unmask"
        assert parse(words)


def test_the_last_command_needs_no_network_where_the_weights_are_not_here():
    *others, last = lines(FACTS)
    assert last.words[1] == "pretrain"
    assert "--init" not in last.words
    assert "--probe" in last.words
    assert all("fetches the weights" in command.purpose for command in others)
    assert lines(FACTS, here=True)[-1].words[:3] == ("unmask", "transfer", "vit_small_patch16_224.dino")
    many_photographs = replace(FACTS, images=200_000, device="cuda")
    assert "--init" in lines(many_photographs, here=True, init="vit_base_patch16_224.mae")[-1].words
    assert lines(replace(FACTS, bad_share=0.11, grey_as_colour=1.0))[-1].line.count("--max-bad 0.2") == 1


def test_weights_that_a_person_has_come_first():
    facts, _ = decide(FACTS)
    assert weights_at_hand(facts, ["mine.safetensors"]) == AtHand("mine.safetensors", True, own=True)
    scratch, _ = decide(replace(FACTS, channels=10))
    assert weights_at_hand(scratch, ["mine.safetensors"]).name == ""


def test_a_rule_asks_only_for_facts_that_there_are():
    assert {c.fact for rule in read_rules() for c in rule.conditions} <= {field.name for field in fields(Facts)}
