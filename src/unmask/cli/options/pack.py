"""`unmask pack DATA OUT.pack`: images made quick to read, once."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Interval
from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.errors import UserError
from unmask.plain import ImagePlaces, Place, PositiveInt, check_fields, settle, texts

__all__ = ["Packing"]


@dataclass(frozen=True)
class Packing(ConfigOption):
    """Pack images into few large files that are quick to read.

    A pack is data for every other command.
    """

    # images: whatever pretrain takes, other packs included; the last argument is the folder to write
    data: Positional[ImagePlaces]
    out: Place | None = (
        None  # folder of the pack, usually ending in .pack; by default the last argument; repeat to continue
    )
    _: KW_ONLY
    # jpeg: shrunk and compressed; original: the files as they are; raw: shrunk, uncompressed pixels
    format: Literal["jpeg", "original", "raw"] = "jpeg"
    # pixels that the shorter side of larger images is shrunk to; by default 256
    size: Annotated[int, Ge(2)] | None = None
    quality: Annotated[int, Interval(ge=1, le=95)] | None = None  # quality of JPEG, 1 to 95; by default 90
    shard_mb: PositiveInt = 256  # size in MB after which a new file is begun
    threads: PositiveInt | None = None  # threads that read and shrink; by default one per core

    def __post_init__(self):
        settle(self, "data", texts(self.data))
        if self.out is None:
            places = texts(self.data)
            settle(self, "out", places[-1] if places else "")
            settle(self, "data", places[:-1])
        settle(self, "out", Path(str(self.out)))
        if not self.data:
            raise UserError("say what to pack and where to: unmask pack DATA OUT.pack")
        if self.format == "original" and self.size is not None:
            raise UserError("--format original keeps files as they are: leave out --size, or take jpeg or raw")
        if self.format != "jpeg" and self.quality is not None:
            raise UserError(f"--quality belongs to --format jpeg, not to {self.format}")
        if self.format not in ("jpeg", "original", "raw"):
            raise UserError(f"no format {self.format!r}; there are jpeg, original, raw")
        check_fields(self)
