"""Volumes: NIfTI (by nibabel), NumPy arrays, TIFF of several pages. DICOM is in `dicom`.

Values are c d h w. Of a file that says how it lies in space, d leads to the head (superior), h to the front (anterior)
and w to the right, as nibabel's closest canonical orientation with its three axes the other way round; of arrays and
TIFF, the axes are as stored. Affines lead from the indices d, h, w to millimetres right, anterior, superior.
"""

import gzip
import io
import logging
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volumes.stack import (
    MILLIMETRES,
    Stack,
    channels_first,
    check_size,
    stack_of_array,
    stack_of_npz,
    stack_of_tiff,
)
from unmask.errors import UserError
from unmask.files import write_atomically
from unmask.version import optional_library

FIELDS = ("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x")
FIELDS += ("qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")  # of a NIfTI header: where the volume lies, no more
Size = tuple[int, int, int]
PAIR = (
    "NIfTI in two files, .hdr and .img: join them, python -c \"import nibabel as n; n.save(n.load('a.hdr'), 'a.nii')\""
)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a volume lay in its file, so that what is predicted for it can be written into the same place."""

    size: Size  # voxels along the three axes as stored
    axes: Size  # which of these d, h and w are
    flipped: tuple[bool, bool, bool]  # whether d, h and w run against them
    codes: str  # where the stored axes lead to, such as "LPS"; "" where the file does not say
    affine: tuple[float, ...]  # 16: from stored indices to space, in the file's unit, row by row
    header: tuple[tuple[str, tuple[float, ...]], ...] = ()  # FIELDS of NIfTI
    version: int = 1  # of NIfTI


@dataclass(frozen=True)
class Volume:
    """A volume as read, in canonical orientation."""

    values: Shaped[Tensor, "c d h w"]  # float32; int64 where labels were wanted
    spacing: tuple[float, float, float] | None  # mm from voxel to voxel along d, h, w; None where the file does not say
    affine: Float[np.ndarray, "4 4"]  # float64, from indices d, h, w to mm; voxels of 1 mm where the file does not say
    geometry: Geometry
    format: str  # "NIfTI", "DICOM series", "TIFF stack", "array"
    bits: int  # per value as stored
    notes: tuple[str, ...] = ()  # what was done to it

    @property
    def size(self) -> Size:
        depth, height, width = self.values.shape[1:]
        return depth, height, width

    @property
    def channels(self) -> int:
        return self.values.shape[0]


def read_volume(source: str | bytes | np.ndarray, *, labels: bool = False) -> Volume:
    """A volume from a file, its bytes or an array. labels: whole numbers, one channel.

    Raises BadImage; UserError where nibabel is missing.
    """
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # both log what we raise or can do without
    logging.getLogger("nibabel").setLevel(logging.CRITICAL + 1)
    try:
        if isinstance(source, np.ndarray):
            volume = _as_it_lies(stack_of_array(source))
        else:
            with open(source, "rb") if isinstance(source, str) else io.BytesIO(source) as file:
                volume = _from_file(file)
    except (BadImage, UserError):
        raise
    except MemoryError as error:
        raise BadImage("needs more memory than there is") from error
    except EOFError as error:
        raise BadImage("truncated") from error
    except Exception as error:  # nibabel, tifffile and gzip raise anything of a damaged file
        raise BadImage(f"damaged ({type(error).__name__})") from error
    return as_labels(volume) if labels else as_values(volume)


def as_values(volume: Volume) -> Volume:
    """float32 without anything that is not finite."""
    values = volume.values.float()
    bad = int((~torch.isfinite(values)).sum())
    if bad == values.numel():
        raise BadImage("no finite value")
    notes = (*volume.notes, f"{bad:,} non-finite values set to 0") if bad else volume.notes
    return replace(volume, values=values.nan_to_num(0, 0, 0) if bad else values, notes=notes)


def as_labels(volume: Volume) -> Volume:
    """int64, one channel. Raises BadImage for values that are no whole numbers."""
    values = volume.values
    if values.shape[0] != 1:
        raise BadImage(f"a volume of labels has one channel; this one has {values.shape[0]}")
    if values.is_floating_point() and not bool((values == values.round()).all()):  # also false of NaN
        raise BadImage("a volume of labels has whole numbers; this one has others")
    return replace(volume, values=values.long())


def oriented(
    values: Shaped[np.ndarray, "c i j k"], affine: np.ndarray, unit: float = 1.0
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float], Geometry]:
    """Values c d h w in canonical orientation, their affine and spacing in mm, and what undoes it.

    affine: from the stored indices i, j, k to `unit` mm. Raises BadImage where it leads nowhere.
    """
    with optional_library("volumes", "nibabel", "medical"):
        import nibabel as nib
        from nibabel import orientations
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-30:
        raise BadImage("its header has no usable orientation: the affine is singular")
    turn = orientations.io_orientation(affine)  # of i, j, k: which of right, anterior, superior, and 1 or -1
    if np.isnan(turn).any():
        raise BadImage("its header has no usable orientation: two axes lead the same way")
    stored: Size = values.shape[1:]  # type: ignore[assignment]
    to = [int(axis) for axis, _ in turn]
    axes = (to.index(2), to.index(1), to.index(0))
    flipped = tuple(bool(turn[axis][1] < 0) for axis in axes)
    canonical = (affine @ orientations.inv_ornt_aff(turn, stored))[:, [2, 1, 0, 3]]
    canonical[:3] *= unit
    codes = "".join(nib.aff2axcodes(affine))  # type: ignore[arg-type]
    geometry = Geometry(stored, axes, flipped, codes, tuple(map(float, affine.ravel())))  # type: ignore[arg-type]
    turned = values.transpose(0, *(axis + 1 for axis in axes))
    turned = np.flip(turned, tuple(n + 1 for n, flip in enumerate(flipped) if flip))
    spacing = tuple(float(n) for n in np.sqrt((canonical[:3, :3] ** 2).sum(0)))
    return turned, canonical, spacing, geometry  # type: ignore[return-value]


def as_stored(values: Shaped[np.ndarray, "c d h w"], geometry: Geometry) -> Shaped[np.ndarray, "c i j k"]:
    """Undoes the canonical orientation. Raises ValueError for values of another size than the input's."""
    canonical = tuple(geometry.size[axis] for axis in geometry.axes)
    if values.shape[1:] != canonical:
        raise ValueError(f"values of size {values.shape[1:]} for a volume of {canonical}")
    values = np.flip(values, tuple(n + 1 for n, flip in enumerate(geometry.flipped) if flip))
    return values.transpose(0, *(geometry.axes.index(axis) + 1 for axis in range(3)))


