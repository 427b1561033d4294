"""`unmask show RUN IMAGE...`: draw what a run rebuilds."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from tyro.conf import Positional

from unmask.errors import UserError
from unmask.verb import Names, Numbers, Place, Places, numbers, require, settle, texts, verb

__all__ = ["show"]


@dataclass(frozen=True)
class Show:
    """Draw what a run rebuilds: input, masked, rebuilt, rebuilt with the visible units pasted in, error."""

    run: Positional[Place]  # folder of a run
    images: Positional[Places] = ()  # pictures, or anything that pretrain takes as data
    _: KW_ONLY
    out: Place | None = None  # picture to write; by default panel.png in the current folder
    ratio: Numbers = ()  # shares to hide, one row each per picture; by default the run's
    mask: Names = ()  # masks, one row each per picture; by default the run's
    most: int = 8  # pictures at the most
    seed: int = 0  # of the masks
    true_statistics: bool = True  # add a column that uses each hidden unit's true mean and deviation, marked as such
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "images", texts(self.images))
        settle(self, "mask", texts(self.mask))
        settle(self, "ratio", numbers(self.ratio))
        if not self.images:
            raise UserError("name at least one picture: unmask show RUN IMAGE...")
        require(self.seed, "seed", lambda v: v >= 0, "0 or more")
        require(self.most, "most", lambda v: v > 0, "above 0")
        for ratio in numbers(self.ratio):
            require(ratio, "ratio", lambda v: 0 < v < 1, "between 0 and 1, both excluded")


@verb(Show)
def show(options: Show) -> Path:
    """Draws the panel and returns its path.

    Raises UserError for weights without a decoder, and for pictures that cannot be read, each with its reason.
    """
    from rich.console import Console

    from unmask.showing import showing

    path = showing(options)
    Console().print(f"Drawn: {path}", soft_wrap=True)
    return path
