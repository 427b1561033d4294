"""Fast JPEG: the same pixels and the same verdicts as Pillow's, whatever the file."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo

from unmask.data.codecs import jpeg
from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage


def written(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def verdict(data, max_side=None):
    try:
        found = decode(data, max_side=max_side)
    except BadImage as error:
        return str(error)
    return found.pixels.numpy().tobytes(), found.size, found.mode, found.notes


def kinds():
    colour, grey = Image.fromarray(photo(1, 97, 131)), Image.fromarray(photo(2, 97, 131, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    for subsampling in (0, 1, 2):
        yield f"4:2:{subsampling}", written(colour, quality=85, subsampling=subsampling)
    yield "progressive", written(colour, progressive=True)
    yield "grey", written(grey)
    yield "rotated", written(colour, exif=exif)
    yield "cmyk", written(colour.convert("CMYK"))
    yield "large", written(colour.resize((900, 701)))
    yield "comment", written(colour, comment=b"\xff\xda not a scan")


@pytest.mark.parametrize(("name", "data"), list(kinds()), ids=lambda v: v if isinstance(v, str) else "")
def test_pixels_and_notes_are_those_of_pillow_to_the_bit(name, data, monkeypatch):
    fast = [verdict(data, side) for side in (None, 40, 97)]
    used = jpeg.pixels
    calls = []
    monkeypatch.setattr(jpeg, "pixels", lambda *a: calls.append(1) or used(*a))
    decode(data)
    assert bool(calls) == (name != "cmyk")  # the comparison compares something
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert fast == [verdict(data, side) for side in (None, 40, 97)]


def test_damaged_files_are_judged_as_by_pillow(monkeypatch):
    data, rng = written(Image.fromarray(photo(3, 61, 80)), quality=90), np.random.default_rng(0)
    damaged = [data[:cut] for cut in rng.integers(2, len(data), 40)] + [data[:-1], data[:-2], data + b"more"]
    for _ in range(150):
        flipped = bytearray(data)
        for place in rng.integers(2, len(data), rng.integers(1, 4)):
            flipped[place] = rng.integers(256)
        damaged.append(bytes(flipped))
    fast = [verdict(part, 30) for part in damaged]
    with monkeypatch.context() as patch:
        patch.setattr(jpeg, "simplejpeg", None)
        slow = [verdict(part, 30) for part in damaged]
    assert fast == slow
    assert sum(isinstance(one, str) for one in slow) > 40


def test_colour_lies_in_memory_as_resizing_likes_it_and_gives_the_same_views():
    from unmask.data.transforms.kernels.crop import RandomCrop

    pixels = decode(written(Image.fromarray(photo(4, 80, 90)))).pixels
    assert pixels.stride() == (1, 270, 3)
    view, chance = RandomCrop((32, 32)), lambda: torch.Generator().manual_seed(5)
    assert torch.equal(view(pixels, chance()), view(pixels.contiguous(), chance()))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({1: 0xC1, 4: 12}, "12-bit JPEG, which is not supported"),
        ({1: 0xC2, 4: 12}, "12-bit JPEG, which is not supported"),
        ({1: 0xC3, 4: 16}, "16-bit JPEG, which is not supported"),
        ({1: 0xC5}, "hierarchical JPEG, which is not supported"),
        ({1: 0xCB}, "lossless arithmetic JPEG, which is not supported"),
        ({1: 0xF7}, "JPEG-LS, which is not supported"),
        ({9: 2}, "JPEG of 2 channels, which is not supported"),
        ({4: 9}, "truncated or damaged JPEG"),  # there is no such depth
    ],
)
@pytest.mark.parametrize("rotated", [False, True])
def test_sound_jpeg_that_no_decoder_reads_is_named_and_not_called_damaged(change, words, rotated):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(written(Image.fromarray(photo(1, 97, 131)), **({"exif": exif} if rotated else {})))
    frame = data.index(b"\xff\xc0")
    for place, byte in change.items():
        data[frame + place] = byte
    assert verdict(bytes(data)).startswith(words)
