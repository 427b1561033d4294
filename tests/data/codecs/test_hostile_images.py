"""Images that claim or unpack to more than they are take neither memory nor time."""

import lzma
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from support.hostile import little

from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff_of(height, width, compression, packed, rows):
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, compression), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, rows), (279, 4, len(packed))]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    packed += b"\0" * (len(packed) % 2)
    return struct.pack("<2sHI", b"II", 42, 8 + len(packed)) + packed + struct.pack("<H", 9) + directory + bytes(4)


@pytest.mark.slow
def test_images_that_claim_or_unpack_to_more_than_they_are_take_no_memory():
    bomb = zlib.compress(bytes(400 << 20))
    header = struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 8, 2, 0, 0, 0)
    many = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    files = [
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bomb[:1000]) + chunk(b"IEND", b""),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", many) + chunk(b"zTXt", b"a\0\0" + bomb) + chunk(b"IEND", b""),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", many) + chunk(b"iCCP", b"a\0\0" + bomb) + chunk(b"IEND", b""),
        tiff_of(1 << 30, 1 << 30, 8, bomb[:1000], 1 << 30),
        tiff_of(170_000_000, 1, 8, bomb[:1000], 1),
        tiff_of(64, 64, 8, bomb, 64),
        tiff_of(64, 64, 34925, lzma.compress(bytes(400 << 20)), 64),
        tiff_of(64, 64, 1, bytes(100), 64),
        struct.pack("<2sIHHI", b"BM", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 1 << 30, 1 << 30, 1, 24, *(0,) * 6),
    ]
    for data in files:
        with little(), pytest.raises(BadImage):
            decode(data)


def test_packed_tiffs_are_read_as_before(tmp_path):
    values = np.random.default_rng(0).integers(0, 60_000, (40, 30, 5), np.uint16)
    for options in ({"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"compression": "lzma"}):
        for layout in (
            {"tile": (16, 16), "planarconfig": "contig"},
            {"rowsperstrip": 7, "planarconfig": "contig"},
            {"rowsperstrip": 7, "planarconfig": "separate"},
        ):
            array = values.transpose(2, 0, 1) if layout["planarconfig"] == "separate" else values
            tifffile.imwrite(tmp_path / "x.tif", array, photometric="minisblack", **options, **layout)
            pixels = decode((tmp_path / "x.tif").read_bytes()).pixels
            assert torch.equal(pixels, torch.from_numpy(values.transpose(2, 0, 1).astype(np.float32) / np.float32(257)))
