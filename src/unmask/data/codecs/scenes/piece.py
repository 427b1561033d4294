"""Parts of a file that are samples of their own: windows of a scene, recordings in a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Piece:
    """A sample that is a part of what lies in a file, such as a window of a scene."""

    of: bytes | np.ndarray | str
    place: tuple[int, ...]  # as `Modality.pieces` gives it


@dataclass(frozen=True)
class Cut:
    """Where a piece lies, and what its file says of it."""

    place: tuple[int, ...]
    name: str  # within its file; "": the piece is all that there is
    label: str | None = None
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Division:
    """The pieces of a file; none where the whole is one sample."""

    cuts: tuple[Cut, ...] = ()
    remarks: tuple[str, ...] = ()  # what a person should know of how they were found
