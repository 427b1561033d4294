"""Recipes by name: each file of `recipes/` is a family, a list of RECIPES.

A recipe is a function: given where a command runs and what the user said, it returns options of that command,
`pretrain` or `transfer`. `follow` fills in those that the user left open, so that explicit flags win.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeVar

from unmask.errors import UserError, closest
from unmask.registry import KINDS, names

EITHER = (("epochs", "steps", "hours"), ("lr", "blr"))  # alternatives: if one is given, a recipe fills none of them
SETTLED = ("method", "crop_kind")  # options whose defaults are words: these count as left open
UNKNOWN, NOT_RUN = "not in our sources", "not run"

Options = TypeVar("Options")
Values = Mapping[str, Any]  # options by the names that the command has for them


@dataclass(frozen=True)
class Setting:
    """What the options of a recipe may depend on."""

    device: str = "cpu"  # where the command runs: cpu, mps or cuda
    given: Values = field(default_factory=dict)  # options that the user gave

    @property
    def small(self) -> bool:
        """Without a CUDA GPU, where models are small."""
        return self.device != "cuda"


@dataclass(frozen=True)
class Recipe:
    """A way to train, with what is known of it."""

    name: str
    verb: str  # "pretrain" or "transfer"
    title: str
    published: str  # the result, and where it is said
    options: Callable[[Setting], Values]
    cost: str = UNKNOWN
    source: str = ""  # the publication, where the family's docstring and `published` do not name it
    ours: str = NOT_RUN  # what our command printed, with data and machine
    needs: str = ""  # what unmask does not bring, and how to give it

    @property
    def command(self) -> str:
        return f"unmask {self.verb} {'DATA' if self.verb == 'pretrain' else 'RUN --on LABELLED'} --recipe {self.name}"


def fixed(options: Values) -> Callable[[Setting], Values]:
    """The function of a recipe whose options are the same everywhere."""
    return lambda setting: options


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


def follow(options: Options, verb: str, device: str = "cpu") -> tuple[Options, dict[str, str]]:
    """The options, with open ones filled in from `options.recipe`, and the reason for each of these.

    device: where the command runs. If the user changed the number of epochs, warm-up keeps its share of the run.
    """
    name = getattr(options, "recipe", None)
    if name is None:
        return options, {}
    filled: Any = options
    given = {entry.name: getattr(filled, entry.name) for entry in fields(filled) if not _open(filled, entry)}
    values = find_recipe(name, verb).options(Setting(device, given))
    changes = {key: value for key, value in values.items() if key not in given}
    for group in EITHER:
        if given.keys() & set(group):
            changes = {key: value for key, value in changes.items() if key not in group}
    reasons = dict.fromkeys(changes, f"recipe {name}")
    if "warmup" in changes and "epochs" not in changes:
        del reasons["warmup"], changes["warmup"]
        if getattr(options, "epochs", None) is not None:
            share = values["warmup"] / values["epochs"]
            changes["warmup"] = share * filled.epochs
            reasons["warmup"] = f"recipe {name}: the same {share:.1%} of a run of another length"
    return replace(filled, **changes), reasons


@contextmanager
def told_what_is_needed(name: str | None, verb: str) -> Iterator[None]:
    """A UserError about a teacher that cannot be opened says, too, how to give the one that the recipe needs."""
    try:
        yield
    except UserError as error:
        needs = find_recipe(name, verb).needs if name else ""
        if not needs or "teacher" not in str(error):
            raise
        raise UserError(f"--recipe {name} needs {needs}. Without it: {error}") from error


def markdown() -> str:
    """The tables of docs/recipes.md, one per command; a test compares them."""
    tables = []
    for verb in ("pretrain", "transfer"):
        lines = [f"| `unmask {verb} --recipe` | what | cost | published | run here |", "|---|---|---|---|---|"]
        rows = [recipe for recipe in recipes().values() if recipe.verb == verb]
        lines += [
            f"| `{row.name}` | {row.title}{f' ({row.source})' if row.source else ''} | {row.cost} | {row.published}"
            f" | {row.ours} |"
            for row in rows
        ]
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def _open(options: Any, entry: Any) -> bool:
    """True if the user left the option open: its value is the default, and the default means `chosen`."""
    value = getattr(options, entry.name)
    settled = entry.name in SETTLED and value == entry.default
    return entry.default is not MISSING and (value in (None, "auto", ()) or settled)
