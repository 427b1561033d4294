"""Files cut short, told from their own structure: the lengths that containers state against those that files have.

Decoders rarely mind: they play what there is. ISO 14496-12 (MP4, MOV), RFC 8794 (EBML: MKV, WebM), Microsoft's RIFF
(AVI, WAV), GIF89a, RFC 3533 (Ogg), and Xing's header (MP3).
"""

import os
from collections.abc import Iterator
from io import BufferedIOBase

MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)  # kbit/s by a frame's index, layer III
MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
UNSTATED = (0, 0xFFFFFFFF)  # lengths in RIFF of recordings that were written to a pipe, or interrupted


def cut_short(file: BufferedIOBase, form: str, length: int) -> str | None:
    """Why a file of `length` bytes ends early, or None. form: as `video_format` or `audio_format` name it."""
    walk = {"mov": _boxes, "matroska": _segment, "avi": _riff, "WAV": _riff, "gif": _gif, "OGG": _pages, "MP3": _mp3}
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
    size, is_stated = _number(file)
    missing = file.tell() + size - length
    return f"truncated: {missing:,} bytes are missing" if is_stated and missing > 0 else None


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
        if place + size > length:  # some count the head's 8 bytes, or leave out the one that makes chunks even
            return f"truncated: {place + 8 + size - length:,} bytes are missing"
        place += 8 + size + size % 2
    return None


def _gif(file: BufferedIOBase, length: int) -> str | None:
    return None if _gif_blocks(file.read())[1] else "truncated"


def gif_frames(data: bytes) -> int:
    """How many pictures a GIF holds: one is an image, more are a clip."""
    return _gif_blocks(data)[0]


def _gif_blocks(data: bytes) -> tuple[int, bool]:
    """The number of pictures, and whether all blocks up to the trailer are there."""
    place, count = 13, 0
    if len(data) > 10 and data[10] & 0x80:
        place += 3 << (data[10] & 7) + 1  # the table of colours
    while place < len(data):
        kind = data[place]
        if kind == 0:  # between blocks, some writers leave one
            place += 1
            continue
        if kind not in (0x2C, 0x21):  # the trailer (0x3B), or what players take for it
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
    return count, False


def _pages(file: BufferedIOBase, length: int) -> str | None:
    """The last page of Ogg, which says how long it is: at most 65,307 bytes."""
    file.seek(max(0, length - 65_307))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return "truncated"
    segments = page[27 : 27 + page[26]]
    return "truncated" if len(page) < 27 + page[26] + sum(segments) else None


def _mp3(file: BufferedIOBase, length: int) -> str | None:
    """The number of bytes that encoders write into the first frame (Xing, Info). Without it, decoders take the length
    from the first frame's bit rate, and would lose the end of a file whose rate varies."""
    data = file.read()
    start = 0
    if data[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << 7 * (3 - place) for place, byte in enumerate(data[6:10]))
    place = max(data.find(kind, start, start + 256) for kind in (b"Xing", b"Info"))
    if place >= 0 and len(data) > place + 16:
        if not data[place + 7] & 2:
            return None
        place += 8 + 4 * (data[place + 7] & 1)
        missing = start + int.from_bytes(data[place : place + 4], "big") - length
        return f"truncated: {missing:,} bytes are missing" if missing > 0 else None
    sizes = set(_frame_sizes(data, start))
    if sizes and max(sizes) > 1.2 * min(sizes):
        return "an MP3 of variable bit rate that does not state its length: convert it"
    return None


def _frame_sizes(data: bytes, place: int) -> Iterator[int]:
    """Bytes of each frame of an MP3 (layer III), as far as frames follow each other."""
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] & 0xE6 == 0xE2:
        first = data[place + 1] & 0x18 == 0x18  # MPEG-1; else 2 or 2.5
        kilobits = (MPEG1 if first else MPEG2)[data[place + 2] >> 4]
        slow = {0x18: 0, 0x10: 1, 0x00: 2}.get(data[place + 1] & 0x18)
        if not kilobits or slow is None or data[place + 2] & 0x0C == 0x0C:
            return
        rate = (44100, 48000, 32000)[data[place + 2] >> 2 & 3] >> slow
        size = (144 if first else 72) * 1000 * kilobits // rate + (data[place + 2] >> 1 & 1)
        yield size
        place += size
