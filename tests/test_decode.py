"""Every kind of file becomes the right pixels, or one short reason."""

import io
import struct
import threading
import warnings
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps, features

from unmask.decode import MAX_PIXELS, BadPicture, decode, to_channels
from unmask.signature import sniff

NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
SMOOTH = np.stack([np.add.outer(np.arange(40) * a, np.arange(60) * b) % 251 for a, b in ((3, 1), (1, 2), (2, 3))], -1)
SMOOTH = SMOOTH.astype(np.uint8)


def encoded(picture, kind="PNG", **options):
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def last(pixels):
    """c h w -> h w c, as NumPy."""
    return pixels.permute(1, 2, 0).numpy()


@pytest.fixture(autouse=True)
def no_warning_may_leak():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "QOI", "PCX", "WEBP", "JPEG2000"])
def test_lossless_colour_files_keep_every_value(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode(encoded(NOISE, kind, **options))
    assert (last(picture.pixels) == NOISE).all()
    assert picture.pixels.dtype == torch.uint8
    assert (picture.format, picture.size, picture.mode, picture.bits) == (kind, (37, 53), "RGB", 8)
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_grey_stays_one_channel(kind):
    assert decode(encoded(NOISE[..., 0], kind)).pixels.shape == (1, 37, 53)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_becomes_black_and_white(kind):
    bits = NOISE[..., 0] > 127
    picture = decode(encoded(Image.fromarray(bits), kind))
    assert (picture.pixels[0].numpy() == bits * 255).all()
    assert picture.bits == 1


def test_palettes_become_colour():
    palette = Image.fromarray(NOISE).quantize(16)
    picture = decode(encoded(palette))
    assert picture.mode == "P"
    assert (last(picture.pixels) == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode):
    source = Image.new("RGB", (8, 8), (200, 30, 60))
    if mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        stored = ImageCms.profileToProfile(source, rgb, lab, outputMode="LAB")
    else:
        stored = source.convert(mode)
    picture = decode(encoded(stored, "TIFF"))
    assert picture.pixels.shape == (3, 8, 8)
    assert (picture.pixels[:, 4, 4].float() - torch.tensor([200.0, 30, 60])).abs().max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_composited_on_white(kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = decode(encoded(Image.new("RGBA", (5, 4), (255, 0, 100, 51)), kind, **options))
    assert picture.pixels[:, 0, 0].tolist() == [255, 204, 224]
    assert picture.notes == ("alpha composited on white",)


def test_opaque_alpha_is_dropped_without_a_note():
    picture = decode(encoded(Image.new("RGBA", (5, 4), (9, 8, 7, 255))))
    assert picture.pixels[:, 0, 0].tolist() == [9, 8, 7]
    assert picture.notes == ()


def test_grey_with_alpha_stays_grey():
    picture = decode(encoded(Image.new("LA", (5, 4), (0, 51))))
    assert picture.pixels.shape == (1, 4, 5)
    assert picture.pixels.unique().tolist() == [204]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_one_transparent_colour_becomes_white(mode):
    value = {"1": 0, "L": 7, "P": 0, "RGB": (1, 2, 3)}[mode]
    source = Image.new("RGB", (5, 4), "blue").quantize(2) if mode == "P" else Image.new(mode, (5, 4), value)
    picture = decode(encoded(source, transparency=value))
    assert (picture.pixels == 255).all()


def test_16_bit_grey_png_keeps_all_levels():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    picture = decode(encoded(levels))
    assert picture.pixels.dtype == torch.float32
    assert picture.bits == 16
    assert np.array_equal((picture.pixels[0].double() * 257).round().numpy(), levels)
    assert picture.pixels.max() == 255


@pytest.mark.parametrize("write", ["png", "tiff", "packed tiff", "tiff in planes"])
def test_16_bit_colour_keeps_all_levels_in_the_right_order(write):
    levels = np.random.default_rng(1).integers(0, 65536, (21, 17, 3), dtype=np.uint16)
    data = {
        "png": lambda: cv2.imencode(".png", levels[..., ::-1])[1].tobytes(),
        "tiff": lambda: tiff(levels, photometric="rgb"),
        "packed tiff": lambda: tiff(levels, photometric="rgb", compression="zlib", predictor=True, tile=(16, 16)),
        "tiff in planes": lambda: tiff(np.moveaxis(levels, -1, 0), photometric="rgb", planarconfig="separate"),
    }[write]()
    picture = decode(data)
    assert np.array_equal((last(picture.pixels.double()) * 257).round(), levels)


def test_16_bit_colour_with_alpha_is_composited():
    levels = np.zeros((4, 5, 4), np.uint16)
    levels[..., 3] = 65535 // 5
    picture = decode(cv2.imencode(".png", levels)[1].tobytes())
    assert picture.pixels.shape == (3, 4, 5)
    assert picture.pixels.unique().tolist() == [204]
    assert picture.notes == ("alpha composited on white",)


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
    picture = decode(tiff(values))
    assert picture.pixels.tolist() == [[[-5.5, 0], [1e6, 0]]]
    assert picture.notes == ("non-finite values set to 0",)
    with pytest.raises(BadPicture, match="no finite value"):
        decode(np.full((3, 3), np.nan))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(SMOOTH, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = decode(data)
    assert (last(picture.pixels) == expected).all()
    assert picture.size == expected.shape[:2]
    assert picture.size == ((60, 40) if orientation >= 5 else (40, 60))
    if kind != "TIFF":
        assert picture.notes == (("rotated by EXIF",) if orientation > 1 else ())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_tiffs_is_applied_as_of_others(orientation):
    deep = tiff(SMOOTH.astype(np.float32), photometric="rgb", extratags=[(274, "H", 1, orientation, False)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert torch.equal(decode(deep).pixels, decode(encoded(SMOOTH, "PNG", exif=exif)).pixels.float())


def test_damaged_exif_is_no_reason_to_lose_a_picture():
    data = encoded(SMOOTH, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xffgarbage")
    assert decode(data).size == (40, 60)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert picture.pixels[:, 3, 3].tolist() == [255, 0, 0]
    assert picture.notes == ("first of 3 frames",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM"])
def test_truncated_files_are_bad_wherever_they_end(kind):
    if not features.check("avif") and kind == "AVIF":
        pytest.skip("this Pillow has no AVIF")
    data = encoded(NOISE, kind)
    for size in range(20, int(0.97 * len(data)), len(data) // 12):
        with pytest.raises(BadPicture, match="truncated"):
            decode(data[:size])


def test_truncated_16_bit_png_and_deep_tiff_are_bad():
    levels = np.random.default_rng(5).integers(0, 65536, (21, 17, 3), dtype=np.uint16)
    for data in (cv2.imencode(".png", levels)[1].tobytes(), tiff(levels, photometric="rgb")):
        with pytest.raises(BadPicture, match="truncated"):
            decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "not a picture"),
        (bytes(1000), "not a picture"),
        (b"BMWs are cars, and this is a text about them.", "not a picture"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    ],
)
def test_what_is_no_picture_gets_a_short_reason(data, reason):
    with pytest.raises(BadPicture, match=reason) as caught:
        decode(data)
    assert len(str(caught.value)) < 150


def png_header(height, width):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\x01\0IDAT"
        + bytes(200)
    )


def test_bombs_are_refused_from_their_header():
    with pytest.raises(BadPicture, match="decompression bomb: 900,000,000 pixels, the limit is 178,956,970"):
        decode(png_header(30000, 30000))


def test_large_pictures_below_the_limit_give_no_warning():
    side = int(MAX_PIXELS**0.5) - 1000  # above the size at which Pillow warns
    with pytest.raises(BadPicture, match="truncated"):
        decode(png_header(side, side))


def test_a_flipped_bit_in_a_png_is_found():
    data = bytearray(encoded(NOISE))
    for place in range(60, len(data) - 16, 500):
        data[place] ^= 1
        with pytest.raises(BadPicture, match=r"damaged|truncated"):
            decode(bytes(data))
        data[place] ^= 1
    assert (last(decode(bytes(data)).pixels) == NOISE).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
def test_no_damage_raises_anything_but_bad_picture(kind, data):
    damaged = bytearray(encoded(SMOOTH[:16, :16], kind))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode(bytes(damaged))
    except BadPicture:
        return
    assert picture.pixels.ndim == 3
    assert picture.pixels.dtype in (torch.uint8, torch.float32)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.bool_, np.int32, np.float32]), (5, 7), fill=st.nothing()))
def test_arrays_keep_their_values(array):
    if array.dtype == np.float32 and not np.isfinite(array).all():
        array = np.nan_to_num(array, nan=0, posinf=0, neginf=0)
    picture = decode(array)
    scale = {"uint16": 1 / 257, "bool": 255}.get(array.dtype.name, 1)
    assert np.allclose(picture.pixels[0].numpy(), array.astype(np.float64) * scale, rtol=1e-6)
    assert picture.pixels.dtype == (torch.uint8 if array.dtype in (np.uint8, np.bool_) else torch.float32)
    assert picture.format == "array"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((20, 30), (1, 20, 30)),
        ((20, 30, 3), (3, 20, 30)),
        ((3, 20, 30), (3, 20, 30)),
        ((16, 20, 30), (16, 20, 30)),
        ((20, 30, 100), (100, 20, 30)),
        ((4, 5, 3), (3, 4, 5)),
        ((3, 8, 8), (8, 3, 8)),
    ],
)
def test_the_channel_axis_of_an_array_follows_the_written_rule(shape, expected):
    assert decode(np.zeros(shape, np.uint8)).pixels.shape == expected


