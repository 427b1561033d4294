"""Where results go: below the run, beside earlier ones, and nothing is replaced unsaid."""

import io

import pytest
from rich.console import Console

import unmask
from unmask.cli.outputs import choose_place, require_folder, say_replaced
from unmask.errors import UserError
from unmask.runs.run import CONFIG


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CONFIG).write_text("{}")
    return tmp_path / "run"


def test_results_lie_below_the_run_and_those_of_a_second_call_beside_them(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for name in ("features.npz", "features-2.npz", "features-3.npz"):
        place = choose_place(folder, None, "features.npz")
        assert place == folder / name
        place.touch()
    (folder / "map.csv").touch()  # of a map whose page was moved away
    assert choose_place(folder, None, "map.html", beside=(".png", ".csv")) == folder / "map-2.html"
    (folder / "search").mkdir()
    assert choose_place(folder, None, "search") == folder / "search"  # an empty folder is free
    (folder / "search" / "results.csv").touch()
    assert choose_place(folder, None, "search") == folder / "search-2"
    assert str(choose_place("vit_tiny_patch16_224", None, "search")) == "search"  # weights without a folder


def test_a_place_that_was_asked_for_is_taken_and_what_is_replaced_is_named(folder):
    (folder / "a.csv").touch()
    (folder / "maps").mkdir()
    text = io.StringIO()
    say_replaced([folder / "a.csv", folder / "b.csv", folder / "maps"], Console(file=text, width=400))
    assert text.getvalue().strip() == f"Replacing the results of an earlier call: {folder / 'a.csv'}"
    assert choose_place("anything", folder / "a.csv", "b.csv") == folder / "a.csv"
    with pytest.raises(UserError, match=r"a.csv is a file; give a folder"):
        require_folder(folder / "a.csv")


@pytest.mark.slow
def test_every_command_keeps_to_the_rule(run, photos, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    calls = {
        "show/panel": lambda **more: unmask.show(run.path, photos, most=1, device="cpu", **more),
        "features": lambda **more: unmask.embed(run.path, photos, device="cpu", **more),
        "map": lambda **more: unmask.map(run.path, photos, method="pca", device="cpu", **more),
        "search": lambda **more: unmask.search(run.path, photos, duplicates=True, device="cpu", **more).out,
    }
    for name, call in calls.items():
        first, second = call(), call()
        assert first == run.path / f"{name}{first.suffix}", name
        assert second == run.path / f"{name}-2{first.suffix}", name
        before = first.read_bytes() if first.is_file() else b""
        assert second.exists()
        assert not first.is_file() or first.read_bytes() == before
    assert not list(tmp_path.glob("*.png")) + list(tmp_path.glob("*.npz"))
    capsys.readouterr()
    for name in ("show/panel.png", "map.html", "search"):
        calls[name.split(".")[0]](out=run.path / name)
        assert "Replacing the results of an earlier call" in capsys.readouterr().out, name
