"""Chooses what the user left open, for this data and this machine, with a reason for every choice."""

from dataclasses import dataclass, field
from typing import Any

ASKED = "asked for"  # the reason of what the user gave


@dataclass
class Plan:
    """Settings by option name, every one with a value, and why each was chosen."""

    settings: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)
    new_decoder: bool = False  # a trained encoder meets a decoder that starts at random

    def choose(self, name: str, value: Any, why: str) -> None:
        """Fills an option that was left open; one that was given stays."""
        if self.settings.get(name) in (None, "auto"):
            self.settings[name], self.reasons[name] = value, why
        else:
            self.reasons.setdefault(name, ASKED)

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value, reason of every choice, for people."""
        return [(name, _text(self.settings.get(name, "the data's")), why) for name, why in self.reasons.items()]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " x ".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
