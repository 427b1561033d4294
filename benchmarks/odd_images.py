"""Image files of every codec, mode, depth, compression and shape that the libraries here write: what is read must be
what was written, by the rules of docs/data.md; what is not read must be refused with a reason.

    python benchmarks/odd_images.py --out odd       # the files, and odd/odd_images.json: how each was read

Lossless files must hold what was written, or what Pillow reads where a format has no such mode; lossy ones come close.
"""

import argparse
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import smoke
import tifffile
from PIL import Image

from unmask.data.codecs.decode import decode
from unmask.data.codecs.image import BadImage

SIZES = ((23, 17), (1, 1), (1, 9), (9, 1), (2, 3))  # width, height
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F")
FORMATS = (
    *("PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "JPEG2000", "PPM", "TGA", "QOI", "ICO", "PCX", "DDS", "SGI", "IM"),
    *("JPEG", "AVIF", "MPO"),
)
LOSSY = ("JPEG", "AVIF", "MPO")
EXACT = {
    "WEBP": {"lossless": True, "exact": True},
    "JPEG2000": {"irreversible": False},
    "ICO": {"bitmap_format": "png"},
}
TOLERANCE = {True: 12.0, False: 0.51}  # of a value in 0..255, where the codec is lossy, and where it is not


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("odd"), help="for the files and the results")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes")
    options = parser.parse_args()
    (options.out / "files").mkdir(parents=True, exist_ok=True)
    records = {}
    for name, data, expected, is_lossy in files(SIZES[: options.sizes]):
        (options.out / "files" / name).write_bytes(data)
        records[name] = verdict(data, expected, is_lossy)
    counts = Counter(record.split(":")[0] for record in records.values())
    (options.out / "odd_images.json").write_text(json.dumps(records, indent=1))
    print(*(f"{name}: {said}" for name, said in records.items() if not said.startswith("right")), sep="\n")
    print(f"{len(records)} files: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    if set(counts) - {"right", "refused"}:
        raise SystemExit(1)


def verdict(data: bytes, expected: Sequence[np.ndarray], is_lossy: bool) -> str:
    """right, refused, or what is wrong."""
    try:
        pixels = decode(data).pixels.numpy().transpose(1, 2, 0).astype(float)
    except BadImage as error:
        return f"refused: {error}"
    except BaseException as error:
        return f"raised: {type(error).__name__}: {error}"
    errors = [np.abs(pixels - right).max() for right in expected if right.shape == pixels.shape]
    if not errors:
        return f"wrong: shape {pixels.shape}, not {expected[0].shape}"
    return "right" if min(errors) <= TOLERANCE[is_lossy] else f"wrong: by {min(errors):.1f}"


def files(sizes: Iterable[tuple[int, int]]) -> Iterator[tuple[str, bytes, Sequence[np.ndarray], bool]]:
    """Name, content, values h w c that are right by the written rules, and whether the codec loses some."""
    for size in sizes:
        for mode in MODES:
            image = drawn(size, mode)
            for kind in FORMATS:
                for words, options in variants(kind, mode):
                    if (data := written(image, kind, options)) is not None:
                        name = f"{kind}_{mode.replace(';', '')}_{size[0]}x{size[1]}{words}.{kind.lower()}"
                        expected = values(image), values(Image.open(io.BytesIO(data)), deep=kind == "PPM")
                        yield name, data, expected, kind in LOSSY or "jpeg" in words or mode == "YCbCr"
        yield from deep(size)


def drawn(size: tuple[int, int], mode: str) -> Image.Image:
    """Smooth colours in a mode; alpha falls from left to right."""
    image = smoke.image(3, 32).resize(size)
    if mode in ("I;16", "I", "F"):
        grey = np.asarray(image.convert("L")).astype(float)
        dtype, scale = {"I;16": (np.uint16, 257), "I": (np.int32, 1000), "F": (np.float32, 0.37)}[mode]
        return Image.fromarray((grey * scale).astype(dtype))
    if mode in ("LA", "RGBA", "PA"):
        image.putalpha(Image.linear_gradient("L").rotate(90).resize(size))
    return image.convert("LA").convert("PA") if mode == "PA" else image.convert(mode)


def variants(kind: str, mode: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Ways to write a format: words for the name, and options of Pillow."""
    yield "", EXACT.get(kind, {})
    if kind == "TIFF":
        for compression in (
            "packbits",
            "tiff_lzw",
            "tiff_adobe_deflate",
            "tiff_deflate",
            "zstd",
            "lzma",
            "jpeg",
            "webp",
        ):
            yield f"_{compression}", {"compression": compression}
        for compression in ("group3", "group4", "tiff_ccitt") if mode == "1" else ():
            yield f"_{compression}", {"compression": compression}
        yield "_big", {"big_tiff": True}
    if kind == "JPEG":
        for options in (
            {"progressive": True},
            {"subsampling": 0},
            {"subsampling": 1},
            {"optimize": True},
            {"quality": 100},
        ):
            yield "_" + "_".join(map(str, *options.items())), options
        yield "_restarts", {"restart_marker_blocks": 1}
    if kind == "PNG" and mode in ("L", "P"):
        for bits in (1, 2, 4):
            yield f"_{bits}bit", {"bits": bits}
    if kind in ("TGA", "SGI"):
        yield "_rle", {"compression": "tga_rle"} if kind == "TGA" else {"rle": 1}
    if kind in ("WEBP", "JPEG2000") and mode in ("L", "RGB"):
        yield "_lossy_jpeg", {"quality": 95} if kind == "WEBP" else {"irreversible": True}


def written(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes | None:
    """The file, or None where Pillow writes no such one, or no other than it would otherwise."""
    file = io.BytesIO()
    try:
        image.save(file, kind, **options)
        again = Image.open(io.BytesIO(file.getvalue()))
        again.load()
    except Exception:
        return None
    return file.getvalue() if again.size == image.size else None


def values(image: Image.Image, deep: bool = False) -> np.ndarray:
    """h w c in 0..255 as docs/data.md has it: grey stays grey, transparency lies on white, other spaces become RGB.
    deep: whole numbers are of 16 bits."""
    if image.mode in ("I;16", "I;16B", "I", "F"):
        scale = 257.0 if image.mode.startswith("I;16") or (deep and image.mode == "I") else 1.0
        return np.asarray(image).astype(float)[..., None] / scale
    if image.has_transparency_data:
        grey = image.mode in ("LA", "La", "L", "1")
        both = np.asarray(image.convert("LA" if grey else "RGBA")).astype(float)
        alpha = both[..., -1:] / 255
        return both[..., :-1] * alpha + 255 * (1 - alpha)
    array = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")).astype(float)
    return array[..., None] if array.ndim == 2 else array


def deep(size: tuple[int, int]) -> Iterator[tuple[str, bytes, Sequence[np.ndarray], bool]]:
    """What Pillow cannot write: tiles, planes, byte orders, 16 bits of colour, floats, several bands."""
    width, height = size
    for dtype in (np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64, np.float16):
        for bands in (1, 3, 4, 7):
            array = np.random.default_rng(bands).integers(0, 120, (height, width, bands)).astype(dtype)
            expected = array.astype(float) / (257 if dtype == np.uint16 else 1)
            photometric = "rgb" if bands == 3 else "minisblack"
            for words, options in {
                "": {}, "_big_endian": {"byteorder": ">"}, "_tiles": {"tile": (16, 16)}, "_bigtiff": {"bigtiff": True},
                "_zlib": {"compression": "zlib", "predictor": True},
            }.items():  # fmt: skip
                file, name = io.BytesIO(), f"tifffile_{np.dtype(dtype)}_{bands}_{width}x{height}{words}.tif"
                try:
                    tifffile.imwrite(file, array, photometric=photometric, planarconfig="contig", **options)
                except Exception:
                    continue
                yield name, file.getvalue(), [expected], False
    for ending in (".png", ".tiff", ".ppm", ".jp2", ".ras", ".bmp", ".webp", ".jpg"):
        for bands in (1, 3):
            for dtype in (np.uint8, np.uint16):
                array = np.random.default_rng(bands).integers(0, 256, (height, width, bands)).astype(dtype)
                array = array * 257 if dtype == np.uint16 else array
                is_deep = dtype == np.uint16 and ending in (".png", ".tiff", ".ppm", ".jp2")
                if dtype == np.uint8 or is_deep:
                    is_written, data = cv2.imencode(ending, array)
                    if not is_written:
                        continue
                    content = bytes(data)
                    expected = array[..., ::-1].astype(float) / (257 if is_deep else 1)  # blue comes first there
                    is_lossy = ending in (".jpg", ".webp")
                    again = [values(Image.open(io.BytesIO(content)))] if is_lossy else []
                    name = f"opencv_{np.dtype(dtype)}_{bands}_{width}x{height}{ending}"
                    yield name, content, [expected, *again], is_lossy


def smoke_commands(folder: Path, out: Path) -> Iterable[list[str]]:
    yield ["--sizes", "1", "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
