"""Shell completion: what a real shell offers, for every command, without starting Python at a key press."""

import shlex
import shutil
import subprocess
import sys

import pytest

import unmask
from unmask.cli.commands.completion import flags_of
from unmask.cli.verb import commands
from unmask.errors import UserError

CALL = """
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _unmask; printf '%s\\n' "${{COMPREPLY[*]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "unmask.bash"
    path.write_text(unmask.completion("bash"), encoding="utf-8")
    return path


def offered(script, *lines):
    """What bash offers for the last word of each line."""
    calls = "".join(CALL.format(words=" ".join(shlex.quote(word) for word in words)) for words in lines)
    code = f"source {shlex.quote(str(script))}\n{calls}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def test_bash_offers_commands_options_and_values(script):
    kinds, equal, to, masks, shells, files, commands_ = offered(
        script,
        ["unmask", "pretrain", "--crop-kind", ""],
        ["unmask", "pretrain", "--crop-kind", "=", "f"],  # how bash sees --crop-kind=f
        ["unmask", "transfer", "--to", "s"],
        ["unmask", "show", "run", "a.jpg", "--mask", "b"],
        ["unmask", "completion", ""],
        ["unmask", "show", "run", ""],
        ["unmask", "pre"],
    )
    assert kinds == ["random", "fixed", "whole"]
    assert equal == ["fixed"]
    assert to == ["segment"]
    assert masks == ["blob", "block"]
    assert shells == ["bash", "zsh", "fish"]
    assert files == []  # then bash offers files
    assert commands_ == ["predict", "pretrain"]


def test_bash_offers_every_option_of_every_command(script):
    names = list(commands())
    answers = offered(script, *(["unmask", name, "-"] for name in names))
    for name, answer in zip(names, answers):
        assert answer == [f"--{flag.name}" for flag in flags_of(name, commands()[name])]
    assert "--no-standardize" in answers[names.index("search")]
    assert "--window" in answers[names.index("transfer")]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_every_option_with_its_text(shell, tmp_path):
    path = tmp_path / f"unmask.{shell}"
    path.write_text(unmask.completion(shell), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    for name, options in commands().items():
        for flag in flags_of(name, options):
            assert (f"--{flag.name}:" if shell == "zsh" else f" -l {flag.name} ") in text, (name, flag.name)
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(path)], check=True)


def test_completion_is_light_and_names_the_shells():
    code = "import sys, unmask; unmask.completion('bash'); print({'torch', 'timm', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    for wrong in ("", "bsh"):
        with pytest.raises(UserError, match="bash"):
            unmask.completion(wrong)
