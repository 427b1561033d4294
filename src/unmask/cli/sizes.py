"""Sizes as people write them, `640x480`: height and width of an image, as everywhere in unmask."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, get_type_hints

from unmask.errors import UserError
from unmask.plain import TwoSides, metadata

BY = r"[xX*\u00d7]"
WRITTEN = re.compile(rf"\d+{BY}\d+({BY}\d+)?$")
ONE_SIDE = ("size", "side", "patch_size")  # options of a single number of pixels


def plain_sizes(command: str, options: Any, arguments: Sequence[str]) -> list[str]:
    """The arguments with `640x480` behind an option of a size as the two numbers 640 480. Raises UserError where the
    option takes one number and the two differ."""
    hints = get_type_hints(options, include_extras=True)
    names = [field.name for field in dataclasses.fields(options)]
    pairs = {name for name in names if any(isinstance(part, TwoSides) for part in metadata(hints[name]))}
    plain: list[str] = []
    option = ""
    for argument in arguments:
        flag, sign, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        option = flag[2:].replace("-", "_") if flag else option
        sides = WRITTEN.match(value) if option in pairs or option in ONE_SIDE else None
        if not sides:
            plain.append(argument)
            continue
        numbers = re.split(BY, value)
        if option in ONE_SIDE and len(set(numbers)) > 1:
            raise UserError(
                f"unmask {command}: {flag or '--' + option.replace('_', '-')} is one number of pixels, got {value}"
            )
        plain += ([flag] if sign else []) + (numbers[:1] if option in ONE_SIDE else numbers)
    return plain
