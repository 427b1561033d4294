"""The architecture, enforced: who may import whom, who may use which library, how long a file may be."""

import ast
from pathlib import Path

import pytest
from layering import FENCES, LAYERS, PARTS

import unmask

ROOT = Path(unmask.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
SUBJECTS = {name.split(".")[0] for name in RANK if "." in name}  # folders by subject: each file has its own rank


def stands(parts):
    """The name in LAYERS of a module, given its names within the package."""
    return ".".join(parts[:2] if parts[0] in SUBJECTS else parts[:1])


def place(file):
    return stands(file.relative_to(ROOT).with_suffix("").parts)


def imports(file):
    """Full names of all modules that a file imports, those inside functions too."""
    folders = {"unmask", *(f"unmask.{name}" for name in SUBJECTS)}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module in folders
            yield node, [f"{node.module}.{a.name}" for a in node.names] if inside else [node.module]
        elif isinstance(node, ast.Import):
            yield node, [alias.name for alias in node.names]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_to_the_core(file):
    here = place(file)
    if here.endswith(".__init__"):
        assert not list(imports(file)), "a folder by subject only says what it is for"
        return
    assert here in RANK, f"say in LAYERS where {here} stands"
    for _, modules in imports(file):
        for module in modules:
            parts = module.split(".")
            there = stands(parts[1:]) if parts[0] == "unmask" and len(parts) > 1 else None
            if there in RANK:
                lazily_from_a_verb = here == "verbs"  # a verb imports its work inside the function
                assert RANK[there] <= RANK[here] or lazily_from_a_verb, f"{here} imports {module}"
                if here in PARTS and there == here and len(parts) > 2 and here != "verbs":
                    raise AssertionError(
                        f"parts of one folder must not import each other: {file.name} imports {module}"
                    )


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_libraries_stay_behind_their_fences(file):
    for _, modules in imports(file):
        for module in modules:
            library = module.split(".")[0]
            if library in FENCES:
                assert place(file) in FENCES[library], f"{file.relative_to(ROOT)} imports {library}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_are_short_and_say_what_they_are_for(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert file.name not in ("utils.py", "util.py", "helpers.py", "base.py", "common.py", "misc.py")
    if file.name != "__init__.py":
        assert ast.get_docstring(ast.parse(text)), f"{file.name} must open by saying what it is for"


def test_the_loop_knows_no_method_no_source_and_no_timm():
    modules = {module for _, found in imports(ROOT / "train.py") for module in found}
    assert not any(
        m.startswith(("timm", "unmask.methods", "unmask.data.sources", "unmask.models.encoders")) for m in modules
    )
    loop = next(n for n in ast.walk(ast.parse((ROOT / "train.py").read_text())) if getattr(n, "name", "") == "fit")
    assert loop.end_lineno - loop.lineno < 120


def test_importing_unmask_is_light():
    import subprocess
    import sys

    code = "import sys, unmask, unmask.cli, unmask.verb; unmask.verb.verbs(); "
    code += "print({'torch', 'timm', 'numpy'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_every_verb_is_named_by_the_package():
    from unmask.cli.verb import verbs

    assert {"Run", "load", *verbs()} == set(unmask.__all__)


def test_what_transfer_makes_is_where_opening_looks_for_it():
    from unmask.runs.run import FOLDERS, TRAINED

    for task, noun in TRAINED.items():
        assert f"class {noun.capitalize()}" in (ROOT / FOLDERS[task] / f"{noun}.py").read_text()
