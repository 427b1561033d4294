"""Parts named by text."""

import importlib
import sys

import pytest

from unmask.errors import UserError
from unmask.registry import KINDS, build, given, names, parse


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_part_file_names_one_public_class_and_says_what_it_is(kind):
    assert names(kind)
    for name in names(kind):
        module = importlib.import_module(f"{KINDS[kind]}.{name}")
        assert len(module.__all__) == 1
        assert module.__doc__
        assert hasattr(module, module.__all__[0])


def test_options_are_read_from_the_text():
    assert parse("blob(ratio=0.6, radius=2)") == ("blob", {"ratio": 0.6, "radius": 2})
    assert parse(" random ") == ("random", {})
    assert build("mask", "blob(ratio=0.6)").ratio == 0.6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randon", "did you mean 'random'"),
        ("random(ratios=0.5)", "did you mean 'ratio'"),
        ("random(0.5)", "options by name"),
        ("random(ratio=", "cannot read"),
        ("random(ratio=x)", "plain values"),
        ("vqkd(of=teacher)", "in quotes.*: of='teacher'"),
        ("no_such_lab.masks.comb", "PYTHONPATH"),
    ],
)
def test_a_wrong_text_says_what_was_meant(text, message):
    with pytest.raises(UserError, match=message), given([text]):
        build("mask", text)


def test_a_private_part_is_reached_by_its_dotted_name(tmp_path, monkeypatch):
    (tmp_path / "my_lab.py").write_text(
        "from unmask.masking.mask import Sampler\n__all__ = ['Comb']\n"
        "class Comb(Sampler):\n    def score(self, batch, grid, noise, context):\n"
        "        return noise(batch, grid.num_units)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_lab", raising=False)
    (tmp_path / "lab").mkdir()
    (tmp_path / "my_lab.py").rename(tmp_path / "lab" / "comb.py")
    with given(["lab.comb"]):
        assert build("mask", "lab.comb(ratio=0.5)").ratio == 0.5
