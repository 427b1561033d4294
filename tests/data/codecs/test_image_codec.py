"""Every kind of file becomes the right pixels, or one short reason."""

import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps
from support.encoding import NOISE, SMOOTH, encoded, last, tiff

from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage


@pytest.fixture(autouse=True)
def no_warning_may_leak():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "QOI", "PCX", "WEBP", "JPEG2000"])
def test_lossless_colour_files_keep_every_value(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode(encoded(NOISE, kind, **options))
    assert (last(image.pixels) == NOISE).all()
    assert image.pixels.dtype == torch.uint8
    assert (image.format, image.size, image.mode, image.bits) == (kind, (37, 53), "RGB", 8)
    assert image.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_grey_stays_one_channel(kind):
    assert decode(encoded(NOISE[..., 0], kind)).pixels.shape == (1, 37, 53)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_becomes_black_and_white(kind):
    bits = NOISE[..., 0] > 127
    image = decode(encoded(Image.fromarray(bits), kind))
    assert (image.pixels[0].numpy() == bits * 255).all()
    assert image.bits == 1


def test_palettes_become_colour():
    palette = Image.fromarray(NOISE).quantize(16)
    image = decode(encoded(palette))
    assert image.mode == "P"
    assert (last(image.pixels) == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode):
    source = Image.new("RGB", (8, 8), (200, 30, 60))
    if mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        stored = ImageCms.profileToProfile(source, rgb, lab, outputMode="LAB")
    else:
        stored = source.convert(mode)
    image = decode(encoded(stored, "TIFF"))
    assert image.pixels.shape == (3, 8, 8)
    assert (image.pixels[:, 4, 4].float() - torch.tensor([200.0, 30, 60])).abs().max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_composited_on_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = decode(encoded(Image.new("RGBA", (5, 4), (255, 0, 100, 51)), kind, **options))
    assert image.pixels[:, 0, 0].tolist() == [255, 204, 224]
    assert image.notes == ("alpha composited on white",)


def test_opaque_alpha_is_dropped_without_a_note():
    image = decode(encoded(Image.new("RGBA", (5, 4), (9, 8, 7, 255))))
    assert image.pixels[:, 0, 0].tolist() == [9, 8, 7]
    assert image.notes == ()


def test_grey_with_alpha_stays_grey():
    image = decode(encoded(Image.new("LA", (5, 4), (0, 51))))
    assert image.pixels.shape == (1, 4, 5)
    assert image.pixels.unique().tolist() == [204]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_one_transparent_colour_becomes_white(mode):
    value = {"1": 0, "L": 7, "P": 0, "RGB": (1, 2, 3)}[mode]
    source = Image.new("RGB", (5, 4), "blue").quantize(2) if mode == "P" else Image.new(mode, (5, 4), value)
    image = decode(encoded(source, transparency=value))
    assert (image.pixels == 255).all()


def test_16_bit_grey_png_keeps_all_levels():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = decode(encoded(levels))
    assert image.pixels.dtype == torch.float32
    assert image.bits == 16
    assert np.array_equal((image.pixels[0].double() * 257).round().numpy(), levels)
    assert image.pixels.max() == 255


@pytest.mark.parametrize("write", ["png", "tiff", "packed tiff", "tiff in planes"])
def test_16_bit_colour_keeps_all_levels_in_the_right_order(write):
    levels = np.random.default_rng(1).integers(0, 65536, (21, 17, 3), dtype=np.uint16)
    data = {
        "png": lambda: cv2.imencode(".png", levels[..., ::-1])[1].tobytes(),
        "tiff": lambda: tiff(levels, photometric="rgb"),
        "packed tiff": lambda: tiff(levels, photometric="rgb", compression="zlib", predictor=True, tile=(16, 16)),
        "tiff in planes": lambda: tiff(np.moveaxis(levels, -1, 0), photometric="rgb", planarconfig="separate"),
    }[write]()
    image = decode(data)
    assert np.array_equal((last(image.pixels.double()) * 257).round(), levels)


def test_16_bit_colour_with_alpha_is_composited():
    levels = np.zeros((4, 5, 4), np.uint16)
    levels[..., 3] = 65535 // 5
    image = decode(cv2.imencode(".png", levels)[1].tobytes())
    assert image.pixels.shape == (3, 4, 5)
    assert image.pixels.unique().tolist() == [204]
    assert image.notes == ("alpha composited on white",)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 2, 4, 10])
