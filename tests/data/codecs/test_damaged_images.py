"""Decoding: what is damaged, no image, too large or an array."""

import struct
import threading
import warnings
import zlib

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, features
from support.encoding import NOISE, SMOOTH, encoded, last, tiff

from unmask.data.codecs.decode import decode, to_channels
from unmask.data.codecs.image import MAX_PIXELS, BadImage
from unmask.data.codecs.signature import sniff


@pytest.fixture(autouse=True)
def no_warning_may_leak():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM"])
def test_truncated_files_are_bad_wherever_they_end(kind):
    if not features.check("avif") and kind == "AVIF":
        pytest.skip("this Pillow has no AVIF")
    data = encoded(NOISE, kind)
    for size in range(20, int(0.97 * len(data)), len(data) // 12):
        with pytest.raises(BadImage, match="truncated"):
            decode(data[:size])


def test_truncated_16_bit_png_and_deep_tiff_are_bad():
    levels = np.random.default_rng(5).integers(0, 65536, (21, 17, 3), dtype=np.uint16)
    for data in (cv2.imencode(".png", levels)[1].tobytes(), tiff(levels, photometric="rgb")):
        with pytest.raises(BadImage, match="truncated"):
            decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "not an image"),
        (bytes(1000), "not an image"),
        (b"BMWs are cars, and this is a text about them.", "not an image"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_is_no_image_gets_a_short_reason(data, reason):
    with pytest.raises(BadImage, match=reason) as caught:
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
    with pytest.raises(BadImage, match="decompression bomb: 900,000,000 pixels, the limit is 178,956,970"):
        decode(png_header(30000, 30000))


def test_large_images_below_the_limit_give_no_warning():
    side = int(MAX_PIXELS**0.5) - 1000  # above the size at which Pillow warns
    with pytest.raises(BadImage, match="truncated"):
        decode(png_header(side, side))


def test_a_flipped_bit_in_a_png_is_found():
    data = bytearray(encoded(NOISE))
    for place in range(60, len(data) - 16, 500):
        data[place] ^= 1
        with pytest.raises(BadImage, match=r"damaged|truncated"):
            decode(bytes(data))
        data[place] ^= 1
    assert (last(decode(bytes(data)).pixels) == NOISE).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
def test_no_damage_raises_anything_but_bad_image(kind, data):
    damaged = bytearray(encoded(SMOOTH[:16, :16], kind))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(damaged))
    except BadImage:
        return
    assert image.pixels.ndim == 3
    assert image.pixels.dtype in (torch.uint8, torch.float32)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(st.sampled_from([np.uint8, np.uint16, np.bool_, np.int32, np.float32]), (5, 7), fill=st.nothing()))
def test_arrays_keep_their_values(array):
    if array.dtype == np.float32 and not np.isfinite(array).all():
        array = np.nan_to_num(array, nan=0, posinf=0, neginf=0)
    image = decode(array)
    scale = {"uint16": 1 / 257, "bool": 255}.get(array.dtype.name, 1)
    assert np.allclose(image.pixels[0].numpy(), array.astype(np.float64) * scale, rtol=1e-6)
    assert image.pixels.dtype == (torch.uint8 if array.dtype in (np.uint8, np.bool_) else torch.float32)
    assert image.format == "array"


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
def test_arrays_that_are_no_images_are_bad(array):
    with pytest.raises(BadImage):
        decode(array)


def test_arrays_in_foreign_byte_order_are_read():
    assert decode(np.array([[257, 514]], ">u2")).pixels.tolist() == [[[1, 2]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "array"])
@pytest.mark.parametrize("shape", [(400, 600), (601, 400), (100, 90)])
def test_shrinking_makes_the_short_side_exact_and_keeps_the_image(kind, shape):
    whole = np.add.outer(np.linspace(0, 120, shape[0]), np.linspace(0, 130, shape[1])).astype(np.uint8)
    data = whole if kind == "array" else encoded(whole, kind)
    image = decode(data, max_side=96)
    assert min(image.pixels.shape[1:]) == min(96, *shape)
    assert image.size == shape
    assert torch.equal(image.pixels, decode(data, max_side=96).pixels)
    small = np.asarray(Image.fromarray(whole).resize(image.pixels.shape[:0:-1], Image.Resampling.BOX))
    assert np.abs(image.pixels[0].numpy().astype(float) - small).max() <= 3


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
    with pytest.raises(BadImage, match="has 4 channels, the run uses 3"):
        to_channels(torch.zeros(4, 2, 2), 3)


def test_signatures_are_those_of_images_and_of_nothing_else():
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
