"""A chosen value with the reason for it: what every plan is made of."""

from typing import Any, NamedTuple


class Choice(NamedTuple):
    value: Any
    reason: str  # for people
