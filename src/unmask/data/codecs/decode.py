"""Decodes bytes or an array to pixels, for all of unmask. The content decides the format, never a file's name."""

import io
import logging
import threading
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Shaped
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from unmask.data.codecs import bmp, jpeg, png
from unmask.data.codecs.image import MAX_PIXELS, BadImage, DecodedImage, Raw
from unmask.data.codecs.signature import sniff, what_else

MAX_BANDS = 16  # an array whose first axis is at most this, and whose last is more, is channels first

# What Pillow may try. Formats that start another program (EPS) or are no pixels (WMF, HDF5) are left out.
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "JPEG2000", "PPM", "TGA", "QOI", "ICO", "PCX", "PSD", "DDS"),
    *("SGI", "SUN", "IM", "AVIF"),  # AVIF last: Pillow below 11.3 does not know it, and stops there
)
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL + 1)  # logs what it refuses and tifffile reads
_QUIET = threading.Lock()  # warning filters belong to the process, so one thread at a time may change them


def decode(data: bytes | np.ndarray, *, max_side: int | None = None) -> DecodedImage:
    """The image in a file's bytes or in an array. Raises BadImage with the reason, and nothing else.

    max_side: pixels, at least 2; where the shorter side is longer, the image shrinks until it is this long. A pure
    function of `data` and `max_side`, safe to call from several threads.

    Grey stays one channel. Palettes become RGB, transparency is composited on white, CMYK, YCbCr, LAB and HSV become
    RGB, 1-bit becomes 0 and 255. 16-bit values are divided by 257, so that they share the scale 0..255 and keep all
    levels (float32); 32-bit integers and floats stay as they are (float32). Of an animation or stack, the first frame.
    Arrays: h w, h w c, or c h w (channels are last, unless only the first axis is at most 16); bool becomes 0 and 255.
    Colour profiles are not applied: values are the stored ones.
    """
    try:
        raw = _from_array(data) if isinstance(data, np.ndarray) else _from_bytes(data, max_side)
        return _finish(raw, max_side)
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("too large for the memory there is") from error
    except Exception as error:  # decoders fed damaged files raise anything: struct.error, IndexError, ZeroDivisionError
        raise BadImage(_reason(error)) from error


def decode_side(size: int | Sequence[int]) -> int:
    """`max_side` for images that are cropped to, or shown at, a size in pixels: four times its longest side, so that a
    crop of a sixteenth of the area still is not enlarged."""
    return 4 * (size if isinstance(size, int) else max(size))


def to_channels(pixels: Shaped[Tensor, "c *size"], channels: int) -> Shaped[Tensor, "channels *size"]:
    """The same image or clip with as many channels as a run uses: grey repeated, or RGB to grey (Rec. 601 luma); dtype
    kept.

    Raises BadImage for any other conversion, since missing bands cannot be invented.
    """
    have = pixels.shape[0]
    if have == channels:
        return pixels
    if (have, channels) == (1, 3):
        return pixels.repeat(3, *(1,) * (pixels.ndim - 1))
    if (have, channels) == (3, 1):
        red, green, blue = pixels.float()
        luma = (red * 0.299).add_(green, alpha=0.587).add_(blue, alpha=0.114)
        return (luma if pixels.is_floating_point() else luma.round_().to(pixels.dtype)).unsqueeze(0)
    raise BadImage(f"has {have} channel{'s' * (have != 1)}, the run uses {channels}")


def _from_bytes(data: bytes, max_side: int | None) -> Raw:
    if not data:
        raise BadImage("empty file")
    if (plain := jpeg.plain(data, max_side, MAX_PIXELS)) is not None:
        return Raw(plain[0], "JPEG", "L" if plain[0].ndim == 2 else "RGB", 8, plain[1])
    kind = sniff(data[:32])
    if kind == "JPEG" and (unread := jpeg.unread_kind(data)):
        raise BadImage(unread)
    if kind == "HEIC":
        raise BadImage("HEIC image, which is not read here: convert it to JPEG or PNG")
    if kind == "BMP":
        if (inner := bmp.embedded(data)) is not None:
            return _from_bytes(inner, max_side)
        if (raw := bmp.read_bmp(data)) is not None:
            return raw
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images and of damaged EXIF; notes and limits are ours
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            digits = "".join(c for c in str(error).split("pixels")[0] if c.isdigit())
            raise _bomb(f"{int(digits or 0):,}") from error
        except Exception as error:  # most often UnidentifiedImageError; on a damaged header, anything
            if kind == "TIFF":
                return _from_tiff(data)  # Pillow knows few kinds of TIFF
            raise BadImage(f"truncated or damaged {kind}" if kind else what_else(data)) from error
        _check_size(*image.size)
        if isinstance(image, TiffImageFile) and is_deep_tiff(image):
            return _from_tiff(data)
        orientation = _orientation(image)
        if image.format not in ("JPEG", "MPO", "PNG", "WEBP"):  # the others may warn while they load
            return _from_pillow(image, orientation, None, data)
    return _from_pillow(image, orientation, max_side, data)


