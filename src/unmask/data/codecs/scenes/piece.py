"""A part of a file that is a sample of its own."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Piece:
    """A sample that is a part of what lies in a file, such as a window of a scene."""

    of: bytes | np.ndarray | str
    place: tuple[int, ...]  # as `Modality.pieces` gives it