def write_volume(path: Path, values: Shaped[Tensor, "*c d h w"], geometry: Geometry) -> None:
    """Writes NIfTI (packed if the name ends in .gz) that lies where the input lay: its orientation, affine, codes and
    unit, and nothing else of its header. Whole numbers get the smallest type that holds them, others float32; several
    channels are the fourth axis. Raises UserError for another name, OSError."""
    with optional_library("volumes", "nibabel", "medical"):
        import nibabel as nib
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        raise UserError(f"a volume is written as .nii or .nii.gz; got {path.name}")
    array = as_stored(values.detach().cpu().reshape(-1, *values.shape[-3:]).numpy(), geometry)
    array = np.moveaxis(array, 0, 3) if len(array) > 1 else array[0]
    if array.dtype.kind in "biu":
        low, high = int(array.min()), int(array.max())
        kinds = [np.uint8, np.int16, np.int32, np.int64]
        array = array.astype(next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))
    else:
        array = array.astype(np.float32)
    image: Any = (nib.Nifti2Image if geometry.version == 2 or max(array.shape) > 32767 else nib.Nifti1Image)(
        array, np.array(geometry.affine).reshape(4, 4)
    )
    if geometry.header:
        for name, value in geometry.header:
            image.header[name] = value if len(value) > 1 else next(iter(value))
    else:
        image.header.set_xyzt_units("mm")
        image.set_qform(image.affine, 1)
        image.set_sform(image.affine, 1)
    data = image.to_bytes()
    packed = gzip.compress(data, 6, mtime=0) if path.name.lower().endswith(".gz") else data
    write_atomically(path, lambda part: part.write_bytes(packed))


