"""DICOM series: the slices of a folder, told apart by series, sorted along their normal, made one volume (by pydicom).

No identifier leaves this file: of a header, only what says where voxels lie and what their values mean is read, and
messages quote nothing of it. Series are told apart by their UID, which is not handed on either.
"""

import io
import logging
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volume import Volume, as_labels, as_values, oriented, tensor_of
from unmask.data.codecs.volumes.slices import (
    Slice,
    affine_of,
    are_parallel,
    in_order,
    layers_of,
    once,
    require_alike,
    slices_of,
)
from unmask.data.transforms.kernels.volume import at_layers
from unmask.errors import UserError
from unmask.version import optional_library

TAGS = """SeriesInstanceUID Rows Columns ImagePositionPatient ImageOrientationPatient InstanceNumber PixelSpacing
ImagerPixelSpacing NominalScannedPixelSpacing SliceThickness SpacingBetweenSlices RescaleSlope RescaleIntercept
NumberOfFrames BitsStored SliceLocation SamplesPerPixel SharedFunctionalGroupsSequence
PerFrameFunctionalGroupsSequence GridFrameOffsetVector TransferSyntaxUID""".split()


def find_series(paths: Sequence[str]) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """The series among the files of a folder, each as paths in the order of their slices; and why others are in none.

    A series whose slices differ in size or direction (localizers) is one for each. UserError without pydicom.
    """
    series: dict[tuple[object, ...], list[list[Slice]]] = defaultdict(list)
    reasons: dict[str, str] = {}
    for n, path in enumerate(paths):
        try:
            header = _header(path)
            first = slices_of(header, n)[0]
            same = series[str(header.get("SeriesInstanceUID", "")), first.size]
            members = next((members for members in same if are_parallel([members[0], first])), None)
            if members is None:
                same.append(members := [])
            members.append(first)
        except BadImage as error:
            reasons[path] = str(error)
    groups = [
        tuple(paths[part.source] for part in in_order(members)[0]) for same in series.values() for members in same
    ]
    return sorted(groups, key=min), reasons


def read_dicom(sources: Sequence[str | bytes], *, labels: bool = False) -> Volume:
    """The volume of one series: its files or their bytes, in any order. Values are rescaled as each slice says.

    Slices that are missing are interpolated between their neighbours, of those at one place the first is taken; both
    are said. Raises BadImage; UserError without pydicom or nibabel.
    """
    if not sources:
        raise BadImage("no slices")
    try:
        volume = _read(sources, labels)
    except (BadImage, UserError):
        raise
    except MemoryError:
        raise BadImage("needs more memory than there is") from None
    except Exception as error:  # of headers that contradict themselves; its text may quote them
        raise BadImage(f"damaged ({type(error).__name__})") from None
    return as_labels(volume) if labels else as_values(volume)


def _read(sources: Sequence[str | bytes], labels: bool) -> Volume:
    headers = [_header(source) for source in sources]
    if len({str(header.get("SeriesInstanceUID", "")) for header in headers}) > 1:
        raise BadImage("slices of several series")
    slices = [part for n, header in enumerate(headers) for part in slices_of(header, n)]
    require_alike(slices, headers)
    slices, notes = in_order(slices)
    slices, places, doubled = once(slices)
    layers, missing = layers_of(places, len(slices))
    affine, lies = affine_of(slices, len(layers))
    values, said = _values(sources, slices)
    filled = at_layers(values, np.round(layers) if labels else layers)
    turned, canonical, spacing, geometry = oriented(filled.transpose(0, 3, 2, 1), affine)
    turned_from = [f"turned from {geometry.codes}"] if geometry.codes != "RAS" else []
    notes = [*notes, *doubled, *missing, *lies, *said, *turned_from]
    bits = int(headers[0].get("BitsStored", 16))
    return Volume(tensor_of(turned), spacing, canonical, geometry, "DICOM series", bits, tuple(notes))


