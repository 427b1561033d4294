"""The builder of settings: options that the user left open are chosen, with a reason for every choice."""

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from unmask.choice import Choice
from unmask.files import Json

ASKED = "asked for"  # the reason of an option that the user gave
Settings = TypeVar("Settings")
T = TypeVar("T")


class Plan:
    """Options by name, chosen one after the other with their reasons; `fill` turns them into typed settings."""

    def __init__(self, settings: dict[str, Any], reasons: dict[str, str] | None = None):
        self.settings, self.reasons = settings, reasons or {}
        self.new_decoder = False  # the encoder is trained, the decoder starts at random
        self.share = 1.0  # of the length that is chosen where none is given
        self.divisible = True  # a batch may be worked off in parts
        self.teachers: list[Json] = []  # frozen ones that the method learns from, as a run records them
        self.remarks: list[str] = []  # what is said before the plan: how these teachers were opened
        self.words: dict[str, str] = {}  # what the method's numbers are called

    def choose(self, name: str, value: T, why: str) -> T:
        """Sets an option if the user left it open. Returns its value, whoever chose it."""
        if self.settings.get(name) in (None, "auto"):
            self.settings[name], self.reasons[name] = value, why
        else:
            self.reasons.setdefault(name, ASKED)
        return self.settings[name]

    def choose_all(self, choices: Mapping[str, Choice]) -> None:
        """`choose` for each."""
        for name, (value, reason) in choices.items():
            self.choose(name, value, reason)

    def fill(self, settings: type[Settings], **more: Any) -> Settings:
        """Builds a dataclass of settings: each field from `more`, otherwise as chosen, otherwise its default."""
        names = inspect.signature(settings).parameters
        chosen = {name: self.settings[name] for name in names if self.settings.get(name) is not None} | more
        return settings(**{name: tuple(v) if isinstance(v, list) else v for name, v in chosen.items()})

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and reason of every choice, for display."""
        return [(name, text_of(self.settings.get(name, "the data's")), why) for name, why in self.reasons.items()]


def text_of(value: object) -> str:
    """A setting's value for display: 64 x 64, 0.05, on."""
    if isinstance(value, list | tuple):
        sides = len(value) == 2 and all(isinstance(side, int) for side in value)  # height and width
        return (" x " if sides else ", ").join(text_of(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
