"""Settings as YAML: read for every command, overruled by the command line, refused where wrong, written down."""

import dataclasses
import time
from pathlib import Path

import pytest

from unmask.cli import main
from unmask.cli.settings_file import read_settings
from unmask.cli.verb import commands
from unmask.errors import UserError


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setattr(main, "command", lambda name: name)


@pytest.fixture
def written(tmp_path):
    def write(text, name="settings.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def parsed(*words):
    return main.parse(list(words))


def test_keys_are_options_and_the_command_line_overrules(written):
    path = written("data: [photos, more.zip]\nimage-size: 64\nlr: 1e-3\nflip: off\nspike: off\nsteps: 5\nclip: null\n")
    options = parsed("pretrain", "--config", path, "--lr", "0.5")
    assert options.data == ("photos", "more.zip")
    assert (options.image_size, options.flip, options.spike) == ((64, 64), "off", "off")
    assert (options.lr, options.steps, options.clip) == (0.5, 5, None)
    assert parsed("pretrain", "other", "--config", path).data == ("other",)  # positional ones too
    switches = written("deterministic: true\nchannels: 3")
    assert parsed("pretrain", "x", f"--config={switches}").deterministic is True
    assert parsed("pretrain", "x", "--config", switches, "--no-deterministic").deterministic is False


def test_the_task_of_transfer_may_stand_in_the_file(written):
    path = written("to: segment\ncrop_size: [64, 32]\non: scenes\n")
    options = parsed("transfer", "run", "--config", path)
    assert (options.to, tuple(options.crop_size), options.on) == ("segment", (64, 32), ("scenes",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", r"has 'epoch', which is no option here, did you mean 'epochs'\?"),
        ("batch: many", r"settings.yaml: batch is 'many'; it takes a whole number"),
        ("flip: sideways", r"flip is 'sideways'; it takes auto, on or off"),
        ("deterministic: perhaps", r"deterministic is 'perhaps'; it is true or false"),
        ("batch: {a: 1}", "batch must be a value or a list of values"),
        ("batch: 1\nbatch: 2", "has 'batch' twice"),
        ("- 1\n- 2", "must hold `option: value` lines"),
        ("batch: 'open", "cannot be read: "),
        ("a: !!python/object/apply:os.system [x]", "has 'a', which is no option here"),
        ("batch: " + "[" * 50_000, "(nested too deeply|cannot be read)"),
        ("x: " + "y" * 2**20, "larger than 1 MB"),
    ],
)
def test_a_wrong_file_is_refused_in_a_line(written, text, message):
    path = written(text)
    with pytest.raises(UserError, match=message) as caught:
        parsed("pretrain", "x", "--config", path)
    assert "\n" not in str(caught.value)


def test_aliases_are_understood_and_cost_nothing(written):
    assert parsed("pretrain", "--config", written("data: &d [a, b]\nbands: *d\ninit: w")).bands == ("a", "b")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefghi", "bcdefghij"))
    start = time.monotonic()
    with pytest.raises(UserError, match="must be a value or a list of values"):
        parsed("pretrain", "x", "--config", written(bomb))
    assert time.monotonic() - start < 2


def test_a_file_that_is_not_there_names_the_nearest(written, tmp_path):
    written("batch: 1", "experiment.yaml")
    with pytest.raises(UserError, match=r"does not exist, did you mean '.*experiment\.yaml'\?"):
        parsed("pretrain", "x", "--config", str(tmp_path / "experimnt.yaml"))


GIVEN = {
    "pretrain": ["photos", "--epochs", "3", "--mask", "block(ratio=0.5)", "--image-size", "64", "32", "--spike", "off"],
    "transfer": ["run", "--to", "segment", "--on", "scenes", "--crop-size", "64", "--flip", "off"],
    "show": ["run", "a.jpg", "b.jpg", "--ratio", "0.5", "0.9", "--no-true-statistics"],
    "labels": ["run", "--on", "d", "--labels-per-class", "1", "all", "--jobs", "2"],
    "search": ["run", "photos", "--query", "ä: #1.jpg", "--by", "features", "--threshold", "0.5"],
    "pack": ["photos", "x.pack", "--format", "raw"],
    "anomaly": ["fit", "run", "normal", "--layers", "-1", "2"],
}


@pytest.mark.parametrize("name", GIVEN)
def test_printed_settings_are_read_as_the_same_options(name, written, capsys):
    with pytest.raises(SystemExit) as caught:
        main.parse([name, *GIVEN[name], "--print-config"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    given = parsed(name, *GIVEN[name])
    names = {field.name for field in dataclasses.fields(given)} - {"config"}
    assert all(f"{option}: " in text for option in names)  # those as by default too, explained
    settings = read_settings(type(given), written(text))
    again = type(given)(**settings)
    assert {n: getattr(again, n) for n in names} == {n: getattr(given, n) for n in names}


def test_every_command_takes_a_file_from_python_too(written):
    from unmask.cli.verb import saved

    for name, options in commands().items():
        fields = [field for field in dataclasses.fields(options) if isinstance(field.default, int | str | Path)]
        field = min(fields, key=lambda field: not isinstance(field.default, int))
        value = {int: 3, str: "x", bool: True}.get(type(field.default), "y")
        path = written(f"{field.name}: {str(value).lower()}")
        assert "config" in {field.name for field in dataclasses.fields(options)}, name
        assert saved(options, path).keys() == {field.name}
