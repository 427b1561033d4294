"""Clouds of points and meshes: PLY, OBJ, OFF, LAS, XYZ, NumPy. Pang et al. 2022 (Point-MAE),
https://arxiv.org/abs/2203.06604; as voxels, Min et al. 2022 (Occupancy-MAE), https://arxiv.org/abs/2206.09900.

A model sees so many points in a sphere of radius 1, in groups around centres that lie far from each other: the units.
Where a unit lies differs from cloud to cloud.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median_low

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Generator, Tensor

from unmask.choice import Choice
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import PointCloud, points_on_surface, read_exactly
from unmask.data.codecs.signature import points_format
from unmask.data.modality import Decoded, Facts, Modality, Raw, make_modality
from unmask.data.transforms.kernels.cloud_picture import GREY, by_height, picture, write_turning
from unmask.data.transforms.kernels.cloud_view import AXES, Groups, Turns, Voxels, drawn, in_sphere
from unmask.data.transforms.kernels.points import nearest_neighbours
from unmask.errors import UserError, closest, many
from unmask.plain import PositiveInt

__all__ = ["Points"]
POINTS, NEIGHBOURS = 1024, 32  # that are drawn, and of a group, as in Point-MAE
LOOKED = 8  # clouds that options are chosen by
KEPT = 1 << 15  # points of a cloud that are kept in memory
KINDS, TURNS, FEATURES = ("groups", "voxels"), ("x", "y", "z", "any", "off"), ("colours", "normals")
NAME = "points"  # of this kind
LABELS = re.compile(r"(?:^|[/_.-])(?:labels?|segs?|segmentations?|annotations?|gt)(?=/|$)")  # folders of labels
FAR = 0.5  # of an occupied voxel's probability, from which it is drawn


class Points(Modality):
    cheaper = "clouds thinned beforehand to the points that are drawn; points in place of meshes"
    word, axes, sizes = "cloud", ("points",), ("points",)
    endings = (".ply", ".las", ".laz", ".off", ".obj", ".xyz", ".xyzn", ".xyzrgb", ".pts")
    by_path, mirrored, weak, pictured, labelled = True, False, True, True, "point"
    keys, array_axes = ("points", "clouds", "xyz", "pos", "positions", "coords"), (3,)

    def __init__(
        self,
        points: PositiveInt | None = None,
        neighbours: PositiveInt | None = None,
        features: tuple[str, ...] | str | None = None,
        turn: str | None = None,
        units: str = "groups",
        resolution: PositiveInt = 32,
    ):
        """points: that are drawn of a cloud, 1024 or what most have; neighbours: in a group, of which there are two for
        as many points. features: beside x y z, of colours and normals; by default those that all have. turn: the axis
        that clouds are turned about at random, any or off; by default the upright one, y of OBJ files and z of others.
        units: groups or voxels; resolution: voxels along each side of a cube."""
        self.given = points, neighbours, features, turn
        self.open = None in self.given
        self.count, self.neighbours = points or POINTS, neighbours or NEIGHBOURS
        self.features = (features,) if isinstance(features, str) else tuple(features or ())
        self.turn, self.units, self.resolution = turn or "z", units, resolution
        for what, value, allowed in (("units", units, KINDS), ("turn", self.turn, TURNS)):
            if value not in allowed:
                raise UserError(f"points: {what} are {' or '.join(allowed)}; got {value!r}{closest(value, allowed)}")
        for name in self.features:
            if name not in FEATURES:
                raise UserError(f"points: features are {' or '.join(FEATURES)}; got {name!r}{closest(name, FEATURES)}")
        self.voxels = units == "voxels"
        if self.voxels:
            self.axes, self.features = ("x", "y", "z"), ()
        self.placed = not self.voxels

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        """Arrays only where clouds are asked for; one NPZ file of many clouds by the names of its arrays."""
        return points_format(head, name) is not None

    @classmethod
    def claims_if_wanted(cls, name: str, head: bytes) -> bool:
        arrays = head.startswith((b"PK\x03\x04", b"\x93NUMPY")) and name.lower().endswith((".npz", ".npy"))
        return arrays or cls.claims(name, head) or name.lower().endswith((".xyz", ".pts", ".asc", ".csv"))

    def settled(self, raws: Sequence[Callable[[], Raw]]) -> Modality:
        if not self.open:
            return self
        clouds: list[PointCloud] = []
        for raw in raws[:: max(1, len(raws) // LOOKED)][:LOOKED]:
            with suppress(BadImage, OSError):
                clouds.append(_read(raw())[0])
        if not clouds:
            return self
        points, neighbours, features, turn = self.given
        bare = [len(cloud.points) for cloud in clouds if cloud.faces is None]
        points = points or min(POINTS, max(16, median_low(bare)) if bare else POINTS)
        neighbours = neighbours or min(NEIGHBOURS, max(4, points // 16))
        if features is None:
            features = tuple(name for name in FEATURES if all(name in cloud.features for cloud in clouds))
        formats = Counter(cloud.format for cloud in clouds)
        turn = turn or ("y" if 2 * formats["OBJ"] > len(clouds) else "z")
        more = f", units='voxels', resolution={self.resolution}" if self.voxels else ""
        facts = f"points={points}, neighbours={neighbours}, features={features!r}, turn={turn!r}"
        return make_modality(f"points({facts}{more})")

    @classmethod
    def together(cls, files: Mapping[str, Sequence[str]], root: str, wanted: str | None) -> str | None:
        """Clouds whose labels are arrays, which might be signals."""
        clouds, others = files.get(NAME, ()), [path for name in files if name != NAME for path in files[name]]
        labels = labels_of_points([*clouds, *others])
        return (wanted or NAME) if clouds and others and labels.issuperset(others) else None

    def grouped(self, paths: Sequence[str], root: str | None) -> tuple[list[tuple[str, ...]], list[str]]:
        labels = labels_of_points(paths)
        remarks = [f"left out: {many(len(labels), 'file')} of labels, such as {min(labels)}"] if labels else []
        return [(path,) for path in paths if path not in labels], remarks

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        cloud = self.cloud(raw)[0]
        channels = 1 if self.voxels else 3 + 3 * len(self.features)
        facts = (cloud.format, cloud.size, channels, cloud.bits, cloud.notes)
        return Decoded(_thinned(cloud), *facts)

    def cloud(self, raw: Raw) -> tuple[PointCloud, Float64[np.ndarray, "n 3"]]:
        """All points of a file, with the features that this run uses, and their coordinates as the file has them.
        Raises as `decode`."""
        cloud, coordinates = _read(raw)
        if lacking := [name for name in self.features if name not in cloud.features]:
            raise BadImage(f"has no {' and '.join(lacking)}, which this run uses: points(features=()) does without")
        return replace(cloud, features={name: cloud.features[name] for name in self.features}), coordinates

    def fitted(self, content: PointCloud, channels: int) -> PointCloud:
        if channels == self.num_channels(content):
            return content
        if channels == 3:
            return replace(content, features={})
        raise BadImage(f"has {self.num_channels(content)} values for a point, the run uses {channels}")

    def num_channels(self, content: PointCloud) -> int:
        return 1 if self.voxels else 3 + sum(values.shape[1] for values in content.features.values())

    def values(self, content: PointCloud) -> Float[Tensor, "c n"]:
        values = in_sphere(drawn(content, self.count, Generator().manual_seed(0))[0]).T
        return torch.tensor([[0.0, 1.0]]) if self.voxels else values

    def normalisation(self, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates stay as they are: axes of their own scale would bend what is straight."""
        kept = np.arange(len(mean)) < 3
        return np.where(kept, 0.0, mean), np.where(kept, 1.0, std)

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> "Groups | Voxels":
        normals = 3 + 3 * self.features.index("normals") if "normals" in self.features else None
        turns = None if kind == "whole" else Turns(self.turn, normals)
        return self._window(size, 1.0 if kind != "random" else share, turns)

    def whole(self, size: tuple[int, ...]) -> "Groups | Voxels":
        return self._window(size, 1.0, None)

    def _window(self, size: tuple[int, ...], share: float, turns: Turns | None) -> "Groups | Voxels":
        if self.voxels:
            return Voxels(size, self.count, share, turns)
        return Groups(size, self.count, self.neighbours, share, turns)

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        if self.voxels:
            unit = patch or (8 if small and self.resolution >= 32 else 4)
            side = max(2, round(self.resolution / unit)) * unit
            return {
                "image_size": Choice([side] * 3, "voxels along each side of the cube around a cloud"),
                "patch_size": Choice(unit, f"cubes: {(side // unit) ** 3} of them"),
                "mask": Choice("random(ratio=0.7)", "as in Occupancy-MAE: most of the space is empty"),
                "target": Choice("occupancy", "which voxels hold a point, as in Occupancy-MAE"),
            }
        if patch not in (None, self.neighbours):
            raise UserError(f"the points of a group are an option of clouds: --modality 'points(neighbours={patch})'")
        groups = max(4, 2 * self.count // self.neighbours)
        return {
            "image_size": Choice(
                [groups * self.neighbours], f"{groups} groups of {self.neighbours}, of {self.count} points of a cloud"
            ),
            "patch_size": Choice(self.neighbours, "points of a group: a centre and those nearest to it"),
            "mask": Choice("random(ratio=0.6)", "as in Point-MAE"),
            "target": Choice("chamfer", "as in Point-MAE: points of a group have no order"),
        }

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        turned = {"off": "not turned", "any": "turned any way"}.get(self.turn, f"turned about {self.turn}, upright")
        why = f"whole clouds, {turned}, stretched by 0.8 to 1.25 along each axis, jittered by 1 % of the radius"
        return {"crop": Choice(1.0, why), "flip": Choice("off", "a mirrored shape may be another one")}

    def full_size(self, given: Sequence[int]) -> tuple[int, ...]:
        pair = len(given) == 2 and given[0] == given[1] and not self.voxels
        return super().full_size(given[:1] if pair else given)

    def flat(self, x: Shaped[Tensor, "c *size"]) -> Shaped[Tensor, "c p q"]:
        """A group in each row; of voxels, slices below each other."""
        return x.flatten(1, 2) if self.voxels else x.unflatten(1, (-1, self.neighbours))

    def drawn(self, x: Float[Tensor, "c *size"]) -> Shaped[Tensor, "3 p q"]:
        points, colours = self._balls(x)
        return torch.from_numpy(picture(points, colours, self.upright)).permute(2, 0, 1)

    def distance(
        self, x: Float[Tensor, "c *size"], rebuilt: Float[Tensor, "c *size"], hidden: Bool[Tensor, "*size"]
    ) -> str:
        if self.voxels:
            guess, truth = (values[0][hidden] > FAR for values in (rebuilt, x))
            union = int((guess | truth).sum())
            return f"IoU {int((guess & truth).sum()) / max(1, union):.2f} of hidden voxels"
        points, truth = rebuilt[:3, hidden].T.float(), x[:3].T.float()
        nearest = truth[nearest_neighbours(points[None], truth[None], 1)[0, :, 0]]
        return f"{(points - nearest).norm(dim=1).mean():.3f} radii off"

    def animate(
        self,
        x: Float[Tensor, "c *size"],
        rebuilt: Float[Tensor, "c *size"],
        hidden: Bool[Tensor, "*size"],
        path: Path,
    ) -> Path:
        whole, visible = self._balls(x), self._balls(x.masked_fill(hidden, torch.nan))
        added = self._balls(rebuilt.masked_fill(~hidden, torch.nan))
        grey = np.full_like(visible[1], GREY)
        both = tuple(np.concatenate(pair) for pair in zip((visible[0], grey), added))
        clouds = [("input", *whole), ("visible", *visible), ("rebuilt (visible: grey)", both[0], both[1])]
        return write_turning(clouds, path, self.upright)

    @property
    def upright(self) -> int:
        return AXES.get(self.turn, 2)

    def _balls(self, x: Float[Tensor, "c *size"]) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """What is drawn of a view: points in the sphere, each once, and their colours. NaN: nothing."""
        if self.voxels:
            places = (x[0] > FAR).nonzero().cpu().numpy()
            points = (places + 0.5) / np.array(x.shape[1:]) * 2 - 1
        else:
            values = x.T[x[:3].isfinite().all(dim=0)].float().cpu().numpy()
            points = np.unique(values, axis=0)
        coloured = "colours" in self.features and points.shape[1] >= 6
        colours = points[:, 3:6].clip(0, 1) if coloured else by_height(points, self.upright)
        return points[:, :3], colours


def labels_of_points(paths: Sequence[str]) -> set[str]:
    """Files in a folder of labels that have the name of one in another folder."""
    inside = {path for path in paths if LABELS.search(os.path.dirname(path).lower())}
    stems = {os.path.splitext(os.path.basename(path))[0] for path in paths if path not in inside}
    return {path for path in inside if os.path.splitext(os.path.basename(path))[0] in stems}


def _read(raw: Raw) -> tuple[PointCloud, np.ndarray]:
    """A cloud, or a mesh that has a surface; of a mesh without one, its corners. And coordinates as they are stored."""
    if not isinstance(raw, str | bytes | np.ndarray):
        raise BadImage("a cloud is one file or one array")
    cloud, coordinates = read_exactly(raw)
    if float((cloud.points.amax(dim=0) - cloud.points.amin(dim=0)).amax()) == 0:
        raise BadImage(f"all of its {many(len(cloud.points), 'point')} lie in one place")
    if cloud.faces is None:
        return cloud, coordinates
    try:
        points_on_surface(cloud, 1, Generator().manual_seed(0))
    except BadImage as error:
        return replace(cloud, faces=None, notes=(*cloud.notes, f"corners only: {error}")), coordinates
    return cloud, coordinates


def _thinned(cloud: PointCloud) -> PointCloud:
    """At most so many points, of large clouds, chosen evenly at random, the same every time."""
    if cloud.faces is not None or len(cloud.points) <= KEPT:
        return cloud
    return cloud.at(torch.randperm(len(cloud.points), generator=Generator().manual_seed(0))[:KEPT].sort().values)
