"""Options that take several words may be given several times: `--axis A --axis B` is `--axis A B`. The last one would
silently win otherwise."""

import dataclasses
from collections.abc import Sequence
from typing import get_type_hints

from unmask.cli.help import kinds_of


def joined_lists(options: type, arguments: Sequence[str]) -> list[str]:
    """The arguments with the words of each repeated option that takes a list of texts behind its first appearance."""
    hints = get_type_hints(options, include_extras=True)
    kinds = {field.name: kinds_of(hints[field.name]) for field in dataclasses.fields(options)}
    lists = {name for name, (types, several, _) in kinds.items() if several and str in types and int not in types}
    words: dict[str, list[str]] = {}  # by the name of a list's option: itself, and the words behind it
    current: list[str] = []
    parts = [current]
    for argument in arguments:
        flag, sign, value = argument.partition("=") if argument.startswith("--") else ("", "", "")
        name = flag.removeprefix("--").replace("-", "_")
        if name in lists:
            if name not in words:
                words[name] = [flag]
                parts.append(words[name])
            current = words[name]
            current += [value] if sign else []
        elif flag:
            current = [argument]
            parts.append(current)
        else:
            current.append(argument)
    return [word for part in parts for word in part]