@pytest.mark.parametrize("array", [np.zeros(4), np.zeros((0, 3)), np.zeros((2, 2), complex), np.array([["a"]])])
def test_arrays_that_are_no_pictures_are_bad(array):
    with pytest.raises(BadPicture):
        decode(array)


def test_arrays_in_foreign_byte_order_are_read():
    assert decode(np.array([[257, 514]], ">u2")).pixels.tolist() == [[[1, 2]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "array"])
@pytest.mark.parametrize("shape", [(400, 600), (601, 400), (100, 90)])
def test_shrinking_makes_the_short_side_exact_and_keeps_the_picture(kind, shape):
    whole = np.add.outer(np.linspace(0, 120, shape[0]), np.linspace(0, 130, shape[1])).astype(np.uint8)
    data = whole if kind == "array" else encoded(whole, kind)
    picture = decode(data, max_side=96)
    assert min(picture.pixels.shape[1:]) == min(96, *shape)
    assert picture.size == shape
    assert torch.equal(picture.pixels, decode(data, max_side=96).pixels)
    small = np.asarray(Image.fromarray(whole).resize(picture.pixels.shape[:0:-1], Image.Resampling.BOX))
    assert np.abs(picture.pixels[0].numpy().astype(float) - small).max() <= 3


def test_shrinking_floats_stays_within_their_range():
    step = np.zeros((64, 64), np.float32)
    step[:, 32:] = 1
    small = decode(step, max_side=20).pixels
    assert small.min() >= 0
    assert small.max() <= 1


