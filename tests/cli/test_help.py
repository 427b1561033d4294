"""Help that fits the terminal and says what happens by default; options under other names; sizes as people write."""

import dataclasses
import os
import re
import subprocess
import sys
from typing import get_type_hints

import pytest

import unmask
from unmask.cli.help import SAYS, comments, is_positional, page
from unmask.cli.main import parse
from unmask.cli.sizes import plain_sizes
from unmask.cli.synonyms import SYNONYMS, refuse_unknown
from unmask.cli.task_options import joined
from unmask.cli.verb import commands
from unmask.errors import UserError
from unmask.models.names import nearest_model, require_model, timm_names, usable_names
from unmask.plain import sides
from unmask.tasks.folders import task_folders

OPTIONS = commands()
PAGES = {**OPTIONS, **{f"transfer --to {task}": joined(OPTIONS["transfer"], task) for task in task_folders()}}


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("name", PAGES)
def test_the_lines_of_every_help_page_fit_the_terminal(name, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = page(name, PAGES[name]).splitlines()
    assert [line for line in lines if len(line) > columns and "completion" not in line] == []
    assert len(lines) > 3


@pytest.mark.parametrize("name", PAGES)
def test_every_option_says_what_happens_by_default(name):
    options, texts = PAGES[name], comments(PAGES[name])
    hints = get_type_hints(options, include_extras=True)
    for field in dataclasses.fields(options):
        text = texts[field.name]
        assert len(text) > 8, field.name
        if field.default in (None, (), "", "auto") and not is_positional(hints[field.name]):
            assert any(words in text for words in SAYS), f"--{field.name}: {text}"


@pytest.mark.parametrize("name", [n for n in PAGES if n not in ("completion", "doctor")])
def test_the_usual_options_come_first(name):
    shown = re.findall(r"^  --([\w-]+)", page(name, PAGES[name]), re.M)
    usual = ["out", "on", "to", "into", "model", "image-size", "epochs", "hours", "device"]
    assert shown[: len([option for option in usual if option in shown])] == [o for o in usual if o in shown]


@pytest.mark.parametrize(
    ("command", "given", "meant"),
    [
        ("pretrain", "--batch-size", "--batch"),
        ("pretrain", "--imgsz", "--image-size"),
        ("pretrain", "--img_size=224", "--image-size"),
        ("pretrain", "--lr0", "--lr"),
        ("pretrain", "--learning-rate", "--lr"),
        ("pretrain", "--wandb", "--log-to"),
        ("pretrain", "--output", "--out"),
        ("pretrain", "-o", "--out"),
        ("pretrain", "--num-workers", "--workers"),
        ("pretrain", "--gpu", "--device"),
        ("pretrain", "--amp", "--precision"),
        ("pretrain", "--weights", "--init"),
        ("pretrain", "--mask-ratio", "--mask"),
        ("pretrain", "--eopchs", "--epochs"),
        ("pretrain", "--resume", "repeat the same command with the same --out"),
        ("pretrain", "--data-path", "give DATA without an option"),
        ("transfer", "--img-size", "the size that the encoder was made for"),
        ("transfer", "--num-classes", "read from the data"),
        ("ablate", "--epochs", "--finetune-epochs"),
        ("ablate", "--arch", "--model"),
        ("embed", "--batch_size", "--batch"),
        ("embed", "--lr0", "--lr is an option of unmask ablate, distil, pretrain, transfer"),
        ("evaluate", "--weights", "give RUN without an option"),
        ("export", "--format", "--to"),
        ("export", "--half", "--precision"),
        ("labels", "--task", "--to"),
        ("search", "--topk", "--top"),
        ("predict", "--conf", "--threshold"),
        ("pack", "--imgsz", "--size"),
        ("demo", "--frobnicate", "unmask demo --help lists its options"),
    ],
)
def test_options_are_known_by_the_names_that_people_bring(command, given, meant):
    with pytest.raises(UserError) as caught:
        parse([command, given, "3"])
    name = given.split("=")[0]
    assert str(caught.value).startswith(f"unmask {command} has no option {name}")
    assert f"did you mean {meant}?" in str(caught.value) or f" {meant}" in str(caught.value).removesuffix(" ...")


def test_synonyms_lead_to_options_that_there_are():
    names = {field.name for options in PAGES.values() for field in dataclasses.fields(options)}
    assert {name for ours in SYNONYMS for name in ours.split()} <= names


@pytest.mark.parametrize(
    "line", ["labels run --on data --against", "stress m --on d --corruptions --most 3", "pack --size"]
)
def test_an_option_without_its_value_is_refused(line):
    with pytest.raises(UserError, match=r"--\w+ needs a value; leave it out"):
        parse(line.split())


def test_numbers_below_zero_and_values_are_no_options():
    refuse_unknown("show", OPTIONS, OPTIONS["show"], ["run", "a.jpg", "--block", "-1", "--no-background", "--size=64"])
    with pytest.raises(UserError, match="no option 'batch_size', did you mean 'batch'"):
        unmask.embed("run", "photos", batch_size=3)


@pytest.mark.parametrize("given", [("640x480",), ("640", "480"), ("640X480",), ("640*480",)])
def test_sizes_are_read_as_people_write_them(given, tmp_path):
    assert parse(["pretrain", "demo", "--image-size", *given]).image_size == (640, 480)
    assert parse(["ablate", "demo", f"--image-size={given[0]}", *given[1:]]).image_size == (640, 480)
    assert parse(["transfer", "r", "--on", "d", "--to", "segment", "--crop-size", *given]).crop_size == (640, 480)
    assert parse(["transfer", "r", "--on", "d", "--to", "detect", "--input-size", *given]).input_size == (640, 480)
    assert parse(["labels", "r", "--on", "d", "--to", "segment", "--crop-size", *given]).crop_size == (640, 480)
    (tmp_path / "settings.yaml").write_text(f"image_size: {given[0] if len(given) == 1 else [640, 480]}\n")
    assert parse(["pretrain", "demo", "--config", str(tmp_path / "settings.yaml")]).image_size == (640, 480)


def test_sizes_of_one_side_and_in_python():
    assert sides("image_size", 224) == sides("image_size", "224") == sides("image_size", (224,)) == (224, 224)
    assert sides("image_size", "480x640") == sides("image_size", [480, 640]) == (480, 640)
    for wrong in ("big", (1, 2, 3), "1x2x3", 1.5, "x"):
        with pytest.raises(UserError, match="--image-size is one number of pixels, or height and width"):
            sides("image_size", wrong)
    assert plain_sizes("pretrain", OPTIONS["pretrain"], ["640x480", "--patch-size", "16x16"]) == [
        "640x480", "--patch-size", "16",
    ]  # fmt: skip
    with pytest.raises(UserError, match="--size is one number of pixels, got 640x480"):
        parse(["pack", "photos", "a.pack", "--size", "640x480"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("vit_b16", "vit_base_patch16_224"),
        ("ViT-B/16", "vit_base_patch16_224"),
        ("vitb16", "vit_base_patch16_224"),
        ("vit-large", "vit_large_patch16_224"),
        ("vit_tinny_patch16_224", "vit_tiny_patch16_224"),
        ("VIT_SMALL_PATCH16_384", "vit_small_patch16_384"),
        ("dinov2_vits14", "vit_small_patch14_dinov2"),
        ("hiera-base", "hiera_base_224"),
        ("deit_s", "deit_small_patch16_224"),
        ("google/vit-base-patch16-224", "vit_base_patch16_224"),
        ("resnet5", None),
        ("swin_t", None),
    ],
)
def test_the_nearest_model_is_one_that_makes_sense(given, meant):
    assert nearest_model(given) == meant
    with pytest.raises(UserError) as caught:
        require_model(given)
    assert (f"did you mean {meant!r}?" if meant else "E.g. vit_tiny_patch16_224") in str(caught.value)


def test_the_names_read_from_timms_sources_are_those_that_timm_registers():
    timm = pytest.importorskip("timm")
    assert set(timm.list_models()) == set(timm_names())
    assert {"vit_tiny_patch16_224", "hiera_tiny_224", "eva02_base_patch14_224"} <= set(usable_names())
    with pytest.raises(UserError, match="resnet50 cannot be pretrained, with this or another method"):
        require_model("resnet50(depth=3)")
    require_model("vit_tiny_patch16_224.augreg_in21k(depth=2)")
    require_model("my_lab.encoder")


LATE = ("torch", "numpy", "timm", "torchvision", "lightning", "sklearn", "scipy", "matplotlib", "PIL", "pandas")


QUICK = [  # command lines that are answered at once, and their exit codes
    (["--help"], 0),
    (["pretrain", "--batch-size", "3"], 2),
    (["pretrain", "no/such/folder"], 2),
    (["pretrain", "demo", "--mask", "blok"], 2),
    (["pretrain", "demo", "--model", "vit_b16"], 2),
    (["pretrain", "demo", "--device", "cud"], 2),
    (["transfer", "nowhere", "--on", "demo"], 2),
    (["evaluate", "vit_tiny_patch16_224", "--on", "nowhere"], 2),
    (["export", ".", "--to", "onxx"], 2),
]


@pytest.fixture(scope="module")
def answers():
    """What each of these came to in a process that asked for them one after the other."""
    program = (
        f"import sys\nfrom unmask.cli.main import main\nfor words, _ in {QUICK!r}:\n"
        "    try:\n        main(words)\n    except SystemExit as end:\n        code = end.code\n"
        f"    print('IMPORTED', code, sorted(set({LATE!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith("IMPORTED")]


@pytest.mark.parametrize(("place", "words", "code"), [(place, *line) for place, line in enumerate(QUICK)])
def test_wrong_use_is_refused_before_anything_heavy_is_imported(answers, place, words, code):
    assert answers[place] == f"IMPORTED {code} []"


def test_help_of_every_command_and_the_package_itself_import_nothing_heavy():
    program = (
        "import sys\nimport unmask\nfrom unmask.cli.help import page\nfrom unmask.cli.verb import commands\n"
        "assert all(page(name, options) for name, options in commands().items())\n"
        f"print('IMPORTED', sorted(set({LATE!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.splitlines()[-1] == "IMPORTED []"


@pytest.mark.slow
def test_training_imports_nothing_that_only_draws_or_judges():
    late = ("lightning", "torchmetrics", "sklearn", "scipy", "matplotlib", "pandas", "jinja2", "transformers", "onnx")
    program = (
        "import sys\nimport unmask.cli.commands.pretrain\nimport unmask.cli.commands.transfer\n"
        f"print('IMPORTED', sorted(set({late!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.splitlines()[-1] == "IMPORTED []"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pretrain x --epochs ten", "--epochs takes a number, got 'ten'"),
        ("pretrain x --image-size big", "--image-size takes one or more whole numbers, got 'big'"),
        ("pretrain x --flip onn", "--flip takes auto, on or off, got 'onn', did you mean 'on'?"),
        ("pretrain x --seed=1.5", "--seed takes a whole number, got '1.5'"),
        ("pretrain x --out", "--out needs a value"),
        ("pretrain x --batch 8 9", "unmask pretrain does not know what '9' after --batch 8 is for"),
        ("pretrain x --deterministic yes", "unmask pretrain does not know what 'yes' after --deterministic is for"),
        ("show run a.jpg --ratio 0.5 many", "--ratio takes one or more numbers, got '0.5 many'"),
        ("show", "unmask show needs RUN (folder of a run; for features"),
        (
            "evaluate run labelled/",
            "does not know what 'labelled/' is for; labelled data goes after --on",
        ),
        ("transfer run --to segment --on y --crop-size a", "--crop-size takes one or more whole numbers, got 'a'"),
        ("pretrain", "say on which images"),
    ],
)
def test_words_that_cannot_be_read_are_named_in_a_line(line, message, capsys):
    with pytest.raises(UserError) as caught:
        parse(line.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": "ten"}, "pretrain: epochs takes a number, got 'ten'"),
        ({"batch": 8.5}, "pretrain: batch takes a whole number, got 8.5"),
        ({"flip": "onn"}, "pretrain: flip takes auto, on or off, got 'onn', did you mean 'on'?"),
        ({"deterministic": "yes"}, "pretrain: deterministic takes True or False, got 'yes'"),
        ({"mask": 3}, "pretrain: mask takes a text, got 3"),
        ({"data": 3}, "pretrain: data takes one or more paths, got 3"),
    ],
)
def test_wrong_types_from_python_are_refused_by_name(given, message):
    with pytest.raises(UserError) as caught:
        unmask.pretrain(**{"data": "x", **given})
    assert str(caught.value) == message


def test_docstrings_of_commands_are_indented_evenly():
    lines = (unmask.pretrain.__doc__ or "").splitlines()
    assert any(line.startswith("Raises UserError") for line in lines)
    assert "Options:" in lines
