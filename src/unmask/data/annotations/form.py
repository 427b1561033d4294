"""The contract of annotation forms: finding and reading their files. Each part in `formats/` handles one form."""

from pathlib import Path
from typing import ClassVar

from unmask import registry
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.maps import Maps
from unmask.data.annotations.objects import Annotated

PARTS = "annotations"


class Form:
    """Parts override the methods for what their form holds: objects (`find` and `read`), classes of pixels
    (`holds_maps` and `maps`), or both. By default, maps are the rasterised outlines of objects."""

    form: ClassVar[str]
    takes: ClassVar[str | None] = None  # what its files look like; None where it tells no objects

    @staticmethod
    def find(root: str) -> list[str]:
        """Files or folders with objects at a place; broken ones too, so that they are reported."""
        return []

    @staticmethod
    def read(root: str, files: list[str], images: str | None) -> Annotated:
        """The objects in the files from `find`. Raises UserError or DataError if nothing can be read."""
        raise NotImplementedError

    @staticmethod
    def holds_maps(place: Path) -> bool:
        """True if `maps` can open `place`; its files may still be damaged."""
        return False

    @staticmethod
    def maps(place: Path, images: Path | None, legend: Legend | None) -> Maps:
        """The class maps at a place. images: their folder; legend: the classes, if given."""
        raise NotImplementedError


def forms() -> dict[str, type[Form]]:
    """All forms by name."""
    return {name: registry.find(PARTS, name) for name in registry.names(PARTS)}