def _header(source: str | bytes) -> Any:
    """A file's header without its pixels and without names. Raises BadImage."""
    return _open(source, specific_tags=TAGS, stop_before_pixels=True)


def _open(source: str | bytes, **options: Any) -> Any:
    with optional_library("DICOM series", "pydicom", "medical"):
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # its warnings quote what is in a header
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
                head = file.read(132)
                file.seek(0)
                bare = head[:2] in (b"\x08\0", b"\x02\0")  # files of old begin with a data element at once
                data = pydicom.dcmread(file, force=bare, **options)
        if "TransferSyntaxUID" not in data.file_meta:
            implicit, _ = data.original_encoding
            data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return data
    except InvalidDicomError:
        raise BadImage("not DICOM") from None
    except Exception as error:
        raise BadImage("truncated" if isinstance(error, EOFError) else f"damaged ({type(error).__name__})") from None


def _values(sources: Sequence[str | bytes], slices: list[Slice]) -> tuple[np.ndarray, list[str]]:
    """c d h w, rescaled; what is outside of the picture (padding) has the lowest value of the rest."""
    whole = all(part.slope == 1 and part.intercept % 1 == 0 and abs(part.intercept) < 1e9 for part in slices)
    by_source: dict[int, list[int]] = defaultdict(list)
    for n, part in enumerate(slices):
        by_source[part.source].append(n)
    values, outside, notes = np.empty(0), np.empty(0, bool), []
    for source, places in by_source.items():
        pixels, padded, said = _pixels(sources[source])
        if not values.size:
            shape = (pixels.shape[3], len(slices), *pixels.shape[1:3])
            kind = np.int32 if whole and pixels.dtype.kind in "iu" and pixels.dtype.itemsize < 4 else np.float32
            values, outside = np.empty(shape, kind), np.zeros(shape, bool)
        notes += [note for note in said if note not in notes]
        for n in places:
            part = slices[n]
            values[:, n] = np.moveaxis(pixels[part.frame or 0] * part.slope + part.intercept, -1, 0)
            if padded is not None:
                outside[:, n] = np.moveaxis(padded[part.frame or 0], -1, 0)
    if outside.any() and not outside.all():
        values[outside] = values[~outside].min()
        notes.append("padding set to the lowest value")
    return values, notes


def _pixels(source: str | bytes) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Frames n h w c of a file as stored, upright in brightness, and which are padding."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    data = _open(source)
    kind, colours = str(data.get("PhotometricInterpretation", "")), int(data.get("SamplesPerPixel", 1)) > 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = pixel_array(data)
            if kind == "PALETTE COLOR":
                pixels, colours = apply_color_lut(pixels, data), True
            frames = pixels.reshape(-1, *pixels.shape[-3 if colours else -2 :], *(() if colours else (1,)))
            low, notes, padded = data.get("PixelPaddingValue"), [], None
            if low is not None:
                low, high = sorted((int(low), int(data.get("PixelPaddingRangeLimit", low))))
                padded = (frames >= low) & (frames <= high)
            if kind == "MONOCHROME1":
                top = (1 << int(data.BitsStored)) - 1 if data.get("PixelRepresentation", 0) == 0 else -1
                frames, notes = top - frames.astype(np.int64), ["MONOCHROME1 inverted"]
            if "ModalityLUTSequence" in data:
                frames = apply_modality_lut(frames, data)
    except Exception as error:
        syntax = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
        if isinstance(error, (RuntimeError, NotImplementedError)) and syntax is not None and syntax.is_compressed:
            raise BadImage(f"packed by {syntax.name}, which needs pylibjpeg or python-gdcm to unpack") from None
        short = isinstance(error, EOFError) or "less than expected" in str(error) or "end of" in str(error)
        raise BadImage("truncated" if short else f"damaged ({type(error).__name__})") from None
    return frames, padded, notes
