"""Turns the text `name(option=value)` into an object. The file name is the registry.

`build("mask", "blob(ratio=0.6)")` imports `masking/samplers/blob.py` and calls the one name in its `__all__`.
A dotted name, `my_lab.masks.comb`, reaches a file outside the package.
"""

import ast
import importlib
import inspect
import pkgutil
from typing import Any

from unmask.errors import UserError, closest

KINDS = {  # kind -> the package whose files are its parts
    "annotations": "unmask.data.annotations.formats",
    "decoder": "unmask.models.decoders",
    "encoder": "unmask.models.encoders",
    "evaluator": "unmask.evaluation.frozen",
    "export": "unmask.export.formats",
    "head": "unmask.models.heads",
    "mask": "unmask.masking.samplers",
    "method": "unmask.methods",
    "pyramid": "unmask.models.pyramids",
    "recipe": "unmask.planning.recipes",
    "source": "unmask.data.sources",
    "stream": "unmask.data.shards.formats",
    "target": "unmask.methods.targets",
    "tracker": "unmask.training.trackers",
    "weights": "unmask.weights.formats",
}


def build(kind: str, spec: object, **context: object) -> Any:
    """The part that `spec` names, given its written options and whatever of `context` it has a parameter for.

    Anything that is not text is taken to be the part already. Raises UserError for an unknown name or option.
    """
    if not isinstance(spec, str):
        return spec
    name, options = parse(spec)
    part = find(kind, name)
    allowed = inspect.signature(part).parameters
    for key in options:
        if key not in allowed or key in context:
            takes = ", ".join(str(p) for k, p in allowed.items() if k not in context) or "no options"
            if key in context:
                raise UserError(f"{name}: {key} is chosen for it and is no option here. It takes: {takes}")
            raise UserError(f"{name} has no option {key!r}{closest(key, allowed)} It takes: {takes}")
    try:
        return part(**options, **{key: value for key, value in context.items() if key in allowed})
    except (TypeError, ZeroDivisionError, OverflowError) as error:
        if not options:
            raise
        raise UserError(f"{spec!r} does not work: {error}") from error


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Splits `name(option=value)` into the name and the options, which must be literals."""
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
        if not isinstance(tree, ast.Call):
            return spec.strip(), {}
        if tree.args:
            raise UserError(f"write options by name in {spec!r}, e.g. {ast.unparse(tree.func)}(ratio=0.75)")
        return ast.unparse(tree.func), {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except SyntaxError as error:
        raise UserError(f"cannot read {spec!r}; write name or name(option=value), e.g. random(ratio=0.75)") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"options in {spec!r} must be plain values (numbers, text in quotes, tuples)") from error


def names(kind: str) -> list[str]:
    """The parts of a kind: the files of its folder. Left out are a contract, which is named like the folder of its
    parts, and settings that all parts share."""
    modules = list(pkgutil.iter_modules(importlib.import_module(KINDS[kind]).__path__))
    folders = {module.name for module in modules if module.ispkg}
    return sorted(m.name for m in modules if not m.ispkg and f"{m.name}s" not in folders and m.name != "settings")


def require(kind: str, spec: str) -> None:
    """Raises UserError unless a part's text can be read and names a file of the package, or a dotted name. Imports
    nothing: for names that are refused before the parts, which bring torch, are there."""
    name, parts = parse(spec)[0], names(kind)
    if "." not in name and name not in parts:
        raise UserError(f"no {kind} {name!r}{closest(name, parts)} There are: {', '.join(parts)}")


def find(kind: str, name: str) -> Any:
    """The one public name of a part's file."""
    require(kind, name)
    try:
        module = importlib.import_module(name if "." in name else f"{KINDS[kind]}.{name}")
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise UserError(f"cannot import {name!r}: {error}; is its folder on PYTHONPATH?") from error
        raise
    public = getattr(module, "__all__", [])
    if len(public) != 1:
        raise UserError(f"{module.__file__} must name its one public class in __all__, it has {list(public)}")
    return getattr(module, public[0])
