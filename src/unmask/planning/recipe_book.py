"""Published recipes by name: each file of `recipes/` is a family, a list of RECIPES.

A recipe sets options of one command, `pretrain` or `transfer`. `follow` fills in those that the user left open, so that
explicit flags win.
"""

import importlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, TypeVar

from unmask.errors import UserError, closest
from unmask.registry import KINDS, names

EITHER = (("epochs", "steps", "hours"), ("lr", "blr"))  # alternatives: if one is given, a recipe fills none of them

Options = TypeVar("Options")


@dataclass(frozen=True)
class Recipe:
    """The settings of a publication, as options of a command."""

    name: str
    verb: str  # "pretrain" or "transfer"
    title: str
    published: str  # the result, and where it is said
    options: Mapping[str, Any]  # by the names of the command's own options
    cost: str = "not in our sources"


def recipes() -> dict[str, Recipe]:
    """All recipes by name."""
    families = [importlib.import_module(f"{KINDS['recipe']}.{family}") for family in names("recipe")]
    return {recipe.name: recipe for family in families for recipe in family.RECIPES}


def find_recipe(name: str, verb: str) -> Recipe:
    """Raises UserError for an unknown name, and for a recipe of another command."""
    every = recipes()
    own = [recipe.name for recipe in every.values() if recipe.verb == verb]
    if name not in every:
        raise UserError(f"no recipe {name!r}{closest(name, own)} For unmask {verb} there are: {', '.join(own)}")
    if every[name].verb != verb:
        raise UserError(
            f"--recipe {name} is for unmask {every[name].verb}; for unmask {verb} there are: {', '.join(own)}"
        )
    return every[name]


def follow(options: Options, verb: str) -> tuple[Options, dict[str, str]]:
    """The options, with open ones filled in from `options.recipe`, and the reason for each of these.

    If the user changed the number of epochs, warm-up keeps its share of the run.
    """
    name = getattr(options, "recipe", None)
    if name is None:
        return options, {}
    filled: Any = options
    given = {field.name for field in fields(filled) if not _open(filled, field)}
    published = find_recipe(name, verb).options
    changes = {key: value for key, value in published.items() if key not in given}
    for group in EITHER:
        if given & set(group):
            changes = {key: value for key, value in changes.items() if key not in group}
    reasons = dict.fromkeys(changes, f"recipe {name}")
    if "warmup" in changes and "epochs" not in changes:
        del reasons["warmup"], changes["warmup"]
        if getattr(options, "epochs", None) is not None:
            share = published["warmup"] / published["epochs"]
            changes["warmup"] = share * filled.epochs
            reasons["warmup"] = f"recipe {name}: the same {share:.1%} of a run of another length"
    return replace(filled, **changes), reasons


def markdown() -> str:
    """The tables of docs/recipes.md, one per command; a test compares them."""
    tables = []
    for verb in ("pretrain", "transfer"):
        lines = [f"| `unmask {verb} --recipe` | what | cost | published |", "|---|---|---|---|"]
        rows = [recipe for recipe in recipes().values() if recipe.verb == verb]
        lines += [f"| `{row.name}` | {row.title} | {row.cost} | {row.published} |" for row in rows]
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def _open(options: Any, field: Any) -> bool:
    """True if the user left the option open: its value is the default, and the default means `chosen`."""
    return field.default is not MISSING and getattr(options, field.name) in (None, "auto", ())
