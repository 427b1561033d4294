"""Small types and conversions of options: what callers may give, made plain; checks of ranges."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from unmask.errors import UserError

# What Python callers may give, and what the command line makes of text for it.
Place = str | Path
Places = Annotated[str | Path | Sequence[str | Path], arg(constructor=tuple[str, ...])]
Names = Annotated[str | Sequence[str], arg(constructor=tuple[str, ...])]
Size = Annotated[int | Sequence[int] | None, arg(constructor=tuple[int, ...] | None)]
Counts = Annotated[int | Sequence[int], arg(constructor=tuple[int, ...])]
Numbers = Annotated[float | Sequence[float], arg(constructor=tuple[float, ...])]


def plain(options: Any) -> dict[str, Any]:
    """Options as plain values for JSON."""
    content = dataclasses.asdict(options)
    return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in content.items()}


def settle(options: object, name: str, value: object) -> None:
    """Sets a field of a frozen dataclass while it is being made."""
    object.__setattr__(options, name, value)


def texts(value: Any) -> tuple[str, ...]:
    """One path or several, as a tuple of text."""
    return (str(value),) if isinstance(value, str | Path) else tuple(str(v) for v in value)


def numbers(value: Any) -> tuple:
    """One number or several, as a tuple."""
    return (value,) if isinstance(value, int | float) else tuple(value)


def require(value: Any, name: str, allowed: Callable[[Any], bool], words: str) -> None:
    """Raises UserError unless a value, where there is one, is allowed."""
    if value is not None and not (math.isfinite(value) and allowed(value)):
        finite = "" if math.isfinite(value) else "finite and "
        raise UserError(f"--{name.replace('_', '-')} must be {finite}{words}, got {value}")