def test_threads_decode_as_one_does():
    files = [encoded(NOISE, kind) for kind in ("JPEG", "PNG", "TIFF", "GIF", "WEBP")] * 4
    expected = [decode(file).pixels for file in files]
    results: list = [None] * len(files)

    def work(start):
        for i in range(start, len(files), 4):
            results[i] = decode(files[i]).pixels

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(results, expected))


def test_channels_are_repeated_mixed_or_refused():
    grey = torch.full((1, 2, 2), 7, dtype=torch.uint8)
    assert to_channels(grey, 3).tolist() == [[[7, 7], [7, 7]]] * 3
    colour = torch.tensor([200, 100, 50], dtype=torch.uint8).view(3, 1, 1)
    assert to_channels(colour, 1).tolist() == [[[124]]]  # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
    assert to_channels(colour, 1).dtype == torch.uint8
    assert to_channels(colour.float(), 1).item() == pytest.approx(124.2)
    assert to_channels(colour, 3) is colour
    deep = colour.float()
    to_channels(deep, 1)
    assert deep.flatten().tolist() == [200, 100, 50]  # left as it was
    with pytest.raises(BadPicture, match="has 4 channels, the run uses 3"):
        to_channels(torch.zeros(4, 2, 2), 3)


def test_signatures_are_those_of_pictures_and_of_nothing_else():
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000"):
        assert sniff(encoded(NOISE, kind)[:32]) == kind
    zeros = b"BM" + bytes(4) + bytes(4) + b"spare" * 4  # what other programs write behind the same two letters
    for other in (
        b"",
        b"BM",
        b"BMW is a car, said the man to me",
        zeros,
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypmp42",
    ):
        assert sniff(other) is None
