"""The options of a task lie beside it: help shows one task's, others are refused by name, a new task needs no edit."""

import dataclasses
import inspect
import json
from typing import Annotated

import pytest
from annotated_types import Interval

import unmask
import unmask.tasks
from unmask.cli.main import main, parse
from unmask.cli.task_options import task_options
from unmask.errors import UserError
from unmask.plain import Exists, OneOf, PositiveInt, Share, check_fields
from unmask.tasks.folders import task_folders


def help_of(*arguments, capsys):
    with pytest.raises(SystemExit):
        parse(["transfer", *arguments, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("task", task_folders())
def test_help_shows_the_options_of_one_task_and_those_that_all_share(task, capsys):
    text = help_of("--to", task, capsys=capsys)
    own = {field.name for field in dataclasses.fields(task_options(task))}
    others = {f.name for name in task_folders() for f in dataclasses.fields(task_options(name))} - own
    for name in own | {"on", "epochs", "seed"}:
        assert f"  --{name.replace('_', '-')} " in text, name
    for name in others:
        assert f"  --{name.replace('_', '-')} " not in text, name


def test_help_without_a_task_says_which_there_are(capsys):
    text = help_of(capsys=capsys)
    assert all(f"\n  {name} " in text for name in task_folders())
    assert "those of --to classify" in text


def test_a_folder_is_all_that_a_new_task_takes(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "counting"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "transfer.py").write_text('raise RuntimeError("only the settings are light")')
    (folder / "settings.py").write_text(
        '__all__ = ["CountOptions"]\n'
        "from dataclasses import dataclass\n"
        'NAME, MODEL, DERIVED = "count", "counter", ()\n'
        "@dataclass(frozen=True, kw_only=True)\n"
        "class CountOptions:\n"
        '    """How many things there are."""\n'
        "    protocol: str | None = None  # all of it\n"
        "    abacus: int = 3  # beads\n"
    )
    monkeypatch.setattr(unmask.tasks, "__path__", [*unmask.tasks.__path__, str(tmp_path)])
    assert "--abacus N" in help_of("--to", "count", capsys=capsys)
    assert "count How many things there are." in " ".join(help_of(capsys=capsys).split())
    options = parse(["transfer", "run", "--on", "data", "--to=count", "--abacus", "5", "--epochs", "2"])
    assert (options.to, options.abacus, options.epochs) == ("count", 5, 2.0)
    with pytest.raises(UserError, match="--abacus is for --to count; --to detect has no such option"):
        parse(["transfer", "run", "--on", "data", "--to", "detect", "--abacus", "5"])


def test_an_option_of_another_task_is_told_from_a_misspelt_one(capsys):
    with pytest.raises(UserError, match="--images is for --to detect and segment; --to classify has no such option"):
        unmask.transfer("run", on="data", images="here")
    with pytest.raises(UserError, match=r"--mixup is for --to classify.* \(the nearest that it has is --warmup\)"):
        unmask.transfer("run", on="data", to="segment", mixup=0.5)
    with pytest.raises(UserError, match="no option 'anchrs', did you mean 'anchors'"):
        unmask.transfer("run", on="data", to="detect", anchrs=(1, 2))
    with pytest.raises(UserError, match="to detect there are full and linear"):
        unmask.transfer("run", on="data", to="detect", protocol="partial")
    with pytest.raises(SystemExit) as caught:
        main(["transfer", "run", "--on", "data", "--to", "detect", "--no-such"])
    assert caught.value.code == 2


def test_the_python_call_knows_the_options_of_all_tasks():
    parameters = inspect.signature(unmask.transfer).parameters
    assert {"run", "on", "epochs", "mixup", "crop_size", "anchors"} <= parameters.keys()
    assert "to='detect'" in unmask.transfer.__doc__


def test_the_task_is_known_from_a_saved_configuration(tmp_path):
    settings = {
        "to": "detect",
        "input_size": [64, 64],
        "masks": "off",
        "seed": 3,
        "standardize": True,
        "run": "a",
        "on": ["b"],
    }
    (tmp_path / "config.json").write_text(json.dumps({"task": "detect", "settings": settings}))
    options = parse(["transfer", "run", "--on", "data", "--config", str(tmp_path)])
    assert (options.to, options.input_size, options.seed) == ("detect", (64, 64), 3)


@dataclasses.dataclass(frozen=True)
class Fields:
    rate: Annotated[float, Interval(gt=0, le=0.5)] | None = None
    sides: tuple[PositiveInt, ...] | None = None
    share: Share = 0.5
    inner: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    word: Annotated[str, OneOf(("a", "bee"), "to count ")] = "a"
    place: Annotated[str | None, Exists()] = None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rate": 0}, "--rate must be above 0 and at most 0.5, got 0"),
        ({"rate": float("nan")}, "--rate must be finite and above 0 and at most 0.5, got nan"),
        ({"sides": (3, 0)}, "--sides must be above 0, got 0"),
        ({"share": 2}, "--share must be between 0 and 1, got 2"),
        ({"inner": 1}, "--inner must be between 0 and 1, both excluded, got 1"),
        ({"word": "be"}, "--word be: to count there are a and bee, did you mean 'bee'?"),
        ({"place": "nowhere"}, "--place nowhere does not exist"),
    ],
)
def test_values_outside_of_what_a_field_declares_are_refused(given, said):
    check_fields(Fields(rate=0.5, sides=(1, 2), place="."))
    with pytest.raises(UserError) as caught:
        check_fields(Fields(**given))
    assert str(caught.value).startswith(said)
