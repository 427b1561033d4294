"""Volumes: NIfTI, DICOM series, NumPy arrays and stacks of TIFF pages, three axes in one canonical orientation.

Values differ from scanner to scanner, so each volume is brought to 0..1 by its own percentiles, or all by one window.
Cubes as patches and blocks as masks: nnssl's, https://github.com/MIC-DKFZ/nnssl.
"""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from unmask.choice import Choice
from unmask.data.codecs.dicom import find_series, read_dicom
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.codecs.signature import HEAD, volume_format
from unmask.data.codecs.volume import Geometry, Size, read_volume
from unmask.data.codecs.volume import Volume as Read
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window
from unmask.data.regular_files import head_of
from unmask.data.transforms.kernels.box import RandomBox, WholeBox
from unmask.data.transforms.kernels.volume import (
    Box,
    cut,
    foreground_box,
    foreground_places,
    most_probable,
    percentile_window,
    resample,
    resample_labels,
    size_at,
    windowed,
)
from unmask.errors import UserError, closest, many

__all__ = ["Volume"]
ANYWHERE, FOREGROUND = "anywhere", "foreground"
LABELS = re.compile(r"(^|/)[^/]*(label|mask|segm|truth|annot)[^/]*$")  # folders of maps


@dataclass(frozen=True)
class Intensity:
    """How values are brought to 0..1."""

    window: tuple[float, float] | None  # of all volumes, in their own units; None: by percentiles
    percentiles: tuple[float, float]  # of each volume


@dataclass(frozen=True)
class Located:
    """A volume as a model is given it, and how its voxels lie in its file."""

    decoded: Decoded
    size: Size  # of the file, d h w in canonical orientation, and so are the others
    resampled: Size  # at the spacing wanted
    box: Box  # what of that is in the content
    geometry: Geometry
    spacing: tuple[float, float, float] | None  # mm in the file; None where it does not say

    @property
    def content(self) -> Float[Tensor, "c d h w"]:
        return self.decoded.content

    @property
    def steps(self) -> tuple[float, float, float]:
        """mm from voxel to voxel of the content along d, h, w; 1 where the file does not say."""
        spacing = self.spacing or (1.0, 1.0, 1.0)
        d, h, w = (step * old / new for step, old, new in zip(spacing, self.size, self.resampled))
        return d, h, w

    def laid(self, labels: Shaped[np.ndarray, "d h w"]) -> Shaped[Tensor, "p q r"]:
        """Labels of the file's voxels, for those of the content."""
        return cut(resample_labels(torch.from_numpy(labels), self.resampled), self.box)

    def back(self, logits: Float[Tensor, "k d h w"], background: int) -> UInt8[np.ndarray, "p q r"]:
        """The class of every voxel of the file, from logits of the content at any resolution; outside of the content
        it is `background`."""
        size = tuple(end - first for first, end in self.box)
        if size == self.resampled:
            return most_probable(logits, self.size)
        whole = torch.full(self.resampled, background, dtype=torch.uint8)
        cut(whole, self.box)[:] = torch.from_numpy(most_probable(logits, size))
        return resample_labels(whole, self.size).numpy()


