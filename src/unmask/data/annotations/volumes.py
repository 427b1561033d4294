"""Volumes with volumes of labels: two files of one name, in images/ and labels/ and whatever else `pairs` knows.

Also the folders of the Medical Segmentation Decathlon and of nnU-Net: imagesTr/case_0000.nii.gz with
labelsTr/case.nii.gz, and a dataset.json that names the classes. Labels that do not say where they lie are taken to lie
as their volume does.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unmask.data.annotations.formats.pairs import PairedMaps
from unmask.data.annotations.legend import Legend, read_legend
from unmask.data.annotations.maps import give_one_legend, images_below
from unmask.data.annotations.mask_files import LARGEST
from unmask.data.annotations.objects import Scene
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volume import Size, Volume, as_stored, read_volume
from unmask.errors import DataError, UserError, closest_place

ENDINGS = (".nii", ".nii.gz", ".npy", ".npz", ".tif", ".tiff")
DECATHLON = {"Tr": "train", "Val": "val", "Ts": "test"}
_FOLDER = re.compile(r"(?:^|(?<=/))(images|labels)(Tr|Val|Ts)(?=/)")
OFF = 1.0  # voxels that labels may lie beside their volume


def is_volume_name(name: str) -> bool:
    """By its ending; DICOM is a folder of slices, and pairs with nothing."""
    return name.lower().endswith(ENDINGS)


def open_volumes(
    places: Sequence[str], images: Path | None = None, classes: Path | None = None
) -> list["PairedVolumes"]:
    """The volumes with labels at each place, all with the same classes. As `open_maps`, with the same errors."""
    legend = None if classes is None else read_legend(classes)
    opened: list[PairedVolumes] = []
    for place in map(Path, places):
        if not place.is_dir():
            raise UserError(f"{place} is no folder of volumes and labels{closest_place(place)}")
        if not images_below(place, is_volume_name):
            raise DataError(
                f"{place} holds no volumes with labels: give a folder with images/ and labels/ whose files, such as"
                " NIfTI, have the same names"
            )
        opened.append(PairedVolumes(place, images, legend))
    give_one_legend(opened)
    return opened


class PairedVolumes(PairedMaps):
    def __init__(self, place: Path, images: Path | None, legend: Legend | None):
        self.files: dict[str, str] = {}  # path as it would be in plainer folders -> path
        super().__init__(place, images, legend)
        for scene in self.scenes:
            scene.path = self.files.get(scene.path, scene.path)
            scene.mask = self.files.get(str(scene.mask), scene.mask)

    def below(self, root: Path) -> list[str]:
        """Relative paths, those of the Decathlon as train/images/case.nii.gz."""
        paths = images_below(root, is_volume_name)
        several = any(re.search(r"_0001\.", path) for path in paths)
        if several:
            self.remarks.append("volumes of several files (_0000, _0001, ...) are not joined: save them as one file")
        plainer = []
        for path in paths:
            new = _FOLDER.sub(lambda match: f"{DECATHLON[match[2]]}/{match[1]}", path)
            if new != path and "/images/" in f"/{new}" and not several:
                new = re.sub(r"_0000(?=\.[^/]*$)", "", new)
            self.files[str(root / new)] = str(root / path)
            plainer.append(new)
        return plainer

    def size_of(self, scene: Scene) -> Size:
        return read_volume(scene.path).size

    def truth(self, scene: Scene, size: tuple[int, ...]) -> np.ndarray:
        """The number of every voxel, in the volume's canonical orientation. size: not needed."""
        if scene.mask is None:
            raise BadImage("its labels lie in a folder for each class: save them as one volume of numbers")
        volume, labels = read_volume(scene.path), read_volume(scene.mask, labels=True)
        numbers = labels.values[0].numpy()
        if _lies(volume) and not _lies(labels):
            numbers = _laid_as(numbers if not labels.geometry.codes else _stored(labels), volume)
            self.notes["say nothing of where they lie: taken to lie as their volumes"].add(scene.name)
        elif numbers.shape != volume.size:
            raise BadImage(f"is {' x '.join(map(str, volume.size))}, its labels {' x '.join(map(str, numbers.shape))}")
        elif _lies(volume) and (away := _apart(volume, labels)) > OFF:
            raise BadImage(f"its labels lie up to {away:.1f} voxels away from it: their headers differ")
        low, high = int(numbers.min()), int(numbers.max())
        if low < -1 or high > LARGEST:
            raise BadImage(f"its labels hold the number {low if low < -1 else high}; classes are 0 to {LARGEST:,}")
        numbers = np.where(np.isin(numbers, list(self.nodata)), -1, numbers) if self.nodata else numbers
        return numbers.astype(np.int32)

    def _read_legends(self, root: Path, legend: Legend | None) -> None:
        super()._read_legends(root, legend)
        described = root / "dataset.json"  # the Decathlon's
        if legend is None and not self.legend.names and described.is_file():
            self.legend = read_legend(described)


def _lies(volume: Volume) -> bool:
    """Whether a file says how it lies in space."""
    codes = dict(volume.geometry.header)
    return bool(volume.geometry.codes) and any(codes.get(name, (0.0,))[0] for name in ("sform_code", "qform_code"))


def _stored(labels: Volume) -> np.ndarray:
    return as_stored(labels.values.numpy(), labels.geometry)[0]


def _laid_as(stored: np.ndarray, volume: Volume) -> np.ndarray:
    """Numbers in the order of a volume's file, turned as that was."""
    geometry = volume.geometry
    if stored.shape != geometry.size:
        raise BadImage(f"is {' x '.join(map(str, geometry.size))}, its labels {' x '.join(map(str, stored.shape))}")
    turned = stored.transpose(geometry.axes)
    return np.ascontiguousarray(np.flip(turned, tuple(n for n, flip in enumerate(geometry.flipped) if flip)))


def _apart(volume: Volume, labels: Volume) -> float:
    """How far a corner of one volume is from that of another at most, in voxels of the first."""
    ends = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    ends[:, :3] *= np.array(volume.size) - 1
    return float(np.abs(ends @ (np.linalg.inv(volume.affine) @ labels.affine).T - ends)[:, :3].max())
