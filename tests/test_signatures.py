"""What editors know of the functions: `src/unmask/__init__.pyi`, which this file prints, says what the options say.

make signatures
"""

import ast
import inspect
import re
import textwrap
import types
import typing
from pathlib import Path

import pytest

import unmask
from unmask.cli.help import describe
from unmask.cli.task_options import DEFAULT, joined
from unmask.cli.verb import command, commands, signature
from unmask.tasks.folders import task_folders

STUB = Path(unmask.__file__).with_suffix(".pyi")
HEAD = '''"""Signatures of the functions, for editors and type checkers. Written by `make signatures`; do not edit."""

# fmt: off
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, overload

'''
ALONE = {  # function -> overloads: fixed choices of options, and what is returned then
    "pretrain": [({"dry_run": False}, "Run"), ({"dry_run": True}, "None")],
    "ablate": [({"dry_run": False}, "Ablation"), ({"dry_run": True}, "None")],
    "compare": [({"dry_run": False}, "Comparison"), ({"dry_run": True}, "None")],
    "anomaly": [({"action": "fit"}, "Finder"), ({"action": "apply"}, "AnomalyResults")],
}
BY_TASK = [({"dry_run": False}, "Transferred"), ({"dry_run": True}, "None")]
OTHERS = ("unmask.runs.run.Run", "unmask.tasks.open.load", "unmask.version.__version__")


def returned(name):
    """What a command returns, as text, and the imports that this needs: from its source, to import nothing heavy."""
    path = Path(unmask.__file__).parent / "cli" / "commands" / f"{name}.py"
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    function = next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name)
    text = ast.unparse(function.returns).strip("'")
    where = {alias.name: node.module for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    where |= {node.name: f"unmask.cli.commands.{name}" for node in nodes if isinstance(node, ast.ClassDef)}
    ours = [part for part in re.findall(r"\w+", text) if where.get(part, "").startswith("unmask")]
    return text, [f"{where[part]}.{part}" for part in ours]


def written(hint):
    """A type as source text."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in (None, types.NoneType):
        return "None"
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, inner))}]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(written, inner))
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if part is ... else written(part) for part in inner)}]"
    return hint.__name__


def parameter(given, fixed):
    """`name: type = default`; a fixed choice has its own type, and a default where that is the option's."""
    kind, default = written(given.annotation), given.default
    if given.name in fixed:
        value = fixed[given.name]
        kind = f"Literal[{value!r}]"
        default = default if default == value else inspect.Parameter.empty
    default = str(default) if isinstance(default, Path) else default
    return f"{given.name}: {kind}" + ("" if default is inspect.Parameter.empty else f" = {default!r}")


def definition(name, signature, fixed, result):
    """The lines of one `def`."""
    places = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    words = [parameter(p, fixed) for p in places] + (["*"] if named else []) + [parameter(p, fixed) for p in named]
    body = textwrap.wrap(", ".join(word.replace(" ", "\0") for word in words), 116)
    lines = [f"    {line}".replace("\0", " ") for line in body]
    return [f"def {name}(", *lines, f") -> {result}: ..."]


def stub():
    """The whole file."""
    lines, imports = [], [*OTHERS]
    for name, options in commands().items():
        result, needed = returned(name)
        imports += needed
        variants = [(options, fixed, kind) for fixed, kind in ALONE.get(name, [({}, result)])]
        if getattr(options, "BY_TASK", False):
            tasks = sorted(task_folders(), key=lambda task: task != DEFAULT)
            variants = [(joined(options, t), {"to": t} | fixed, kind) for t in tasks for fixed, kind in BY_TASK]
        for chosen, fixed, kind in variants:
            lines += ["@overload"] if len(variants) > 1 else []
            lines += definition(name, signature(chosen), fixed, kind)
    head = HEAD + "\n".join(
        f"from {where} import {what} as {what}" for where, _, what in sorted(i.rpartition(".") for i in set(imports))
    )
    names = ", ".join(f'"{name}"' for name in unmask.__all__)
    listed = textwrap.indent(textwrap.fill(names, 116), "    ")
    return "\n".join([head, "", "__all__ = [", listed, "]", "", *lines, ""])


def test_editors_are_told_the_options_as_they_are():
    assert STUB.read_text(encoding="utf-8") == stub(), "run: make signatures"


@pytest.mark.parametrize("name", commands())
def test_options_by_name_are_in_the_order_of_the_help(name):
    options = commands()[name]
    listed = re.findall(r"^    (\w+): ", describe(options), re.MULTILINE)
    assert list(signature(options).parameters) == listed


@pytest.mark.parametrize("name", [name for name in unmask.__all__ if name in commands()])
def test_help_explains_every_option_and_says_what_happens_by_default(name):
    function, options = command(name), commands()[name]
    text, parameters = inspect.getdoc(function), inspect.signature(function).parameters
    entries = {line.partition(":")[0].strip(): line.partition(":")[2] for line in text.splitlines() if ":" in line}
    tasks = task_folders() if getattr(options, "BY_TASK", False) else ()
    variants = [options, *(joined(options, task) for task in tasks)]
    for field in (field for variant in variants for field in signature(variant).parameters):
        assert field in parameters
        assert entries.get(field), f"{name}: {field} is not explained"
    assert "Annotated" not in str(inspect.signature(function))
    assert function.__name__ == name


if __name__ == "__main__":
    print(stub(), end="")
