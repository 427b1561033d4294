"""Files cut short, told from their own structure: the lengths that containers state against those that files have.

Decoders rarely mind: they play what there is. ISO 14496-12 (MP4, MOV), RFC 8794 (EBML: MKV, WebM), Microsoft's RIFF
(AVI, WAV), GIF89a, RFC 3533 (Ogg), and Xing's header (MP3).
"""

import os
from io import BufferedIOBase

UNSTATED = (0, 0xFFFFFFFF)  # lengths in RIFF of recordings that were written to a pipe, or interrupted


def cut_short(file: BufferedIOBase, form: str, length: int) -> str | None:
    """Why a file of `length` bytes ends early, or None. form: as `video_format` or `audio_format` name it."""
    walk = {"mov": _boxes, "matroska": _segment, "avi": _riff, "WAV": _riff, "gif": _gif, "OGG": _pages, "MP3": _xing}
    file.seek(0)
    return walk[form](file, length) if form in walk else None


def _boxes(file: BufferedIOBase, length: int) -> str | None:
    place, kinds = 0, set()
    while place + 8 <= length:
        file.seek(place)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        size = int.from_bytes(head[8:], "big") if size == 1 else size
        kinds.add(kind)
        if size < 8:  # 0: to the end of the file; others: no box
            break
        if place + size > length and kind.isalpha():
            return f"truncated: {place + size - length:,} bytes are missing"
        place += size
    return None if kinds & {b"moov", b"moof"} else "truncated: its index (moov) is missing"


def _segment(file: BufferedIOBase, length: int) -> str | None:
    file.seek(4)
    size, _ = _number(file)
    file.seek(size, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return None
    size, known = _number(file)
    missing = file.tell() + size - length
    return f"truncated: {missing:,} bytes are missing" if known and missing > 0 else None


def _number(file: BufferedIOBase) -> tuple[int, bool]:
    """EBML's integers of 1 to 8 bytes, and False for the one that stands for an unknown length."""
    first = (file.read(1) or b"\1")[0]
    extra = 8 - first.bit_length()
    value = int.from_bytes(bytes([first & (0x7F >> extra)]) + file.read(extra), "big")
    return value, value != (1 << 7 * (extra + 1)) - 1


def _riff(file: BufferedIOBase, length: int) -> str | None:
    order = "big" if file.read(4) == b"RIFX" else "little"
    place = 0
    while place + 8 <= length:
        file.seek(place)
        head = file.read(8)
        size = int.from_bytes(head[4:], order)
        if head[:3] != b"RIF" or size in UNSTATED:
            return None
        if place + 8 + size > length + 1:  # the byte that makes a chunk even is left out by some
            return f"truncated: {place + 8 + size - length:,} bytes are missing"
        place += 8 + size + size % 2
    return None


def _gif(file: BufferedIOBase, length: int) -> str | None:
    return None if _gif_blocks(file.read())[1] else "truncated"


def gif_frames(data: bytes) -> int:
    """How many pictures a GIF holds: one is an image, more are a clip."""
    return _gif_blocks(data)[0]


def _gif_blocks(data: bytes) -> tuple[int, bool]:
    """The number of pictures, and whether the last block is whole."""
    place, count = 13, 0
    if len(data) > 10 and data[10] & 0x80:
        place += 3 << (data[10] & 7) + 1  # the table of colours
    while place < len(data):
        kind = data[place]
        if kind not in (0x2C, 0x21):  # the end (0x3B), or what players take for it
            return count, True
        if kind == 0x2C:
            flags = data[place + 9] if place + 9 < len(data) else 0
            place += 11 + ((3 << (flags & 7) + 1) if flags & 0x80 else 0)
        else:
            place += 2
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
        count += kind == 0x2C and place <= len(data)
    return count, place == len(data)


def _pages(file: BufferedIOBase, length: int) -> str | None:
    """The last page of Ogg, which says how long it is: at most 65,307 bytes."""
    file.seek(max(0, length - 65_307))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return "truncated"
    segments = page[27 : 27 + page[26]]
    return "truncated" if len(page) < 27 + page[26] + sum(segments) else None


def _xing(file: BufferedIOBase, length: int) -> str | None:
    """The number of bytes that encoders write into the first frame of an MP3."""
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(head[6:10]))
    file.seek(start)
    frame = file.read(256)
    place = max(frame.find(b"Xing"), frame.find(b"Info"))
    if place < 0 or not frame[place + 7] & 2:
        return None
    place += 8 + 4 * (frame[place + 7] & 1)
    missing = start + int.from_bytes(frame[place : place + 4], "big") - length
    return f"truncated: {missing:,} bytes are missing" if missing > 0 else None
