"""Tells scenes from other images, and stacks of pages, by the tags of a file, some of which lie at its end."""

import io
import re
import struct

from unmask.data.codecs.signature import HEAD

_SAMPLE_FORMAT = 339
_ON_EARTH = {33550, 33922, 34264, 34735}  # GeoTIFF's scale, points, transform and keys
_SCENES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"EHFA", b"NITF", b"NSIF", b"\0\0\0\x0c")  # may be
_GEOJP2 = bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03")


class Head(bytes):
    """A file's first `HEAD` bytes, and whether it is a scene, which may show further on only."""

    scene: bool = False

    @classmethod
    def of(cls, file: io.BufferedIOBase) -> "Head":
        """Of an open file, from its first byte on."""
        head = cls(file.read(HEAD))
        if head[:4] in _SCENES:
            file.seek(0)
            head.scene = _is_scene(file)
        return head


def tiff_kind(source: str | bytes) -> str | None:
    """Of a TIFF, by the tags of its first two pages: "scene" if it lies on the Earth, has more than four bands or
    values that are no whole numbers, "stack" if it has several pages of one size, else "image". None of other files,
    and of TIFF whose tags lie beyond the bytes that were given."""
    try:
        with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
            return _tiff_kind(file)
    except (struct.error, OSError):
        return None


def is_scene(source: str | bytes) -> bool:
    """A file that lies on the Earth by its first 64 KiB: TIFF, JPEG 2000, ERDAS, NITF; or a TIFF of many bands, or of
    real numbers."""
    try:
        with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
            return _is_scene(file)
    except OSError:
        return False


def _is_scene(file: io.BufferedIOBase) -> bool:
    head = file.read(1 << 16)
    if head.startswith((b"EHFA_HEADER_TAG", b"NITF0", b"NSIF0")):
        return True
    if head.startswith(b"\0\0\0\x0cjP  "):
        return _GEOJP2 in head or b"gml.data" in head
    file.seek(0)
    try:
        return _tiff_kind(file) == "scene"
    except struct.error:
        return False


def _tiff_kind(file: io.BufferedIOBase) -> str | None:
    """Raises struct.error at the end of the file."""
    start = file.read(16)
    mark = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = struct.unpack_from(f"{mark}H", start, 2)[0] if mark else 0
    if version not in (42, 43):
        return None
    place = struct.unpack_from(f"{mark}I" if version == 42 else f"{mark}Q", start, 4 if version == 42 else 8)[0]
    sizes: list[tuple[int, int]] = []
    single = "image"  # what it is, unless it has several pages of one size
    for _ in range(16):  # pages that are smaller copies or masks are passed over
        if not place:
            break
        tags, place = _tags(file, place, str(mark), version)
        if not sizes and (tags.keys() & _ON_EARTH or tags.get(277, 1) > 4):
            return "scene"
        if not sizes and tags.get(_SAMPLE_FORMAT) == 3:
            single = "scene"
        if not sizes and 270 in tags and _num_images(file, tags[270]) > 1:  # ImageJ writes one page for all
            return "stack"
        if not tags.get(254, 0) & 5:
            sizes.append((tags.get(256, 0), tags.get(257, 0)))
        if len(sizes) == 2:
            return "stack" if sizes[0] == sizes[1] else single
    return single


def _tags(file: io.BufferedIOBase, place: int, mark: str, version: int) -> tuple[dict[int, int], int]:
    """A page's tags, each with its first value or where its values lie; and where the next page's are."""
    head, entry, offset = ("H", 12, "I") if version == 42 else ("Q", 20, "Q")
    file.seek(place)
    count = struct.unpack(mark + head, file.read(struct.calcsize(head)))[0]
    if count > 4096:
        raise struct.error("too many tags")
    body = file.read(count * entry + struct.calcsize(offset))
    tags = {}
    for n in range(count):
        tag, kind, many = struct.unpack_from(f"{mark}HH{offset}", body, n * entry)
        inside = kind == 3 and 2 * many <= struct.calcsize(offset)
        form = "H" if inside else offset
        tags[tag] = struct.unpack_from(mark + form, body, n * entry + 4 + struct.calcsize(offset))[0]
        if tag == _SAMPLE_FORMAT and not inside:
            file.seek(tags[tag])
            tags[tag] = struct.unpack(f"{mark}H", file.read(2))[0]
    return tags, struct.unpack_from(mark + offset, body, count * entry)[0]


def _num_images(file: io.BufferedIOBase, place: int) -> int:
    """How many images ImageJ's description at a place speaks of; 1 without one."""
    file.seek(place)
    match = re.match(rb"ImageJ=[^\0]*?\nimages=(\d{1,9})", file.read(256))
    return int(match[1]) if match else 1
