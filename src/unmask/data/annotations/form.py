"""The contract of a form of annotations: what finds and reads its files. Parts in `formats/` know one form each."""

from pathlib import Path
from typing import ClassVar

from unmask import registry
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.maps import Maps
from unmask.data.annotations.objects import Annotated

PARTS = "annotations"


class Form:
    """Parts override what their form tells: objects (`find` and `read`), classes of pixels (`holds_maps` and `maps`),
    or both; of what has outlines, maps are the rasterised objects."""

    form: ClassVar[str]
    takes: ClassVar[str | None] = None  # what its files look like; None where it tells no objects

    @staticmethod
    def find(root: str) -> list[str]:
        """Files or folders with objects at a place; also broken ones, which are to be named."""
        return []

    @staticmethod
    def read(root: str, files: list[str], images: str | None) -> Annotated:
        """The objects in what `find` gave. Raises UserError or DataError where nothing can be read."""
        raise NotImplementedError

    @staticmethod
    def holds_maps(place: Path) -> bool:
        """True if `maps` can open what is at `place`; says nothing about whether it is sound."""
        return False

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        """The classes of pixels at a place. images: their folder; legend: the classes, if somebody named them."""
        raise NotImplementedError


def forms() -> dict[str, type[Form]]:
    """All forms by name."""
    return {name: registry.find(PARTS, name) for name in registry.names(PARTS)}