def _from_file(file: Any) -> Volume:
    head = file.read(6)
    file.seek(0)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _as_it_lies(stack_of_tiff(file.read()))
    if head == b"\x93NUMPY":
        return _as_it_lies(stack_of_array(np.load(file, allow_pickle=False)))
    if head[:4] == b"PK\x03\x04":
        return _as_it_lies(stack_of_npz(file))
    if head[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=file) as plain:
            volume = _from_nifti(plain, None)
            plain.read(1)  # at the end, so that the checksum is looked at
        return volume
    return _from_nifti(file, os.fstat(file.fileno()).st_size if hasattr(file, "name") else len(file.getbuffer()))


def _from_nifti(file: Any, num_bytes: int | None) -> Volume:
    """num_bytes: of the file; None where it is packed."""
    with optional_library("volumes", "nibabel", "medical"):
        import nibabel as nib
    head = file.read(348)
    file.seek(0)
    version = 2 if 540 in (int.from_bytes(head[:4], order) for order in ("little", "big")) else 1
    if not head:
        raise BadImage("empty")
    if len(head) < 348:
        raise BadImage("truncated")
    mark = head[344:347] if version == 1 else head[4:7]
    if mark in (b"ni1", b"ni2"):
        raise BadImage(PAIR)
    if mark not in (b"n+1", b"n+2"):
        analyze = head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and not mark.strip(b"\0")
        raise BadImage(
            "Analyze 7.5, which does not say left from right: convert it to .nii" if analyze else "not NIfTI"
        )
    kind: Any = nib.Nifti2Image if version == 2 else nib.Nifti1Image
    header = kind.header_class.from_fileobj(file)
    file.seek(0)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    check_size(shape, dtype)
    if num_bytes is not None and num_bytes < header.get_data_offset() + math.prod(shape) * dtype.itemsize:
        raise BadImage("truncated")
    image = kind.from_file_map({"image": nib.FileHolder(fileobj=file)}, mmap=False)
    if dtype.names:  # red, green, blue
        pixels = np.asarray(image.dataobj).reshape(*shape[:3], *(1,) * (3 - len(shape)))
        stored = np.stack([pixels[name] for name in dtype.names])
    else:
        whole = dtype.kind in "iu" and (image.dataobj.slope, image.dataobj.inter) == (1, 0)
        with np.errstate(over="ignore"):
            array = np.asarray(image.dataobj) if whole else image.get_fdata(caching="unchanged", dtype=np.float32)
        stored = channels_first(array)
    unit = MILLIMETRES.get(header.get_xyzt_units()[0], 1.0)
    values, affine, spacing, geometry = oriented(stored, image.affine, unit)
    fields = tuple((name, tuple(map(float, np.atleast_1d(header[name])))) for name in FIELDS)
    notes = (
        [] if header["sform_code"] or header["qform_code"] else ["no orientation in its header: taken as nibabel does"]
    )
    notes += [f"turned from {geometry.codes}"] if geometry.codes != "RAS" else []
    geometry = replace(geometry, header=fields, version=version)
    bits = 8 * dtype.itemsize // len(dtype.names or "1")
    return Volume(tensor_of(values), spacing, affine, geometry, "NIfTI", bits, tuple(notes))


def _as_it_lies(stack: Stack) -> Volume:
    """A volume that does not say where it lies; written, its axes w, h, d are the first, second and third."""
    steps = stack.spacing or (1.0, 1.0, 1.0)
    depth, height, width = stack.values.shape[1:]
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (*steps, 1.0)
    lying = tuple(map(float, np.diag([*steps[::-1], 1.0]).ravel()))
    geometry = Geometry((width, height, depth), (2, 1, 0), (False, False, False), "", lying)
    notes = stack.notes if stack.spacing else (*stack.notes, "no spacing in it")
    return Volume(tensor_of(stack.values), stack.spacing, affine, geometry, stack.format, stack.bits, notes)


def tensor_of(values: np.ndarray) -> Tensor:
    """Of the type as stored where torch has it, else float32."""
    kind = values.dtype.newbyteorder("=")
    if kind.kind in "ub":
        kind = np.dtype({1: "u1", 2: "i4"}.get(kind.itemsize, "i8"))
    elif kind.kind == "f":
        kind = np.dtype(np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold is counted as not finite
        return torch.from_numpy(np.array(values, dtype=kind, order="C"))  # a copy: c d h w in memory