def test_tiffs_of_any_depth_and_number_of_bands(dtype, bands):
    values = (np.random.default_rng(2).random((19, 23, bands)) * 100).astype(dtype)
    expected = values / (257 if dtype == "uint16" else 1)
    if bands == 1:
        assert np.allclose(last(decode(tiff(values[..., 0], photometric="minisblack")).pixels), expected)
        return
    together = tiff(values, photometric="minisblack", planarconfig="contig")
    apart = tiff(np.moveaxis(values, -1, 0), photometric="minisblack", planarconfig="separate")
    for data in (together, apart):
        assert np.allclose(last(decode(data).pixels), expected)


def test_lzw_tiff_with_many_bands_needs_no_further_package():
    values = np.random.default_rng(3).normal(size=(12, 7, 6)).astype(np.float32)
    rows = Image.frombytes("L", (12 * 7 * 6 * 4, 1), values.tobytes())
    packed = encoded(rows, "TIFF", compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(packed)) as file:
        page = file.pages[0]
        strip = packed[page.dataoffsets[0] : page.dataoffsets[0] + page.databytecounts[0]]
    data = io.BytesIO(tiff(values, photometric="minisblack", planarconfig="contig", rowsperstrip=12))
    with tifffile.TiffFile(data, mode="r+") as file:
        tags = file.pages[0].tags
        tags["StripOffsets"].overwrite([data.seek(0, io.SEEK_END)])
        tags["StripByteCounts"].overwrite([data.write(strip)])
        tags["Compression"].overwrite(5)
    assert np.array_equal(last(decode(data.getvalue()).pixels), values)


def test_floating_point_predictor_is_undone():
    values = np.random.default_rng(4).normal(size=(12, 7, 3)).astype(np.float32)
    planes = values.astype(">f4").view(np.uint8).reshape(12, 21, 4).transpose(0, 2, 1).reshape(12, 28, 3)
    steps = np.diff(planes, axis=1, prepend=np.zeros((12, 1, 3), np.uint8))
    data = io.BytesIO(tiff(values, photometric="rgb", compression="zlib", predictor=False, rowsperstrip=12))
    with tifffile.TiffFile(data, mode="r+") as file:
        offset = data.seek(0, io.SEEK_END)
        count = data.write(zlib.compress(steps.astype(np.uint8).tobytes()))
        directory = file.pages[0].offset
    plain = bytearray(data.getvalue())
    number = struct.unpack_from("<H", plain, directory)[0]
    entries = [list(struct.unpack_from("<HHII", plain, directory + 2 + 12 * i)) for i in range(number)]
    for entry in entries:
        entry[3] = {273: offset, 279: count}.get(entry[0], entry[3])
        entry[1] = {273: 4, 279: 4}.get(entry[0], entry[1])
    entries = sorted([e for e in entries if e[0] != 317] + [[317, 3, 1, 3]])
    start = len(plain)
    plain += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    struct.pack_into("<I", plain, 4, start)
    assert np.array_equal(last(decode(bytes(plain)).pixels), values)


def test_float_values_stay_as_they_are_and_holes_become_zero():
    values = np.array([[-5.5, np.nan], [1e6, np.inf]], np.float32)
    image = decode(tiff(values))
    assert image.pixels.tolist() == [[[-5.5, 0], [1e6, 0]]]
    assert image.notes == ("non-finite values set to 0",)
    with pytest.raises(BadImage, match="no finite value"):
        decode(np.full((3, 3), np.nan))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(SMOOTH, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    pixels = decode(data)
    assert (last(pixels.pixels) == expected).all()
    assert pixels.size == expected.shape[:2]
    assert pixels.size == ((60, 40) if orientation >= 5 else (40, 60))
    if kind != "TIFF":
        assert pixels.notes == (("rotated by EXIF",) if orientation > 1 else ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_tiffs_is_applied_as_of_others(orientation):
    deep = tiff(SMOOTH.astype(np.float32), photometric="rgb", extratags=[(274, "H", 1, orientation, False)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert torch.equal(decode(deep).pixels, decode(encoded(SMOOTH, "PNG", exif=exif)).pixels.float())


def test_damaged_exif_is_no_reason_to_lose_a_image():
    data = encoded(SMOOTH, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xffgarbage")
    assert decode(data).size == (40, 60)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert image.pixels[:, 3, 3].tolist() == [255, 0, 0]
    assert image.notes == ("first of 3 frames",)


@pytest.mark.parametrize("deep", [False, True])
def test_a_large_image_shrinks_with_antialiasing(deep):
    """Lines of one pixel become their average; without antialiasing they would become black, white or stripes."""
    lines = np.zeros((120, 123), np.uint16 if deep else np.uint8)
    lines[:, ::3] = 60_000 if deep else 240
    pixels = decode(lines, max_side=20).pixels.float()
    assert pixels.shape[1] == 20
    middle = pixels[..., 3:-3]
    assert (middle - (60_000 / 257 if deep else 240) / 3).abs().max() < 12
