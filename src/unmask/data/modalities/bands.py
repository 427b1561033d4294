"""Scenes of any number of bands: satellite and aerial images, thermal and depth maps, as GeoTIFF and others.

Values are as stored, NaN where there is none. Groups of bands: Cong et al. 2022 (SatMAE),
https://arxiv.org/abs/2207.08051; distances on the ground: Reed et al. 2023 (Scale-MAE),
https://arxiv.org/abs/2212.14532.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from statistics import median

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.choice import Choice
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scene import Scene, open_scene
from unmask.data.codecs.scenes.colours import colours_of, composite
from unmask.data.codecs.scenes.georeference import Georeference
from unmask.data.codecs.scenes.groups import EACH, groups_of, require_groups
from unmask.data.codecs.scenes.piece import Cut, Division, Piece
from unmask.data.codecs.scenes.signs import Head
from unmask.data.codecs.scenes.tags import time_in_name
from unmask.data.modality import Decoded, Facts, Modality, Raw, Window, make_modality
from unmask.data.transforms.kernels.crop import LARGEST, FixedCrop, RandomCrop, WholeImage, usual_square
from unmask.data.transforms.kernels.scene import SceneWindow
from unmask.errors import UserError, many
from unmask.plain import PositiveInt

__all__ = ["Bands"]
LARGE, WINDOW = 1024, 512  # pixels: a scene with a longer side is read by windows, of so many
VALUES = 1 << 26  # of a window, at the most
LABELS = re.compile(r"(^|[/_. -])(labels?|masks?|gt|truth|annot\w*)([/_. -]|$)", re.IGNORECASE)
PLANES = ("metres", "year", "month", "hour")


class Bands(Modality):
    cheaper = "scenes in tiles (gdal_translate -co TILED=YES), with little compression"
    word, axes, sizes = "scene", ("height", "width"), ("height", "width")
    endings = (".tif", ".tiff")
    gaps, by_path, divides, labelled, piece = True, True, True, "pixel", "window"

    def __init__(
        self,
        window: PositiveInt | None = None,
        groups: object = None,
        scale: bool | float = False,
        time: bool = False,
        nodata: float | None = None,
        names: tuple[str, ...] = (),
        metres: float | None = None,
    ):
        """window: pixels of the squares by which larger scenes are read; by default 512, of scenes beyond 1,024.
        groups: of bands, by number from 0 or by name, each with patches, embeddings and masks of its own, as in SatMAE:
        ((0, 1, 2), (3, 4)); or "each". scale: positions lie as far apart as patches do on the ground, as in Scale-MAE;
        the metres of a pixel at which they are one apart, True for those of the median scene. time: the encoder is told
        when a scene was taken, by its tags or its name. nodata: a value that means no data, besides those that files
        name and NaN. names: of the bands, in place of the files'. metres: of a pixel, where files do not say."""
        if window is not None and window < 16:
            raise UserError(f"windows of scenes are 16 pixels wide or more; got {window}")
        if metres is not None and not metres > 0:
            raise UserError(f"metres of a pixel are a length above 0; got {metres}")
        self.side, self.reference, self.time, self.nodata = window, scale, time, nodata
        self.called, self.groups, self.metres = tuple(map(str, names)), groups, metres
        self.given = {"window": window, "groups": groups, "scale": scale, "time": time, "nodata": nodata}
        self.given |= {"names": self.called, "metres": metres}
        self.planes = len(PLANES) if time else int(bool(scale))
        if groups is not None and groups != EACH:
            require_groups(groups)

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        return isinstance(head, Head) and head.scene

    @classmethod
    def claims_if_wanted(cls, name: str, head: bytes) -> bool:
        """Any TIFF, PNG, JPEG 2000, ERDAS, NITF, ENVI or .npy."""
        marks = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x89PNG", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51", b"EHFA_")
        by_content = head.startswith((*marks, b"NITF", b"NSIF", b"\x93NUMPY"))
        return by_content or name.lower().endswith((".tif", ".tiff", ".bsq", ".bil", ".bip"))

    def grouped(self, paths: Sequence[str], root: str | None) -> tuple[list[tuple[str, ...]], list[str]]:
        maps = {path for path in paths if LABELS.search(path)}
        if not maps or len(maps) == len(paths):
            return super().grouped(paths, root)
        remark = f"left out: {many(len(maps), 'map')} of labels, by their names, such as {min(maps)}"
        return [(path,) for path in paths if path not in maps], [remark]

    def settled(self, raws: Sequence[Callable[[], Raw]]) -> Modality:
        if self.side and self.called and self.reference is not True:
            return self
        sides, names, counts, metres = [], Counter[tuple[str, ...]](), Counter[int](), []
        for raw in raws:
            with suppress(BadImage, OSError):
                scene = self._opened(raw())
                sides.append(max(scene.size))
                names[scene.names] += 1
                counts[scene.channels] += 1
                metres += [] if (width := self._metres(scene)) is None else [width]
        if not sides:
            return self
        (own, _), (channels, _) = names.most_common(1)[0], counts.most_common(1)[0]
        numbered = all(re.fullmatch(r"band.?\d+", name) for name in own) or len(own) != channels
        most = int(math.sqrt(VALUES / channels))
        chosen = self.given | {"names": self.called or (own[:1] if numbered else own)}
        chosen["window"] = self.side or min(most, WINDOW if max(sides) > LARGE else LARGE)
        if self.reference is True:
            if not metres:
                raise UserError("bands(scale=True): no scene says how wide a pixel is; say it, in metres: metres=10")
            chosen["scale"] = round(median(metres), 6)
        text = ", ".join(
            f"{key}={value!r}" for key, value in chosen.items() if value is not None and value is not False
        )
        return make_modality(f"bands({text})")

    def pieces(self, raw: Raw) -> Division:
        if self.side is None:
            return Division()
        try:
            height, width = self._opened(raw).size
        except (BadImage, OSError):  # said when it is decoded
            return Division()
        if max(height, width) <= self.side:
            return Division()
        h, w = min(height, self.side), min(width, self.side)
        places = [(top, left, h, w) for top in _starts(height, h) for left in _starts(width, w)]
        return Division(tuple(Cut(place, f"{place[0]}+{place[1]}") for place in places))

    def georeference(self, raw: Raw) -> Georeference:
        return self._opened(raw).georeference

    def overview(self, raw: Raw, max_side: int) -> Float[Tensor, "c h w"]:
        scene = self._opened(raw)
        values, valid = scene.overview(max_side)
        values[:, ~valid] = torch.nan
        return torch.cat([values, self._told(scene, raw, (values.shape[1], values.shape[2]))])

    def columns(self, raw: Raw) -> Mapping[str, str]:
        try:
            place = self._opened(raw).georeference
        except (BadImage, OSError):
            return {}
        if isinstance(raw, Piece):
            top, left, height, width = raw.place
            place = place.window((top, top + height), (left, left + width))
        return place.columns

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        scene = self._opened(raw)
        top, left, height, width = raw.place if isinstance(raw, Piece) else (0, 0, *scene.size)
        if isinstance(raw, bytes) and self.side is not None and max(height, width) > self.side:  # from a shard
            raise BadImage(
                f"{height} x {width} pixels, and a sample of a shard is read whole, up to {self.side}: cut it into"
                " tiles, or unpack the shards into a folder"
            )
        if scene.channels * height * width > VALUES:
            raise BadImage(f"{height} x {width} pixels of {scene.channels} bands at once: give bands(window={WINDOW})")
        values, valid = scene.window((top, top + height), (left, left + width))
        if not valid.any() and not isinstance(raw, Piece):
            raise BadImage("no pixel has data")
        values[:, ~valid] = torch.nan
        notes = list(scene.notes)
        if not valid.all():
            notes.append("without data in part" if valid.any() else "without data")
        finite = values[values.isfinite()]
        ends = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        facts = (scene.format, (height, width), scene.channels, scene.bits, tuple(notes), ends)
        return Decoded(torch.cat([values, self._told(scene, raw, (height, width))]), *facts)

    def num_channels(self, content: Shaped[Tensor, "c h w"]) -> int:
        return content.shape[0] - self.planes

    def values(self, content: Shaped[Tensor, "c h w"]) -> Shaped[Tensor, "_ h w"]:
        return content[: content.shape[0] - self.planes]

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        side = size[0], size[1]
        if kind == "fixed":
            return SceneWindow(FixedCrop(side, flip=flip), self.planes)
        if kind == "whole":
            return SceneWindow(WholeImage(side, flip=flip), self.planes)
        return SceneWindow(RandomCrop(side, scale=(share, 1.0), flip=flip), self.planes)

    def whole(self, size: tuple[int, ...]) -> SceneWindow:
        return SceneWindow(WholeImage((size[0], size[1])), self.planes)

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        large = f"about the windows' own size, at most {LARGEST}"
        return {"image_size": usual_square(int(min(sheet.median_size)), patch, small, "scenes", large)}

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        return {
            "crop": Choice(0.2, "as in SatMAE"),
            "flip": Choice("on", "seen from above, left and right mean the same"),
        }

    def as_drawn(self, x: Shaped[Tensor, "c h w"], like: Tensor | None = None) -> Float[Tensor, "c h w"]:
        """Each band from 0 to 255, between its first and its last percent: bands differ in what they measure."""
        x, source = x.float(), (x if like is None else like).float()
        low, high = (torch.stack([_share(band, share) for band in source]) for share in (0.01, 0.99))
        low, high = low.view(-1, 1, 1), high.view(-1, 1, 1)
        return (255 * (x - low) / (high - low).clamp(min=1e-9)).clamp(0, 255)

    def shown(self, content: Float[Tensor, "c h w"], view: Shaped[Tensor, "c *size"]) -> Float[Tensor, "3 h w"]:
        values = self.as_drawn(self.values(content))
        return self._three(values, tuple(range(len(values)))).nan_to_num(nan=255.0)

    def flat(self, x: Shaped[Tensor, "c h w"]) -> Shaped[Tensor, "3 h w"]:
        """Three bands as red, green and blue; of each group, side by side, where there are groups."""
        x = self.values(x)
        groups = self.groups_of(len(x)) or (tuple(range(len(x))),)
        return torch.cat([self._three(x, group) for group in groups], dim=2)

    def legend(self, channels: int) -> str:
        """Which bands pictures show."""
        names = [self.called[i] if i < len(self.called) else f"band {i + 1}" for i in range(channels)]
        if len(groups := self.groups_of(channels)) > 1:
            places = [[group[i] for i in composite([names[g] for g in group], len(group))] for group in groups]
            return f"drawn of each group: {'; '.join('+'.join(names[i] for i in three) for three in places)}"
        places = composite(names, channels)
        if len(places) == 1:
            return f"drawn: {names[0]}"
        return f"drawn as red, green and blue: {', '.join(names[i] for i in places)}"

    def groups_of(self, channels: int) -> tuple[tuple[int, ...], ...]:
        """Numbers of the bands of each group; nothing without groups. Raises UserError for bands that there are not."""
        return () if self.groups is None else groups_of(self.groups, self.called, channels)

    def network(self, channels: int) -> Mapping[str, object]:
        told = {"groups": self.groups_of(channels)} if self.groups is not None else {}
        told |= {"planes": self.planes} if self.planes else {}
        return told | ({"scale": float(self.reference)} if self.reference else {})

    def colours(self, channels: int) -> Sequence[str] | None:
        """Names of the channels for weights that know red, green and blue; None where no band has such a name."""
        if len(self.called) != channels or not colours_of(self.called):
            return None
        letters = {place: colour for colour, place in colours_of(self.called).items()}
        return [letters.get(i, f"band {i + 1}") for i in range(channels)]

    def _three(self, x: Shaped[Tensor, "c h w"], group: tuple[int, ...]) -> Shaped[Tensor, "3 h w"]:
        names = [self.called[i] if i < len(self.called) else "" for i in group]
        places = [group[i] for i in composite(names, len(group))]
        return x[places] if len(places) == 3 else x[places].expand(3, -1, -1)

    def _opened(self, raw: Raw) -> Scene:
        source = raw.of if isinstance(raw, Piece) else raw
        if isinstance(source, tuple):
            raise BadImage("a scene is one file or one array")
        return open_scene(source, nodata=self.nodata)

    def _metres(self, scene: Scene) -> float | None:
        """Of a pixel, the geometric mean of its sides."""
        sides = scene.georeference.metres
        return self.metres if sides is None else math.sqrt(sides[0] * sides[1])

    def _told(self, scene: Scene, raw: Raw, size: tuple[int, int]) -> Float[Tensor, "_ h w"]:
        """Planes of one value each: metres from pixel to pixel; year, month and hour. NaN: not known."""
        if not self.planes:
            return torch.zeros(0, *size)
        metres = self._metres(scene)
        source = raw.of if isinstance(raw, Piece) else raw
        time = scene.time or (time_in_name(os.path.basename(source)) if isinstance(source, str) else None)
        facts = [math.nan if metres is None else metres, *_moments(time)][: self.planes]
        return torch.tensor(facts, dtype=torch.float32).view(-1, 1, 1).expand(-1, *size)


def _moments(time: datetime | None) -> tuple[float, float, float]:
    return (math.nan, math.nan, math.nan) if time is None else (time.year, time.month, time.hour + time.minute / 60)


def _share(band: Float[Tensor, "h w"], share: float) -> Float[Tensor, ""]:
    """The value below which a share of those lie that there are; 0 where there are none."""
    values = band[band.isfinite()]
    values = values[:: max(1, len(values) // 100_000)]
    return values.quantile(share) if len(values) else band.new_zeros(())


def _starts(length: int, side: int) -> list[int]:
    """Of squares side by side, the last one flush with the end."""
    return [*range(0, length - side, side), length - side]
