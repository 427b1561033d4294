"""The finder of anomalies: compares reconstruction errors and features with those of normal images.

The rebuilding side hides every unit several times (`masking/complementary.py`) and asks whether the error is larger
than normal images have at that position and for that texture (`error_model.py`). The feature side is PatchCore's (Roth
et al. 2022): the distance from each unit's features to the nearest of normal units (`coreset.py`). What is fitted is
fitted on normal images only, and every image is judged for itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from unmask.data.datasets.images import Samples
from unmask.data.source import open_source
from unmask.errors import UserError, closest
from unmask.files import Json
from unmask.masking.complementary import complements
from unmask.models.encoder import Encoder
from unmask.plain import Places
from unmask.tasks.anomaly.conformal import Calibration, ImageThreshold
from unmask.tasks.anomaly.coreset import coreset, nearest
from unmask.tasks.anomaly.cues import blurred, cells, errors, features, resized
from unmask.tasks.anomaly.error_model import ErrorModel
from unmask.tasks.anomaly.inputs import good
from unmask.tasks.anomaly.tiling import Tiling
from unmask.training.objective import Rebuilder

VERDICTS = ("normal", "anomalous")
METHODS = ("rebuild", "features", "both")
MAD = 1.4826  # from the median absolute deviation to the standard deviation of a normal distribution
PIXELS = 32 * 224**2  # of tiles that are rebuilt at a time, at the most
CANDIDATES = 100_000  # units that the memory bank is chosen from; of more, these are drawn


@dataclass(frozen=True)
class Settings:
    """Settings of a finder; plain values, kept in config.json."""

    methods: tuple[str, ...] = METHODS  # that there are
    ratio: float = 0.75  # share hidden
    sets: int = 4  # of complementary masks
    seed: int = 0
    normalize_errors: str = "place-texture"  # one of `error_model.KINDS`
    layers: tuple[int, ...] = ()  # blocks whose features are compared, from 0
    memory: int = 4000  # units in the memory bank, at the most
    blur: float = 4.0  # pixels: deviation of the Gaussian that smooths maps
    tiles: int = 0  # as of `Tiling`


@dataclass(frozen=True)
class Anomalies:
    """Results for n images, in the order given."""

    names: list[str]
    method: str  # whose verdict counts
    scores: dict[str, Float[np.ndarray, "n"]]  # by method; the score of an image is the highest value in its map
    thresholds: dict[str, float]  # by method; scores above it are anomalous
    maps: list[Float[np.ndarray, "_ _"]]  # by `method`

    @property
    def anomalous(self) -> Bool[np.ndarray, "n"]:
        return self.scores[self.method] > self.thresholds[self.method]

    @property
    def verdicts(self) -> list[str]:
        return [VERDICTS[int(flag)] for flag in self.anomalous]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class ImageMaps:
    """The maps of one image, enlarged only when needed."""

    finder: "Finder"
    coarse: dict[str, Float[Tensor, "t _ _"]]  # by method, of each tile
    canvas: tuple[int, int]  # height, width of the full map

    def full(self, method: str) -> Float[Tensor, "H W"]:
        """The smooth map, a value per pixel."""
        return self.finder.full(self.coarse[method], self.canvas)

    def score(self, method: str) -> float:
        """The highest value of the smooth map, so that an image is anomalous if its map shows the threshold's
        contour."""
        return float(self.full(method).max())


class Finder(nn.Module):
    """model: the whole objective of a run for `rebuild`, or an encoder if only features are compared."""

    model: Rebuilder | Encoder
    bank: Tensor
    scale: Tensor

    def __init__(self, model: Rebuilder | Encoder, settings: Settings, bank: int = 0, width: int = 0):
        """bank, width: rows and columns of a memory bank that is filled in later, by loading."""
        super().__init__()
        self.model, self.settings = model, settings
        encoder = self.encoder
        if len(encoder.grid.shape) != 2:
            raise UserError("anomalies are looked for in images; this run takes something else")
        self.tiling = Tiling((encoder.grid.size[0], encoder.grid.size[1]), settings.tiles)
        self.calibrations: dict[str, Calibration] = {}  # by method
        if "rebuild" in settings.methods:
            if not isinstance(model, Rebuilder):
                raise UserError("an encoder alone cannot rebuild; use --method features")
            self.masks = complements(encoder.grid.num_units, settings.ratio, settings.sets, settings.seed)
            self.error_model = ErrorModel(cells(encoder.grid), settings.normalize_errors)
        if "features" in settings.methods:
            self.register_buffer("bank", torch.zeros(bank, width))
        self.register_buffer("scale", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # middle, spread of rebuild, features

    @classmethod
    def of_config(cls, model: Rebuilder | Encoder, config: Mapping[str, Any]) -> "Finder":
        """Builds the finder that `to_config` describes; its tensors are loaded afterwards."""
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config["finder"].items()}
        bank, width = options.pop("bank"), options.pop("width")
        finder = cls(model, Settings(**options), bank, width)
        for method, saved in config["calibrations"].items():
            image = ImageThreshold(**saved["image"] | {"between": tuple(saved["image"]["between"])})
            finder.calibrations[method] = Calibration(image, saved["pixel"], saved["median"])
        return finder

    def to_config(self) -> Json:
        """Plain values."""
        bank, width = self.bank.shape if "features" in self.settings.methods else (0, 0)
        calibrations = {method: asdict(calibration) for method, calibration in self.calibrations.items()}
        return {"finder": asdict(self.settings) | {"bank": bank, "width": width}, "calibrations": calibrations}

    @property
    def encoder(self) -> Encoder:
        return self.model if isinstance(self.model, Encoder) else self.model.encoder

    @torch.no_grad()
    def coarse(self, x: Shaped[Tensor, "b c h w"]) -> dict[str, Float[Tensor, "b p q"]]:
        """Maps of raw pixels by every method, before they are enlarged and smoothed; on the CPU."""
        maps = {}
        if "rebuild" in self.settings.methods:
            maps["rebuild"] = self.error_model(*errors(self._rebuilder, self.masks, x))
        if "features" in self.settings.methods:
            units = features(self.encoder, self.settings.layers, x)
            maps["features"] = nearest(units.flatten(0, 2), self.bank).view(units.shape[:3])
        if "both" in self.settings.methods:
            maps["both"] = self._joined(maps["rebuild"], maps["features"])
        maps = {method: values.float().cpu() for method, values in maps.items()}
        for method, values in maps.items():
            if not values.isfinite().all():
                raise UserError(f"{method} is not finite: did pretraining diverge, or has an image NaN pixels?")
        return maps

    def full(self, coarse: Float[Tensor, "t p q"], canvas: Sequence[int]) -> Float[Tensor, "H W"]:
        """A coarse map, or those of the tiles of an image, as one smooth map with a value per pixel."""
        return blurred(self.tiling.join(resized(coarse, self.tiling.size), canvas), self.settings.blur)

    def maps(self, images: Iterable[Shaped[Tensor, "c h w"]], batch: int = 32) -> Iterator[ImageMaps]:
        """Maps of images of any size, in order; `batch`: tiles per forward pass."""
        waiting: list[tuple[Tensor, tuple[int, int]]] = []
        for image in images:
            whole = self.tiling.whole(image)
            waiting.append((self.tiling.cut(whole).float(), (whole.shape[-2], whole.shape[-1])))
            if sum(len(tiles) for tiles, _ in waiting) >= batch:
                yield from self._maps(waiting, batch)
                waiting = []
        if waiting:
            yield from self._maps(waiting, batch)

    def _maps(self, waiting: list[tuple[Tensor, tuple[int, int]]], batch: int) -> Iterator[ImageMaps]:
        tiles = torch.cat([part for part, _ in waiting])
        parts = [self.coarse(part.to(self.scale.device)) for part in tiles.split(self.at_once(batch))]
        sizes = [len(part) for part, _ in waiting]
        split = {name: torch.cat([part[name] for part in parts]).split(sizes) for name in self.settings.methods}
        for row, (_, canvas) in enumerate(waiting):
            yield ImageMaps(self, {name: maps[row] for name, maps in split.items()}, canvas)

    def predict(self, images: Places | Tensor | np.ndarray, batch: int = 32, method: str | None = None) -> "Anomalies":
        """Scores, maps and verdicts of images: paths, whatever else `pretrain` takes as data, or pixels `n c h w`.

        The same as `unmask anomaly apply` says. method: whose maps and verdicts, by default the folder's. Raises
        DataError with the reason for an image that cannot be read, UserError for pixels of other channels.
        """
        method = self.chosen(method)
        pixels: Iterable[Tensor]
        if isinstance(images, np.ndarray | Tensor):
            pixels = torch.as_tensor(images)
            if pixels.ndim != 4 or pixels.shape[1] != self.encoder.channels:
                raise UserError(f"pixels must be n x {self.encoder.channels} x h x w, got {tuple(pixels.shape)}")
            names = [str(i) for i in range(len(pixels))]
        else:
            source = open_source(images)
            samples = Samples(source, range(len(source.items)), channels=self.encoder.channels, max_side=self.max_side)
            names, pixels = samples.names, good(samples, range(len(samples)))
        maps = list(self.maps(pixels, batch))
        return Anomalies(names, method, self.scores(maps), self.thresholds, [m.full(method).numpy() for m in maps])

    def scores(self, maps: Sequence[ImageMaps]) -> dict[str, Float[np.ndarray, "n"]]:
        """By method."""
        return {method: np.array([map_.score(method) for map_ in maps]) for method in self.settings.methods}

    @property
    def thresholds(self) -> dict[str, float]:
        """Of images, by method."""
        return {method: calibration.image.threshold for method, calibration in self.calibrations.items()}

    def chosen(self, method: str | None) -> str:
        """The given method, or the one that the finder was fitted for."""
        method = method or self.settings.methods[-1]
        if method not in self.settings.methods:
            raise UserError(
                f"no method {method!r} was fitted{closest(method, self.settings.methods)} There are:"
                f" {', '.join(self.settings.methods)}; fit again with --method both for all"
            )
        return method

    def at_once(self, batch: int) -> int:
        """Tiles per forward pass: `batch`, or fewer if they are large."""
        return min(batch, max(1, PIXELS // (self.tiling.size[0] * self.tiling.size[1])))

    @property
    def max_side(self) -> int:
        """Largest side for `decode`: images are decoded no larger than the view can use."""
        return 4 * max(1, self.settings.tiles) * max(self.tiling.size)

    def fit_rebuild(self, batches: Iterable[Tensor]) -> None:
        """Fits the distribution of errors on normal images. batches: their tiles, b c h w."""
        parts = [[part.cpu() for part in errors(self._rebuilder, self.masks, x)] for x in batches]
        error, texture = (torch.cat(side) for side in zip(*parts))
        self.error_model.cpu().fit(error, texture)
        normalized = self.error_model(error, texture)
        self.error_model.to(self.scale.device)
        self._settle(0, normalized)

    def fit_features(
        self, batches: Iterable[tuple[Tensor, Tensor]], progress: Callable[[int], object] | None = None
    ) -> None:
        """Fills the memory bank with units of normal images, and measures the distances of normal images to it.

        batches: tiles b c h w, and the numbers of the images that they are of.
        """
        rng = torch.Generator().manual_seed(self.settings.seed)
        units, owner, key = torch.zeros(0), torch.zeros(0, dtype=torch.long), torch.zeros(0)
        for x, number in batches:
            part = features(self.encoder, self.settings.layers, x).flatten(1, 2).cpu()
            owner = torch.cat([owner, number.repeat_interleave(part.shape[1])])
            part = part.flatten(0, 1)
            units = torch.cat([units, part]) if len(key) else part
            key = torch.cat([key, torch.rand(len(part), generator=rng)])
            if len(key) > 2 * CANDIDATES:
                units, owner, key = _lowest(units, owner, key)
        units, owner, _ = _lowest(units, owner, key)
        units, owner = units.to(self.scale.device), owner.to(self.scale.device)
        chosen = coreset(units, self.settings.memory, self.settings.seed, progress).to(units.device)
        self.bank = units[chosen].clone()
        self._settle(1, nearest(units, self.bank, (owner, owner[chosen])))

    @property
    def _rebuilder(self) -> Rebuilder:
        assert isinstance(self.model, Rebuilder)
        return self.model

    def _settle(self, row: int, values: Tensor) -> None:
        values = values.flatten()
        values = values[:: max(1, len(values) // 1_000_000)]
        middle = values.median()
        self.scale[row] = torch.stack([middle, (MAD * (values - middle).abs().median()).clamp(min=1e-6)])

    def _joined(self, rebuild: Tensor, features: Tensor) -> Tensor:
        """The mean of both maps, each on its own scale; the coarser one is enlarged."""
        (a, b), (c, d) = self.scale.tolist()
        other = resized((features - c) / d, rebuild.shape[-2:])
        return ((rebuild - a) / b + other) / 2


def _lowest(units: Tensor, owner: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A given number of rows with the lowest keys, in their order: a uniform draw if keys are random."""
    keep = key.argsort()[:CANDIDATES].sort().values
    return units[keep], owner[keep], key[keep]
