"""TIFF and BMP that Pillow refuses or gets wrong, written by hand from their specifications."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from support.encoding import last

from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage

H, W = 17, 23
CHANCE = np.random.default_rng(0)
SHADES = CHANCE.integers(0, 1 << 16, (H, W, 4))  # 16-bit


def bits_of(values, bits):
    """Rows of numbers as rows of whole bytes, the highest bit first."""
    digits = (values.reshape(len(values), -1)[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def tiff_of(strips, bits, photometric=1, bands=1, compression=1, order="<", height=H, width=W, **more):
    """A TIFF with these strips, tag by tag."""
    tags = {256: [width], 257: [height], 258: [bits] * bands, 259: [compression], 262: [photometric], 277: [bands]}
    tags |= {278: [-(-height // len(strips))], 284: [1]} | {int(tag[1:]): value for tag, value in more.items()}
    starts = np.cumsum([8, *map(len, strips)]).tolist()
    tags |= {273: starts[:-1], 279: [len(strip) for strip in strips]}
    body, extra, end = b"", b"", starts[-1] + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}I", *values)
        body += struct.pack(f"{order}HHI", tag, 4, len(values))
        body += raw if len(raw) == 4 else struct.pack(f"{order}I", end + len(extra))
        extra += b"" if len(raw) == 4 else raw
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, starts[-1])
    return head + b"".join(strips) + struct.pack(f"{order}H", len(tags)) + body + bytes(4) + extra


def values_of(data):
    """h w c, 0..255."""
    return last(decode(data).pixels).astype(float)


@pytest.mark.parametrize("bits", [3, 6, 9, 10, 12, 14, 15])
def test_tiff_of_any_depth_up_to_16_bits_is_brought_to_one_scale(bits):
    grey = SHADES[..., 0] >> (16 - bits)
    right = grey * 255.0 / ((1 << bits) - 1)
    raw, parts = bits_of(grey, bits), [bits_of(grey[:9], bits), bits_of(grey[9:], bits)]
    mirrored = np.packbits(np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")).tobytes()
    for data in (
        tiff_of([raw], bits),
        tiff_of(parts, bits, order=">"),
        tiff_of([zlib.compress(raw)], bits, compression=8),
        tiff_of([mirrored], bits, t266=[2]),
    ):
        assert decode(data).bits == bits
        np.testing.assert_allclose(values_of(data)[..., 0], right, atol=0.51)
    np.testing.assert_allclose(values_of(tiff_of([raw], bits, 0))[..., 0], 255 - right, atol=0.51)
    colour = SHADES[..., :3] >> (16 - bits)
    right = colour * 255.0 / ((1 << bits) - 1)
    planes = [bits_of(colour[..., band], bits) for band in range(3)]
    np.testing.assert_allclose(values_of(tiff_of([bits_of(colour, bits)], bits, 2, 3)), right, atol=0.51)
    apart = tiff_of(planes, bits, 2, 3, t284=[2], t278=[H])
    np.testing.assert_allclose(values_of(apart), right, atol=0.51)


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_in_tiff_straight_and_premultiplied_at_8_and_16_bits(dtype, planes):
    top = np.iinfo(dtype).max
    share = SHADES[..., 3:] / 65535
    colour = SHADES[..., :3] / 65535
    right = 255 * (colour * share + 1 - share)
    for kind, stored in (("unassalpha", colour), ("assocalpha", colour * share)):
        values = np.round(np.concatenate([stored, share], -1) * top).astype(dtype)
        values = values if planes == "contig" else np.ascontiguousarray(values.transpose(2, 0, 1))
        file = io.BytesIO()
        tifffile.imwrite(file, values, photometric="rgb", extrasamples=[kind], planarconfig=planes)
        np.testing.assert_allclose(values_of(file.getvalue()), right, atol=2)


def test_cmyk_of_16_bits_becomes_colour_as_that_of_8_bits_does():
    file = io.BytesIO()
    tifffile.imwrite(file, SHADES.astype(np.uint16), photometric="separated", planarconfig="contig")
    ink = SHADES / 65535
    np.testing.assert_allclose(values_of(file.getvalue()), 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:]), atol=0.1)


@pytest.mark.parametrize(("compression", "kind"), [(50001, "WEBP"), (34712, "JPEG2000"), (34933, "PNG")])
@pytest.mark.parametrize("bands", [3, 4])
def test_strips_that_are_image_files_are_read(compression, kind, bands):
    image = np.arange(32 * 32 * bands, dtype=np.uint32).reshape(32, 32, bands).astype(np.uint8) | 1
    options = {"WEBP": {"lossless": True, "exact": True}, "JPEG2000": {"irreversible": False}}.get(kind, {})
    strips = []
    for half in (image[:16], image[16:]):
        file = io.BytesIO()
        Image.fromarray(half).save(file, kind, **options)
        strips.append(file.getvalue())
    more = {"t338": [0]} if bands == 4 else {}
    assert (values_of(tiff_of(strips, 8, 2, bands, compression, height=32, width=32, **more)) == image).all()


def lzw(raw):
    """Packed by the libtiff inside Pillow, as a row of grey."""
    file = io.BytesIO()
    Image.frombytes("L", (len(raw), 1), raw).save(file, "TIFF", compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as written:
        (start,), (count,) = written.pages.first.dataoffsets, written.pages.first.databytecounts
    return file.getvalue()[start : start + count]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [1, 3, 7])
@pytest.mark.parametrize("bits", [8, 16, 32])
def test_differences_along_a_packed_row_are_summed(bits, bands, order):
    values = CHANCE.integers(0, 1 << min(bits, 24), (H, W, bands)).astype(f"{order}u{bits // 8}")
    steps = np.diff(values, axis=1, prepend=np.zeros_like(values[:, :1])).astype(values.dtype)  # they wrap round
    data = tiff_of([lzw(steps.tobytes())], bits, bands=bands, compression=5, order=order, t317=[2])
    right = values.astype(np.float32) / np.float32(257 if bits == 16 else 1)
    assert np.array_equal(values_of(data).reshape(right.shape), right)


def test_a_16_bit_tiff_as_opencv_and_gdal_write_it_is_read():
    good, data = cv2.imencode(".tiff", SHADES[..., :3].astype(np.uint16))  # LZW of differences
    assert good
    assert np.array_equal(values_of(data.tobytes()), SHADES[..., 2::-1].astype(np.float32) / np.float32(257))


def test_a_packed_palette_has_its_own_colours_and_alpha():
    indices = CHANCE.integers(0, 256, (H, W, 2)).astype(np.uint8)
    colours = CHANCE.integers(0, 256, (3, 256))
    for scale in (256, 257):  # both are written for 8 bits
        t320 = (colours * scale).ravel().tolist()
        data = tiff_of([zlib.compress(indices[..., :1].tobytes())], 8, photometric=3, compression=8, t320=t320)
        assert np.array_equal(values_of(data), np.moveaxis(colours[:, indices[..., 0]], 0, -1))
    clear = tiff_of([lzw(indices.tobytes())], 8, photometric=3, bands=2, compression=5, t320=t320, t338=[2])
    alpha = indices[..., 1:] / 255
    right = np.moveaxis(colours[:, indices[..., 0]], 0, -1) * alpha + 255 * (1 - alpha)
    assert np.abs(values_of(clear) - right).max() < 0.51


def test_tiff_that_is_not_read_says_what_it_is():
    for data, words in (
        (tiff_of([b"abc"], 8, compression=34887), "compressed by LERC"),
        (tiff_of([bytes(6 * H * W)], 16, 8, 3), "CIELAB"),
        (tiff_of([bytes(3 * H * W)], 24, t339=[3]), "24 bits"),
        (tiff_of([b"\xff\xd8\xff"], 12, compression=7), "TIFF of 12-bit JPEG"),
    ):
        with pytest.raises(BadImage, match=f"{words}.*not (read here|supported)"):
            decode(data)


PALETTE = CHANCE.integers(0, 256, (256, 3), dtype=np.uint8)


def bmp_of(pixels, bits, compression=0, masks=(), header=40, palette=PALETTE, colours=0, top_down=False):
    """A BMP: masks lie in headers above 40 bytes, else behind."""
    height = -H if top_down else H
    head = struct.pack("<IiiHHIIiiII", header, W, height, 1, bits, compression, len(pixels), 0, 0, colours, 0)
    fields = struct.pack(f"<{len(masks)}I", *masks)
    head += fields.ljust(header - 40, b"\0") if header > 40 else fields
    table = b"".join(bytes(colour[::-1]) + b"\0" for colour in palette) if bits <= 8 else b""
    begin = 14 + len(head) + len(table)
    return struct.pack("<2sIHHI", b"BM", begin + len(pixels), 0, 0, begin) + head + table + pixels


def rows_of(values, bits):
    """Rows from the bottom up, padded to 4 bytes."""
    rows = [bits_of(row[None], bits) if bits < 8 else row.tobytes() for row in values[::-1]]
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


@pytest.mark.parametrize(
    ("bits", "header", "masks"),
    [
        (16, 40, (0xF800, 0x7E0, 0x1F)),
        (16, 40, (0xF00, 0xF0, 0xF)),
        (16, 40, (0x1F, 0x7E0, 0xF800)),
        (16, 124, (0x7C00, 0x3E0, 0x1F, 0x8000)),
        (16, 108, (0xF00, 0xF0, 0xF, 0xF000)),
        (32, 40, (0xFF, 0xFF00, 0xFF0000)),
        (32, 40, (0xFFE00000, 0x1FFC00, 0x3FF)),
        (32, 56, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
        (32, 124, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    ],
)
def test_bmp_with_any_bit_fields(bits, header, masks):
    stored, parts = np.zeros((H, W), np.uint64), []
    for mask in masks:
        shift = (mask & -mask).bit_length() - 1
        part = CHANCE.integers(0, (mask >> shift) + 1, (H, W)).astype(np.uint64)
        stored |= part << np.uint64(shift)
        parts.append(part / (mask >> shift))
    share = parts[3][..., None] if len(parts) == 4 else 1
    right = 255 * (np.stack(parts[:3], -1) * share + 1 - share)
    data = bmp_of(rows_of(stored.astype(f"<u{bits // 8}"), bits), bits, 3, masks, header)
    np.testing.assert_allclose(values_of(data), right, atol=1.1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_bmp_palettes_of_any_depth_and_length(bits):
    indices = CHANCE.integers(0, 1 << bits, (H, W), dtype=np.uint8)
    for palette in (PALETTE[: 1 << bits], np.concatenate([PALETTE, PALETTE])):
        data = bmp_of(rows_of(indices, bits), bits, palette=palette, colours=len(palette))
        assert (values_of(data) == PALETTE[indices]).all()
        turned = bmp_of(rows_of(indices[::-1], bits), bits, palette=palette, colours=len(palette), top_down=True)
        assert (values_of(turned) == PALETTE[indices]).all()
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    assert values_of(bmp_of(rows_of(indices, bits), bits, palette=grey)).shape == (H, W, 1)


def test_run_lengths_of_bmp_may_pass_over_pixels():
    right = np.zeros((H, W), np.uint8)
    right[-1, :2], right[-3, 3:5] = 1, (5, 6)
    runs = bytes([2, 1, 0, 2, 1, 2, 1, 5, 1, 6, 0, 1])  # two of 1; 1 to the right and 2 up; 5, 6; the end
    assert (values_of(bmp_of(runs, 8, 1)) == PALETTE[right]).all()


def test_bmp_around_a_jpeg_or_png_file_is_what_lies_inside():
    image = SHADES[..., :3].astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    assert (values_of(bmp_of(file.getvalue(), 24, 5)) == image).all()


def test_a_clear_grey_in_16_bit_png_is_white():
    grey = SHADES[..., 0].astype(np.uint16)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", W, H, 16, 0, 0, 0, 0), b"tRNS": grey[0, :1].astype(">u2").tobytes()}
    chunks |= {b"IDAT": zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)), b"IEND": b""}
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in chunks.items()
    )
    right = np.where(grey == grey[0, 0], 255, grey / 257)
    np.testing.assert_allclose(values_of(data)[..., 0], right, atol=0.01)
