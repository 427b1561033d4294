"""What README and docs say is true: the worked example runs, names and links exist."""

import re
from pathlib import Path

import pytest
import tyro

import unmask
from unmask.cli.verb import commands as options_by_name

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (page.parent / link).exists(), link
    for name in re.findall(r"`((?:src|tests|docs|benchmarks)/[\w/.]+\.\w+)`", text):
        assert (ROOT / name).exists(), name


def test_the_tree_in_the_architecture_page_is_the_tree():
    root, folder, listed = ROOT / "src" / "unmask", "", set()
    for line in _tree().splitlines():
        if not line.startswith("    "):
            folder = found[1] if (found := re.match(r"  (\w+)/ ", line)) else ""
        listed |= {f"{folder}/{name}".lstrip("/") for name in re.findall(r"\w+\.py", line)}
    subjects = {name.split("/")[0] for name in listed if "/" in name}
    there = {
        str(file.relative_to(root)) for place in (root, *(root / s for s in subjects)) for file in place.glob("*.py")
    }
    assert listed == {name for name in there if "__" not in name}
    assert {s.name for s in root.iterdir() if s.is_dir()} - {"__pycache__"} <= set(re.findall(r"(\w+)/", _tree()))


def _tree():
    return (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("```")[1]


def test_the_worked_example_runs(photos, tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "add-a-part.md").read_text(encoding="utf-8"), re.S)
    assert code
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "comb.py").write_text(code[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    small = {"model": "vit_tiny_patch16_224(depth=1)", "image_size": 32, "patch_size": 8, "batch": 4, "device": "cpu"}
    run = unmask.pretrain(photos, out=tmp_path / "run", mask="my_lab.comb(every=2)", steps=4, **small)
    assert run.finished
    out = unmask.show(run.path, photos, mask="my_lab.comb", ratio=(0.25, 0.75), most=1, out=tmp_path / "p.png")
    assert out.exists()
    from my_lab.comb import Comb

    from unmask.masking.grid import Grid
    from unmask.masking.mask import as_bool

    hidden = as_bool(Comb(ratio=0.5)(3, Grid((4, 4), (8, 8)), "cpu").hidden, 16).view(3, 4, 4)
    assert hidden[:, :, 1::2].all()
    assert not hidden[:, :, ::2].any()


def test_every_verb_has_help_for_every_option(capsys):
    for name, options in options_by_name().items():
        with pytest.raises(SystemExit) as caught:
            tyro.cli(options, args=["--help"], prog=name)
        assert caught.value.code == 0
        said = capsys.readouterr().out
        assert options.__doc__.splitlines()[0][:40] in said.replace("\n", " ")


def test_python_functions_carry_the_options_of_the_commands():
    import inspect

    assert "image_size" in inspect.signature(unmask.pretrain).parameters
    assert "labels_per_class" in (unmask.evaluate.__doc__ or "")
    with pytest.raises(AttributeError, match="commands"):
        unmask.nonsense  # noqa: B018
