"""Whether two texts name the same part: options that are left out have their defaults."""

import inspect

from unmask.registry import find, parse


def defaults_of(part: str, name: str) -> dict[str, object]:
    """Options of a part with their defaults."""
    if part == "model":
        return {}
    parameters = inspect.signature(find(part, name)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def same_part(part: str, first: str, second: str) -> bool:
    """Whether two texts name the same part with the same options, written or not."""
    (name, options), (other, others) = parse(first), parse(second)
    if name != other:
        return False
    defaults = defaults_of(part, name)
    return defaults | options == defaults | others