def _from_pillow(image: ImageFile, orientation: int, max_side: int | None, data: bytes) -> Raw:
    kind = {"MPO": "JPEG", "DIB": "BMP"}.get(str(image.format), str(image.format))
    size, mode = image.size, image.mode
    notes = [] if image.format == "MPO" else _frames(image)  # an MPO is a photograph with a preview beside it
    if kind == "JPEG" and mode in ("L", "RGB"):  # with EXIF, else it would have been decoded without Pillow
        pixels = jpeg.pixels(data, (size[1], size[0]), 1 if mode == "L" else 3, max_side)
        if pixels is not None:
            return Raw(pixels, kind, mode, 8, (size[1], size[0]), orientation=orientation, notes=notes)
    if kind == "JPEG" and max_side is not None and min(size) > max_side:
        image.draft(None, (max_side, max_side))  # decode at 1/2, 1/4 or 1/8, never below max_side
    if kind == "PNG" and (damage := png.damage(data)):
        raise BadImage(damage)
    image.load()
    if kind == "TIFF":
        orientation, size = 1, image.size  # Pillow turns TIFFs while it loads them
    bits = {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;16") else 8)
    raw = Raw(np.empty(0), kind, mode, bits, (size[1], size[0]), orientation=orientation, notes=notes)
    if kind == "PNG" and png.is_deep_colour(data):
        raw.bits = 16
        raw.values, raw.alpha, raw.mode = png.deep_colour(data)
        return raw
    if mode.startswith("I;16") or (mode == "I" and kind in ("PNG", "PPM")):
        raw.values, raw.bits = np.asarray(image).astype(np.uint16), 16
        if isinstance(clear := image.info.get("transparency"), int):
            raw.alpha = np.where(raw.values == clear, 0, 65535).astype(np.uint16)
    elif mode in ("I", "F"):
        raw.values = np.asarray(image)
    elif image.has_transparency_data:
        both = np.asarray(image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA"))
        raw.values, raw.alpha = both[..., :-1], both[..., -1]
    else:
        raw.values = np.asarray(_plain(image))
    return raw


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "LAB":  # the one mode that Pillow's convert() does not know
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        colours = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        assert colours is not None  # None only where the image itself is changed
        return colours
    return image.convert("L" if image.mode == "1" else "RGB")


def is_deep_tiff(image: TiffImageFile) -> bool:
    """True where Pillow would lose something: more than 8 bits, signed values, bands that are no colour or alpha, alpha
    in a plane of its own, or image codecs that it does not look for in a TIFF."""
    tags = image.tag_v2
    bits, formats = tags.get(258, (1,)), tags.get(339, (1,))
    if max(bits) > 8 or set(formats) - {1, 4} != set() or tags.get(277, 1) != len(image.getbands()):
        return True
    return (tags.get(284) == 2 and 338 in tags) or tags.get(259, 1) > 32946


def _from_tiff(data: bytes) -> Raw:
    from unmask.data.codecs.tiff import read_tiff

    return read_tiff(data)


def _from_array(array: np.ndarray) -> Raw:
    if array.ndim not in (2, 3):
        raise BadImage(f"array of shape {array.shape}, an image is h w, h w c or c h w")
    if array.dtype.kind not in "buif":
        raise BadImage(f"array of {array.dtype}, pixels are numbers")
    values = array
    if array.ndim == 3 and array.shape[0] <= MAX_BANDS < array.shape[2]:
        values = array.transpose(1, 2, 0)  # c h w -> h w c
    _check_size(values.shape[1], values.shape[0])
    bits = 1 if array.dtype.kind == "b" else 8 * array.dtype.itemsize
    return Raw(values, "array", str(array.dtype), bits, (values.shape[0], values.shape[1]))


def _finish(raw: Raw, max_side: int | None) -> DecodedImage:
    notes = raw.notes
    values = raw.values.astype(raw.values.dtype.newbyteorder("="), copy=False)  # >u2 is not equal to uint16
    if values.size == 0:
        raise BadImage("has no pixels")
    if values.dtype == bool:
        values = values.astype(np.uint8) * np.uint8(255)
    if raw.alpha is not None and (raw.alpha != np.iinfo(raw.alpha.dtype).max).any():
        values = _on_white(values, raw.alpha, raw.premultiplied)
        notes.append("alpha composited on white")
    as_stored = False
    if values.dtype == np.uint16:
        values = values.astype(np.float32) / np.float32(257)
    elif as_stored := values.dtype != np.uint8:
        values = _finite(values, notes)
    size = raw.size
    if 2 <= raw.orientation <= 8:
        values = _turn(values, raw.orientation)
        size = size[::-1] if raw.orientation >= 5 else size
        notes.append("rotated by EXIF")
    pixels = _shrink(_as_tensor(values), max_side)
    return DecodedImage(pixels, raw.format, (size[0], size[1]), raw.mode, raw.bits, tuple(notes), as_stored)


def _as_tensor(values: np.ndarray) -> Tensor:
    """c h w. Colour stays h w c in memory, where torch's and OpenCV's resizing are twice as fast."""
    if values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8:
        own = values.flags.owndata and values.flags.writeable and values.flags.c_contiguous
        return torch.from_numpy(values if own else np.array(values, order="C")).permute(2, 0, 1)
    values = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)  # -> c h w
    return torch.from_numpy(np.array(values, order="C"))  # a copy: what Pillow hands out is read-only


def _on_white(values: np.ndarray, alpha: np.ndarray, premultiplied: bool) -> np.ndarray:
    top = np.float32(np.iinfo(alpha.dtype).max)
    share = alpha.astype(np.float32) / top
    share = share if values.ndim == 2 else share[..., None]
    mixed = values.astype(np.float32) if premultiplied else values * share
    mixed += top * (1 - share)
    return np.round(np.minimum(mixed, top)).astype(values.dtype)


def _finite(values: np.ndarray, notes: list[str]) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes infinite, and is counted below
        values = values.astype(np.float32)
    good = np.isfinite(values)
    if good.all():
        return values
    if not good.any():
        raise BadImage("no finite value")
    notes.append("non-finite values set to 0")
    return np.where(good, values, np.float32(0))


def _turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes EXIF orientation: 2 to 4 mirror and turn, 5 to 8 swap height and width first."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return values[::rows, ::columns]


def _shrink(pixels: Tensor, max_side: int | None) -> Tensor:
    height, width = pixels.shape[1:]
    short = min(height, width)
    if max_side is None or short <= max_side:
        return pixels
    size = [max(max_side, round(side * max_side / short)) for side in (height, width)]
    small = torch.nn.functional.interpolate(pixels[None], size, mode="bicubic", antialias=True, align_corners=False)[0]
    # Bicubic rings at edges: floats stay within what the image had, as uint8 does by itself.
    return small.clamp_(pixels.min(), pixels.max()) if pixels.is_floating_point() else small


def _orientation(image: Image.Image) -> int:
    if image.format == "JPEG" and not image.info.keys() & {"exif", "xmp"}:
        return 1  # asking costs as much as decoding a small image
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF is no reason to lose an image
        return 1


def _frames(image: Image.Image) -> list[str]:
    count = getattr(image, "n_frames", 1)
    return [f"first of {count} frames"] if count > 1 else []


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _bomb(f"{height} x {width}")


def _bomb(what: str) -> BadImage:
    return BadImage(f"decompression bomb: {what} pixels, the limit is {MAX_PIXELS:,}")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    low = text.lower()
    if isinstance(error, EOFError) or any(word in low for word in ("truncated", "incomplete", "end of file")):
        return "truncated"
    if any(word in low for word in ("broken data stream", "not enough", "could not create decoder", "ifd")):
        return f"truncated or damaged ({text[:120]})"  # these decoders do not tell which
    return f"damaged ({text[:120]})"
