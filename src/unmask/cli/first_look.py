"""Refuses wrong paths and wrong names before anything that takes seconds is imported.

What options name is declared at their fields (`plain.py`). Here it is only looked at: whether a path is there, a part
has a file, timm has a model. What cannot be told so, such as a module of one's own, is left to the command.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

from unmask import registry
from unmask.cli.verb import require_parts
from unmask.data.places import are_words, elsewhere, require_place
from unmask.models.names import require_model
from unmask.plain import Dataclass, Images, Model, PartOf, Weights, metadata, texts
from unmask.planning.recipe_book import find_recipe
from unmask.runtime.settings import check_names, runtime_of
from unmask.weights.known import require_known


def look_first(name: str, options: Dataclass) -> None:
    """Raises UserError for what the options of command `name` (a dataclass) spell wrong."""
    require_parts(options)
    if isinstance(getattr(options, "precision", ""), str):  # an export has several
        check_names(runtime_of(options))
    if recipe := getattr(options, "recipe", None):
        find_recipe(recipe, name)
    for part, value in _named(options):
        if isinstance(part, PartOf):
            registry.require(part.kind, value)
        elif isinstance(part, Model):
            require_model(value)
        elif isinstance(part, Images):
            if not (part.or_words and are_words(value)):
                require_place(value)
        elif isinstance(part, Weights) and value not in part.words:
            if not (part.or_images and elsewhere(value)):
                require_known(value)


def _named(options: Dataclass) -> Iterator[tuple[Any, str]]:
    """What fields say that their values name, with each value."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if value is None or value == field.default:
            continue
        named = [part for part in metadata(hints[field.name]) if isinstance(part, PartOf | Model | Images | Weights)]
        for part in named:
            yield from ((part, text) for text in texts(value) if text)