class Volume(Modality):
    cheaper = "volumes resampled and cut to what matters beforehand, as .nii in place of .nii.gz"
    word, axes, sizes = "volume", ("depth", "height", "width"), ("depth", "height", "width")
    endings = (".nii", ".nii.gz", ".dcm", ".dicom", ".ima")
    by_path, labelled = True, "voxel"

    def __init__(
        self,
        window: tuple[float, float] | None = None,
        percentiles: tuple[float, float] = (0.5, 99.5),
        spacing: float | None = None,
        foreground: bool = False,
        crops: str = ANYWHERE,
        inflate: str = "average",
    ):
        """window: lowest and highest value that matter, in the files' units (Hounsfield units of CT); by default each
        volume's own percentiles. spacing: mm between voxels, to which volumes are resampled. foreground: cut off what
        is background around the body. crops: boxes to learn from lie "anywhere", or "foreground": around a voxel that
        is no background. inflate: how weights of images come to see cubes, by average or centre."""
        if window is not None and not window[0] < window[1]:
            raise UserError(f"a window of intensity is (lowest, highest), such as (-1000, 400); got {window}")
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise UserError(f"percentiles of intensity are (low, high) from 0 to 100; got {percentiles}")
        if spacing is not None and not spacing > 0:
            raise UserError(f"spacing is a length above 0 in mm; got {spacing}")
        if crops not in (ANYWHERE, FOREGROUND):
            near = closest(crops, (ANYWHERE, FOREGROUND))
            raise UserError(f"crops of volumes are {ANYWHERE} or {FOREGROUND}; got {crops!r}{near}")
        self.centred = crops == FOREGROUND
        self.intensity, self.spacing, self.foreground = Intensity(window, percentiles), spacing, foreground
        self.inflate = inflate

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        return volume_format(head, name) is not None

    def grouped(self, paths: Sequence[str], root: str | None) -> tuple[list[tuple[str, ...]], list[str]]:
        maps = label_maps(paths)
        remarks = [f"left out: {many(len(maps), 'map')} of labels, such as {min(maps)}"] if maps else []
        dicom = {path for path in paths if _is_dicom(path, root)}
        slices, whole = sorted(dicom), [path for path in paths if path not in maps | dicom]
        if root is None:
            remarks += [f"left out: {many(len(slices), 'slice')} of DICOM, read from folders only"] if slices else []
            return [(path,) for path in whole], remarks
        folders: dict[str, list[str]] = defaultdict(list)
        for path in slices:
            folders[os.path.dirname(path)].append(path)
        groups: list[tuple[str, ...]] = [(path,) for path in whole]
        for folder in sorted(folders):
            shorter = {os.path.join(root, path): path for path in folders[folder]}
            series, reasons = find_series(list(shorter))
            groups += [tuple(shorter[path] for path in group) for group in series]
            groups += [(shorter[path],) for path in reasons]  # bad files, each said with its reason
        return groups, remarks

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        return self.located(raw).decoded

    def located(self, raw: Raw) -> Located:
        """A volume as `decode` gives it, with the way back to the voxels of its file. Raises as `decode`."""
        volume = _read(raw)
        values = volume.values
        if self.spacing is not None:
            if volume.spacing is None:
                raise BadImage(f"says nothing of its spacing, so it cannot be brought to {self.spacing:g} mm")
            values = resample(values, size_at(volume.size, volume.spacing, (self.spacing, self.spacing, self.spacing)))
        resampled: Size = values.shape[1:]  # type: ignore[assignment]
        box: Box = ((0, resampled[0]), (0, resampled[1]), (0, resampled[2]))
        if self.foreground:
            box = foreground_box(values)
            values = cut(values, box)
        low_high = self.intensity.window or percentile_window(values, *self.intensity.percentiles)
        content, notes = windowed(values, *low_high), volume.notes
        if self.centred and not len(foreground_places(content)):
            notes = (*notes, "no foreground in it: crops lie anywhere")
        facts = (volume.format, volume.size, volume.channels, volume.bits, notes)
        decoded = Decoded(content, *facts)
        return Located(decoded, volume.size, resampled, box, volume.geometry, volume.spacing)

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        if kind == "whole":
            return WholeBox(size)
        return RandomBox(size, scale=(share, 1.0), flip=flip, foreground=self.centred)

    def whole(self, size: tuple[int, ...]) -> WholeBox:
        return WholeBox(size)

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        most = 48 if small else 96
        share = min(1.0, most / max(sheet.median_size))
        unit = patch or (8 if max(sheet.median_size) * share >= 24 else 4)
        sides = [max(2, round(share * side / unit)) * unit for side in sheet.median_size]
        shrunk = "" if share == 1 else f", shrunk to {most} voxels at the most"
        shape = " x ".join(map(str, sheet.median_size))
        return {
            "image_size": Choice(sides, f"the shape of the median volume, {shape}{shrunk}, in whole cubes"),
            "patch_size": Choice(unit, "cubes of so many voxels, small enough for about a hundred of them"),
        }

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        return {
            "crop": Choice(0.5, "boxes of at least half of the volume: scale carries meaning in scans"),
            "flip": Choice("off", "left and right differ in bodies"),
        }

    def flat(self, x: Shaped[Tensor, "c d h w"]) -> Shaped[Tensor, "c p q"]:
        """The middle slice across each axis, side by side, filled up with zeros below."""
        d, h, w = (side // 2 for side in x.shape[1:])
        slices = [x[:, d], x[:, :, h], x[:, :, :, w]]
        height, width = max(s.shape[1] for s in slices), sum(s.shape[2] for s in slices)
        page = x.new_zeros(x.shape[0], height, width)
        left = 0
        for part in slices:
            page[:, : part.shape[1], left : left + part.shape[2]] = part
            left += part.shape[2]
        return page


def label_maps(paths: Sequence[str]) -> set[str]:
    """Volumes in a folder of labels or masks that have the name of one in another folder: they say what is seen there,
    and are nothing to learn from without labels."""
    names = {os.path.basename(path) for path in paths if not LABELS.search(os.path.dirname(path).lower())}
    return {p for p in paths if LABELS.search(os.path.dirname(p).lower()) and os.path.basename(p) in names}


def _is_dicom(path: str, root: str | None) -> bool:
    """By its name where that says it: there may be many thousand slices."""
    if path.lower().endswith((".dcm", ".dicom", ".ima")) or root is None:
        return path.lower().endswith((".dcm", ".dicom", ".ima"))
    is_other = path.lower().endswith((".nii", ".nii.gz", ".npy", ".npz", ".tif", ".tiff"))
    return not is_other and volume_format(head_of(os.path.join(root, path)), path) == "DICOM"


def _read(raw: Raw) -> Read:
    assert not isinstance(raw, Piece)  # volumes are not read in pieces
    if isinstance(raw, tuple):
        return read_dicom(raw)
    if isinstance(raw, np.ndarray):
        return read_volume(raw)
    head, name = (raw[:HEAD], "") if isinstance(raw, bytes) else (head_of(raw), raw)
    if volume_format(head, name) != "DICOM":
        return read_volume(raw)
    volume = read_dicom([raw])
    if isinstance(raw, bytes) and volume.size[0] == 1:  # of an archive or a shard
        raise BadImage("one slice of DICOM: series are read from folders only")
    return volume
