"""One image file given by itself, as in `unmask show RUN photo.jpg`."""

import os

from unmask.data.codecs.signature import sniff
from unmask.data.labels import is_image_name, printable
from unmask.data.source import Item, Source, read_regular

__all__ = ["One"]


class One(Source):
    def __init__(self, path: str):
        super().__init__(path)
        self.file = os.path.abspath(os.path.expanduser(path))
        self.items = [Item(printable(os.path.basename(self.file)))]

    @classmethod
    def accepts(cls, path: str) -> bool:
        """A known image extension, even on a file that cannot be read, or an image under another name."""
        path = os.path.expanduser(path)
        if os.path.isdir(path) or not os.path.lexists(path):
            return False
        if is_image_name(path):
            return True
        if not os.path.isfile(path):
            return False
        try:
            with open(path, "rb") as file:
                return sniff(file.read(32)) is not None
        except OSError:
            return False

    def read(self, index: int) -> bytes:
        return read_regular(self.file)
