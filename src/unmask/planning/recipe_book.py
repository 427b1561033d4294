"""Published recipes by name: the files of `recipes/` are families, their functions recipes, their docstrings the facts.

A recipe is a plain function that returns options of one verb by name, `pretrain` or `transfer`: the VERB of its file.
`follow` puts them where the user left something open, so that every other flag still counts.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, TypeVar

from unmask.errors import UserError, closest
from unmask.registry import KINDS, names

EITHER = (("epochs", "steps", "hours"), ("lr", "blr"))  # of such options one counts: given one, a recipe fills none
FACTS = ("Command", "Cost", "Published")

Options = TypeVar("Options")


@dataclass(frozen=True)
class Recipe:
    name: str
    verb: str  # "pretrain" or "transfer"
    function: Callable[[], dict[str, Any]]

    @property
    def options(self) -> dict[str, Any]:
        """By the names of the verb's own options."""
        return self.function()

    @property
    def facts(self) -> dict[str, str]:
        """The docstring: `title`, and what stands behind each of FACTS."""
        text = inspect.getdoc(self.function) or ""
        title, _, rest = text.partition("\n\n")
        found, name = {"title": " ".join(title.split())}, ""
        for line in rest.splitlines():
            word, colon, content = line.partition(":")
            if colon and word in FACTS:
                name, line = word, content
            if name:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
        return found


def recipes() -> dict[str, Recipe]:
    """All of them by name."""
    found = {}
    for family_name in names("recipe"):
        family = importlib.import_module(f"{KINDS['recipe']}.{family_name}")
        found |= {name: Recipe(name, family.VERB, getattr(family, name)) for name in family.__all__}
    return found


def find_recipe(name: str, verb: str) -> Recipe:
    """Raises UserError for a name that there is none of, and for a recipe of another verb."""
    there = recipes()
    own = [recipe.name for recipe in there.values() if recipe.verb == verb]
    if name not in there:
        raise UserError(f"no recipe {name!r}{closest(name, own)} For unmask {verb} there are: {', '.join(own)}")
    if there[name].verb != verb:
        raise UserError(
            f"--recipe {name} is for unmask {there[name].verb}; for unmask {verb} there are: {', '.join(own)}"
        )
    return there[name]


def follow(options: Options, verb: str) -> tuple[Options, dict[str, str]]:
    """Options with those that were left open filled in from `options.recipe`, and the reason for each of these.

    Where the user changed the number of epochs, warm-up keeps its share of the run.
    """
    name = getattr(options, "recipe", None)
    if name is None:
        return options, {}
    asked: Any = options
    given = {field.name for field in fields(asked) if not _open(asked, field)}
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
            changes["warmup"] = share * asked.epochs
            reasons["warmup"] = f"recipe {name}: the same {share:.1%} of a run of another length"
    return replace(asked, **changes), reasons


def markdown() -> str:
    """The tables of docs/recipes.md, one per verb; a test compares them."""
    found = []
    for verb in ("pretrain", "transfer"):
        rows = [recipe for recipe in recipes().values() if recipe.verb == verb]
        lines = [f"| `unmask {verb} --recipe` | what | cost | published |", "|---|---|---|---|"]
        for recipe in rows:
            facts = recipe.facts
            lines.append(f"| `{recipe.name}` | {facts['title']} | {facts['Cost']} | {facts['Published']} |")
        found.append("\n".join(lines))
    return "\n\n".join(found) + "\n"


def _open(options: Any, field: Any) -> bool:
    """True where the user gave nothing: the value is the default, and the default means `chosen`."""
    return field.default is not MISSING and getattr(options, field.name) in (None, "auto", ())
