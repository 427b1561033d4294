"""What every export format keeps: a file that is opened again gives what the model gives, and says how to open it."""

import ast

import pytest
from support.exportmaking import checked, subject, tiny

from unmask.methods.mae import MAE
from unmask.registry import find, names

FORMATS = names("export")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_features_of_the_encoder_when_it_is_opened_again(name, raw, tmp_path):
    encoder = tiny()
    mae = MAE(encoder, decoder="full(dim=32, depth=1, heads=2)").eval()
    _, differences = checked(name, encoder, raw, tmp_path, objective=mae)
    assert differences
    for outputs in differences.values():
        assert outputs
        assert all(difference["max_abs_error"] < 1e-3 for difference in outputs.values())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_in_python_how_its_files_are_opened(name, raw):
    code = find("export", name)().how(subject(tiny(), raw), "exported")
    assert "exported" in code
    assert any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(ast.parse(code)))
