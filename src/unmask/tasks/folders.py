"""Finds the tasks: the folders of this room that have a `transfer.py`, by their public names; and whether a run has a
classifier on frozen features.

Light: only the `settings.py` of each folder is imported, which holds plain data.
"""

import importlib
import pkgutil
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError, safe_open

from unmask.errors import UserError
from unmask.files import LEARNT

PACKAGE = "unmask.tasks"


def task_folders() -> dict[str, str]:
    """The folder of each task that `transfer` learns, by its name: {"classify": "classification", ...}."""
    modules = pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__)
    folders = [m.name for m in modules if m.ispkg and find_spec(f"{PACKAGE}.{m.name}.transfer")]
    return {importlib.import_module(f"{PACKAGE}.{folder}.settings").NAME: folder for folder in folders}


def task_module(name: str, file: str) -> ModuleType:
    """A file of the folder of a task, imported; e.g. its "settings"."""
    return importlib.import_module(f"{PACKAGE}.{task_folders()[name]}.{file}")


def model_noun(name: str) -> str:
    """The kind of model that a task trains: "classifier", "segmenter" or "detector"."""
    return task_module(name, "settings").MODEL


def weights_file(name: str) -> str:
    """The file that holds a task's trained weights."""
    return f"{model_noun(name)}.safetensors"


def has_frozen(run: Path) -> bool:
    """Whether `evaluate` left a classifier in the folder."""
    if not (run / LEARNT).is_file():
        return False
    try:
        with safe_open(run / LEARNT, "pt") as file:
            return "by" in (file.metadata() or {})
    except SafetensorError as error:
        raise UserError(f"{run / LEARNT} cannot be read: {error}; unmask evaluate makes it anew") from error
