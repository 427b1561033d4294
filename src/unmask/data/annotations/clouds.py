"""Clouds with a class for every point. Where the labels stand, for each cloud by itself:

- in a file of its name in a folder of labels, `clouds/a.ply` and `labels/a.seg` (.labels, .txt, .npy: a whole number
  for each point), also `points/a.pts` and `points_label/a.seg` (Yi et al. 2016, ShapeNet's parts), or `a.seg` beside
  `a.pts`;
- in the cloud's own file: a property `label`, `class`, `part` ... of its points, the classification of LAS;
- in one NPZ file of many clouds: `train_points` with `train_point_labels`, n x points.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unmask.data.annotations.legend import NO_CLASS, Legend, find_legend, read_legend
from unmask.data.annotations.maps import Maps, give_one_legend, images_below, split_of_folders
from unmask.data.annotations.mask_files import LARGEST
from unmask.data.annotations.objects import Scene
from unmask.data.annotations.pairing import in_truth_folder, key_of_pair, one_for_each, without_suffix
from unmask.data.codecs.clouds.point_labels import ENDINGS, PLAIN, read_point_labels, whole_numbers
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import PointCloud, read_points
from unmask.data.labels import printable, some
from unmask.data.names import match_keys
from unmask.data.source import open_source
from unmask.errors import DataError, UserError, closest_place, many

ARRAYS, NAMES = "point_labels", "parts"  # in NPZ files: the labels, and what the classes are called
CLOUDS = {"points", "clouds", "cloud", "point_clouds", "pointclouds", "pts", "ply", "las", "xyz"}  # folders
_OF_POINTS = re.compile(r"^(?:points?|clouds?|pts)[._-](?=.)", re.I)  # of folders such as points_label
NONE = (
    "has no label for its points: neither a property such as `label` in its file, nor a file of its name (.seg, .txt or"
    " .npy) in a folder labels/, nor an array point_labels beside its points"
)


def open_clouds(
    places: Sequence[str], modality: str, images: Path | None = None, classes: Path | None = None
) -> list["LabelledClouds"]:
    """The clouds at each place, all with the same classes. modality: the text of their kind; images: the folder of the
    clouds, where labels lie apart. Raises UserError and DataError as `open_maps`."""
    legend = None if classes is None else read_legend(classes)
    for place in map(Path, places):
        if not place.exists():
            raise UserError(f"{place} does not exist{closest_place(place)}")
    opened = [LabelledClouds(Path(place), modality, images, legend) for place in places]
    give_one_legend(opened)
    return opened


class LabelledClouds(Maps):
    checks = True

    def __init__(self, place: Path, modality: str, images: Path | None, legend: Legend | None):
        super().__init__("labels of points", place, legend or Legend())
        self.source = open_source(images or place, modality)
        self.remarks += self.source.remarks
        root = Path(images or place)
        self.files = self._beside(place, root) if place.is_dir() else {}
        for index, item in enumerate(self.source.items):
            path = self.source.path(index)
            split = item.split or split_of_folders(item.name.split("/")[:-1])
            path = path if isinstance(path, str) else f"{self.where}/{item.name}"  # only told apart by it
            self.scenes.append(Scene(path, item.name, split, mask=self.files.get(item.name), id_=index))
        if legend is None:
            self.legend = self._legend(place, root)

    def truth(self, scene: Scene, size: tuple[int, ...]) -> np.ndarray:
        """The number of every point of a file, in its order; NO_CLASS for numbers below 0, and where a point cannot be
        used. size: not needed. Raises BadImage where there are no labels, or not as many as points."""
        assert isinstance(scene.id_, int)
        cloud = read_points(self.source.raw(scene.id_))  # type: ignore[arg-type]
        numbers = self._numbers(scene, cloud)
        if len(numbers) != cloud.stored:
            why = f"its labels are {len(numbers):,} numbers, it has {cloud.stored:,} points"
            faces = cloud.faces is not None and len(cloud.faces) == len(numbers)
            raise BadImage(why + (": labels of the faces of a mesh are not read, those of its corners are" * faces))
        if numbers.max() > LARGEST:
            raise BadImage(f"its labels hold the number {numbers.max():,}; classes are 0 to {LARGEST:,}")
        classes = np.full(len(numbers), NO_CLASS, dtype=np.int32)
        rows = cloud.of_file.numpy()
        classes[rows] = np.where((numbers < 0) | np.isin(numbers, list(self.nodata)), NO_CLASS, numbers)[rows]
        return classes

    def _numbers(self, scene: Scene, cloud: PointCloud) -> np.ndarray:
        assert isinstance(scene.id_, int)
        if scene.mask is not None:
            return read_point_labels(scene.mask)
        row = self.source.companion(ARRAYS, scene.id_)
        if row is not None:
            return whole_numbers(row)
        if cloud.labels is None:
            by = cloud.labelled_by
            raise BadImage(f"its labels ({by}) are no whole numbers" if by else NONE)
        self.notes[f"labelled by {cloud.labelled_by!r} in their own files"].add(scene.name)
        numbers = np.full(cloud.stored, NO_CLASS, dtype=np.int64)
        numbers[cloud.of_file.numpy()] = cloud.labels.numpy()
        return numbers

    def _beside(self, place: Path, root: Path) -> dict[str, str]:
        """The file of labels of each cloud, by its name."""
        names = {item.name for item in self.source.items}
        clouds = {name: key_of_pair(_plainer(name)) for name in names}
        own = {os.path.realpath(root / name) for name in names}
        labels = {
            path: without_suffix(key_of_pair(_plainer(path)), clouds.values())
            for path in images_below(place, lambda name: name.lower().endswith(ENDINGS))
            if os.path.realpath(place / path) not in own
            and (place != root or in_truth_folder(_plainer(path)) or path.lower().endswith(PLAIN))
        }
        matches = match_keys(labels, clouds)
        self.remarks += matches.remarks("files of labels are found")
        beside = one_for_each(matches.files, "are labels of one cloud: keep the file that is meant")
        if beside:
            first = next(iter(beside.values()))
            self.remarks.append(f"labels of {many(len(beside), 'cloud')} are files of their names, such as {first}")
        self.lost += [(printable(p), "holds labels of no cloud here") for p in labels if p not in matches.files]
        return {name: str(place / path) for name, path in beside.items()}

    def _legend(self, place: Path, root: Path) -> Legend:
        """What names the classes: an array of the NPZ file, or a file beside the labels or above."""
        parts = self.source.companion(NAMES)
        if parts is not None and parts.dtype.kind in "US":
            return Legend(dict(enumerate(map(str, parts.reshape(-1).tolist()))), {}, f"{NAMES} in {self.where}")
        if parts is not None:
            raise DataError(f"{self.where}: {NAMES} are the names of the classes as text; they are {parts.dtype}")
        folders = {Path(path).parent for path in self.files.values()} | {root, place}
        legends = [legend for folder in sorted(folders) if folder.is_dir() and (legend := find_legend(folder))]
        if len(legends) > 1 and any(legend.names != legends[0].names for legend in legends):
            several = some([legend.where for legend in legends])
            raise DataError(f"{several} name the classes differently: say with --classes which is meant")
        return legends[0] if legends else Legend()


def _plainer(path: str) -> str:
    """The same path with folders that say clouds or labels of points as those of images and labels."""
    *folders, name = path.split("/")
    plain = ["images" if folder.lower() in CLOUDS else _OF_POINTS.sub("", folder) for folder in folders]
    return "/".join([*plain, name])
