"""What README and docs say is true: the worked example runs, names and links exist."""

import ast
import dataclasses
import json
import re
import textwrap
from pathlib import Path

import pytest
import torch

import unmask
from unmask.cli.help import GROUPS
from unmask.cli.main import main
from unmask.cli.verb import commands as options_by_name
from unmask.errors import UserError

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
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert page.split("```")[1].strip("\n") == "\n".join(_tree(ROOT / "src" / "unmask")), (
        "python tests/test_docs.py prints it"
    )


def _tree(folder, depth=0):
    """Every folder with the first line of its docstring, and the files in it."""
    if depth:
        purpose = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
        yield f"{'  ' * (depth - 1) + folder.name + '/':<24} {purpose.splitlines()[0]}"
    files = [path.stem for path in sorted(folder.glob("*.py")) if not path.stem.startswith("__")]
    yield from textwrap.wrap("  ".join(files), 118, initial_indent="  " * depth, subsequent_indent="  " * depth)
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").exists():
            yield from _tree(inner, depth + 1)


def examples(folder):
    """Writes the files of docs/add-a-part.md that stand below their name."""
    text = (ROOT / "docs" / "add-a-part.md").read_text(encoding="utf-8")
    for name, code in re.findall(r"`my_lab/(\w+\.py)`:\n\n```python\n(.*?)```", text, re.S):
        (folder / name).write_text(code, encoding="utf-8")
        yield folder / name


@pytest.mark.slow
def test_the_other_worked_examples_run(photos, tmp_path):
    files = {path.stem: path for path in examples(tmp_path)}
    assert files.keys() == {"twins", "follow", "coarse", "means", "readings"}
    small = {"model": "vit_tiny_patch16_224(depth=1)", "image_size": 32, "patch_size": 8, "batch": 4, "device": "cpu"}
    asked = {"twins": {"method": str(files["twins"])}, "follow": {"method": f"{files['follow']}(momentum=0.9)"}}
    asked["coarse"] = {"target": str(files["coarse"])}
    for name, options in asked.items():
        run = unmask.pretrain(photos, out=tmp_path / name, steps=2, log_every=1, **small, **options)
        assert run.finished
        if name != "coarse":
            records = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
            assert {"twins": "diagonal", "follow": "spread"}[name] in records[0]
            assert run.config.record.words["loss"] in (run.path / "report.html").read_text(encoding="utf-8")
    coarse = str(files["coarse"])
    assert unmask.show(tmp_path / "coarse", photos, most=1, out=tmp_path / "p.png", parts=coarse).exists()
    with pytest.raises(UserError, match=r"twins\.py has no --decoder"):
        unmask.pretrain(photos, out=tmp_path / "r", method=str(files["twins"]), decoder="cross", steps=2, **small)
    labelled = tmp_path / "labelled"
    for number, path in enumerate(sorted(photos.iterdir())):
        (labelled / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        path.rename(labelled / "ab"[number % 2] / path.name)
    judged = unmask.evaluate(
        tmp_path / "coarse",
        on=labelled,
        evaluators=("knn", str(files["means"])),
        draws=1,
        labels_per_class=1,
        parts=coarse,
    )
    assert [name.split("/")[-1] for name in judged.evaluators] == ["knn", "means.py"]
    (tmp_path / "spectra").mkdir()
    for number in range(8):
        values = torch.rand(80, generator=torch.Generator().manual_seed(number)).numpy()
        (tmp_path / "spectra" / f"{number}.f32").write_bytes(values.astype("<f4").tobytes())
    (tmp_path / "spectra" / "cut.f32").write_bytes(b"12345")
    small["image_size"] = None
    readings = str(files["readings"])
    run = unmask.pretrain(
        tmp_path / "spectra", out=tmp_path / "readings", modality=readings, max_bad=0.2, steps=2, **small
    )
    assert run.config.data.image_size == (80,)
    assert run.config.data.count == 8  # a damaged one is left out
    assert unmask.show(run.path, tmp_path / "spectra", most=1, out=tmp_path / "r.png", parts=readings).exists()


@pytest.mark.slow
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
    monkeypatch.chdir(tmp_path)
    for page in ("README.md", "docs/quickstart.md"):  # their snippets open the folder run
        snippet = re.search(
            r"## Use the encoder\n.*?```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S
        )
        assert snippet
        exec(snippet[1], {"images": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)})
    from my_lab.comb import Comb

    from unmask.masking.grid import Grid
    from unmask.masking.mask import as_bool

    hidden = as_bool(Comb(ratio=0.5)(3, Grid((4, 4), (8, 8)), "cpu").hidden, 16).view(3, 4, 4)
    assert hidden[:, :, 1::2].all()
    assert not hidden[:, :, ::2].any()


@pytest.mark.parametrize("name", list(options_by_name()))
def test_help_shows_every_option_in_its_group_with_words_for_what_is_left_open(name, capsys):
    options = options_by_name()[name]
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    page = capsys.readouterr().out
    assert page.splitlines()[2] == options.__doc__.splitlines()[0]
    for field in dataclasses.fields(options):
        flag = field.name.replace("_", "-")
        assert re.search(rf"--(no-)?{flag}\b|^  {field.name.upper()}\b", page, re.M), field.name
    assert "None" not in page
    assert "()" not in page
    headings = re.findall(r"^([a-z ]+):$", page, re.M)
    order = ["usual options", *GROUPS]
    assert headings == sorted(headings, key=order.index)  # "more" would be an option without a group


def test_python_functions_carry_the_options_of_the_commands():
    import inspect

    assert "image_size" in inspect.signature(unmask.pretrain).parameters
    assert "labels_per_class" in (unmask.evaluate.__doc__ or "")
    with pytest.raises(AttributeError, match="commands"):
        unmask.nonsense  # noqa: B018


if __name__ == "__main__":
    print("\n".join(_tree(ROOT / "src" / "unmask")))
