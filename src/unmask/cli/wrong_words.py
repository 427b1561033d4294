"""Why a command line cannot be read, in one line: tyro's own boxes speak of Python's types.

Asked only after tyro has refused. Unknown options were refused before (`synonyms.py`).
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any, get_type_hints

import tyro

from unmask.cli.help import choices_of, comments, is_positional, kinds_of, metavar
from unmask.cli.sizes import plain_sizes
from unmask.errors import UserError, closest


def explain(command: str, options: type, words: Sequence[str]) -> UserError | None:
    """What is wrong with the words behind a command's name: a value that its option cannot hold, an option without its
    value, or a missing or superfluous argument. None where nothing is found."""
    hints = get_type_hints(options, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(options)}
    arguments: list[str] = []
    behind: list[tuple[str, str]] = []  # options with the words that follow them and are not theirs
    for flag, values in _by_flag(words):
        field = fields.get(flag[2:].removeprefix("no-").replace("-", "_")) or fields.get(flag[2:].replace("-", "_"))
        if field is None or isinstance(field.default, bool):
            arguments += values
            behind += [(flag, word) for word in values if field]
            continue
        own = values if kinds_of(hints[field.name])[1] else values[:1]
        arguments += values[len(own) :]
        behind += [(" ".join([flag, *own]), word) for word in values[len(own) :]]
        if not own or read(field, hints[field.name], own) is None:
            got = f"got {' '.join(own)!r}{_nearest(own, hints[field.name])}" if own else "got nothing"
            return UserError(f"{flag} takes {in_words(hints[field.name])}, {got}")
    error = _explain_arguments(command, options, arguments)
    if error is None and behind:
        flag, word = behind[0]
        error = UserError(f"unmask {command} does not know what {word!r} after {flag} is for")
    return error


def read(field: dataclasses.Field, hint: object, words: Sequence[str]) -> tuple[Any] | None:
    """The value that the command line makes of words for one field, alone in a tuple; None where they do not fit."""
    flag, single = f"--{field.name.replace('_', '-')}", dataclasses.make_dataclass("Single", [(field.name, hint)])
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            line = list(words) if is_positional(hint) else plain_sizes(flag, single, [flag, *words])
            return (getattr(tyro.cli(single, args=line), field.name),)
    except SystemExit:
        return None


def in_words(hint: object) -> str:
    """ "a number", "one or more paths", "auto, on or off"."""
    kinds, several, _ = kinds_of(hint)
    if choices := choices_of(hint):
        return f"{', '.join(choices[:-1])} or {choices[-1]}"
    if bool in kinds:
        return "True or False"
    word = "number" if float in kinds else "whole number" if int in kinds else "text"
    word = "path" if any(getattr(kind, "__name__", "") == "Path" for kind in kinds) else word
    return f"one or more {word}s" if several else f"a {word}"


def _nearest(words: Sequence[str], hint: object) -> str:
    return closest(words[0], choices_of(hint)).rstrip(".") if choices_of(hint) else ""


def _by_flag(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option with the words up to the next one; words before the first option come under the option "--"."""
    flag, values = "--", []
    for word in words:
        if not word.startswith("--"):
            values.append(word)
            continue
        yield flag, values
        flag, sign, value = word.partition("=")
        values = [value] if sign else []
    yield flag, values


def _explain_arguments(command: str, options: type, words: Sequence[str]) -> UserError | None:
    """For the words that stand behind no option: too few of them, or too many."""
    hints = get_type_hints(options, include_extras=True)
    places = [field for field in dataclasses.fields(options) if is_positional(hints[field.name])]
    needed = [field for field in places if field.default is dataclasses.MISSING]
    line = " ".join(["unmask", command, *(metavar(field.name, hints[field.name], field.default) for field in places)])
    if len(words) < len(needed):
        missing = needed[len(words)]
        text = comments(options).get(missing.name, "")
        return UserError(f"unmask {command} needs {missing.name.upper()} ({text}): {line}")
    if len(words) > len(places) and not any(kinds_of(hints[field.name])[1] for field in places):
        option = "; labelled data goes after --on" if "on" in hints else ""
        return UserError(f"unmask {command} does not know what {words[len(places)]!r} is for{option}: {line} [options]")
    return None
