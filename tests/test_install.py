"""What is installed: lines that add packages, the version in every place that says it, the text files of a release."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import unmask
from unmask.version import install_line

ROOT = Path(__file__).parent.parent


def test_install_lines_fit_an_environment_with_pip_with_uv_and_with_neither(monkeypatch):
    present = {"pip": True}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: find("json") if present.get(name) else None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert install_line("onnx", "fsspec[http]") == f"{sys.executable} -m pip install onnx 'fsspec[http]'"
    monkeypatch.setattr(shutil, "which", lambda name: sys.executable if name == "python" else None)
    assert install_line("onnx") == "python -m pip install onnx"
    present["pip"] = False  # as in an environment that uv made
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    assert install_line("onnx") == f"uv pip install --python {shlex.quote(sys.executable)} onnx"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert install_line("onnx") == f"{sys.executable} -m ensurepip && {sys.executable} -m pip install onnx"


def test_no_text_names_an_install_line_that_may_be_wrong():
    for path in (ROOT / "src").rglob("*.py"):
        assert path.name == "version.py" or "pip install" not in path.read_text(encoding="utf-8"), path


def test_the_version_is_written_in_one_place():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^dynamic = \["version"\]', project, re.M)
    assert not re.search(r"^version =", project, re.M)
    assert 'path = "src/unmask/version.py"' in project
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == unmask.__version__
    assert f"## {unmask.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", ["cff-version", "message", "title", "authors", "type", "license"])
def test_the_citation_file_has_what_its_format_asks_for(key):
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert content[key]
    assert content["cff-version"] == "1.2.0"
    assert all("name" in author or {"family-names", "given-names"} <= author.keys() for author in content["authors"])


@pytest.mark.parametrize("how", ["unmask", "unmask.cli.main"])
def test_functions_and_commands_settle_alike_how_idle_threads_wait(how):
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = f"import os, sys, {how}; print([n for n in {names} if n in os.environ], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("['OMP_WAIT_POLICY'] False", "['GOMP_SPINCOUNT'] False")
