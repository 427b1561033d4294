"""Where an image is unlike normal ones: by what a masked autoencoder fails to rebuild, and by its features.

The rebuilding side hides every unit several times (`complement.py`) and asks whether the error is more than usual at
that place and for that texture (`usual.py`). The feature side is PatchCore's (Roth et al. 2022): the distance from each
unit's features to the nearest of normal units (`coreset.py`). What is fitted is fitted on normal images only, and
every image is judged for itself.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.data.datasets.images import Samples
from unmask.data.source import open_source
from unmask.errors import DataError, UserError, closest
from unmask.masking.complementary import complements
from unmask.models.encoder import Encoder
from unmask.tasks.anomaly.coreset import coreset, nearest
from unmask.tasks.anomaly.cues import blurred, cells, errors, features, resized
from unmask.tasks.anomaly.error_model import Usual
from unmask.tasks.anomaly.tiling import Tiling
from unmask.training.objective import Rebuilder

METHODS = ("rebuild", "features", "both")
MAD = 1.4826  # from the median absolute deviation to the standard deviation of a normal distribution
PIXELS = 32 * 224**2  # of tiles that are rebuilt at a time, at the most
CANDIDATES = 100_000  # units that the memory bank is chosen from; of more, these are drawn


@dataclass(frozen=True)
class Settings:
    """How a finder looks; plain values, kept in config.json."""

    methods: tuple[str, ...] = METHODS  # that there are
    ratio: float = 0.75  # share hidden
    sets: int = 4  # of complementary masks
    seed: int = 0
    usual: str = "place-texture"  # one of `usual.KINDS`
    layers: tuple[int, ...] = ()  # blocks whose features are compared, from 0
    memory: int = 4000  # units in the memory bank, at the most
    blur: float = 4.0  # pixels: deviation of the Gaussian that smooths maps
    tiles: int = 0  # as of `Tiling`


@dataclass(frozen=True)
class Anomalies:
    """Of n images, in the order given."""

    names: list[str]
    scores: dict[str, np.ndarray]  # method -> n
    maps: list[np.ndarray]  # h w each, by `method`; the score of an image is the highest value in it
    thresholds: dict[str, float]  # method -> scores above it are anomalous
    method: str

    @property
    def anomalous(self) -> np.ndarray:
        """n, bool."""
        return self.scores[self.method] > self.thresholds[self.method]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Look:
    """What a finder makes of one image."""

    finder: "Finder"
    coarse: dict[str, Tensor]  # method -> t h w, small
    canvas: tuple[int, int]  # height, width of the map

    def full(self, method: str) -> Float[Tensor, "H W"]:
        """The smooth map, a value per pixel."""
        return self.finder.full(self.coarse[method], self.canvas)

    def score(self, method: str) -> float:
        """The highest value of the smooth map: so an image is anomalous where the threshold's contour shows."""
        return float(self.full(method).max())


class Finder(nn.Module):
    """model: the whole objective of a run for `rebuild`, or an encoder where only features are compared."""

    model: Any  # a Rebuilder or an Encoder
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
        self.promises: dict[str, dict[str, Any]] = {}  # method -> what calibration found
        if "rebuild" in settings.methods:
            if not isinstance(model, Rebuilder):
                raise UserError("an encoder alone cannot rebuild; use --method features")
            self.masks = complements(encoder.grid.num_units, settings.ratio, settings.sets, settings.seed)
            self.usual = Usual(cells(encoder.grid), settings.usual)
        if "features" in settings.methods:
            self.register_buffer("bank", torch.zeros(bank, width))
        self.register_buffer("scale", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # middle, spread of rebuild, features

    @property
    def encoder(self) -> Encoder:
        return self.model if isinstance(self.model, Encoder) else self.model.encoder

    @torch.no_grad()
    def coarse(self, x: Shaped[Tensor, "b c h w"]) -> dict[str, Float[Tensor, "b p q"]]:
        """Maps of raw pixels by every method, before they are enlarged and smoothed; on the CPU."""
        maps = {}
        if "rebuild" in self.settings.methods:
            maps["rebuild"] = self.usual(*errors(self.model, self.masks, x))
        if "features" in self.settings.methods:
            found = features(self.encoder, self.settings.layers, x)
            maps["features"] = nearest(found.flatten(0, 2), self.bank).view(found.shape[:3])
        if "both" in self.settings.methods:
            maps["both"] = self._joined(maps["rebuild"], maps["features"])
        maps = {name: one.float().cpu() for name, one in maps.items()}
        for name, one in maps.items():
            if not one.isfinite().all():
                raise UserError(f"{name} is not finite: did pretraining diverge, or has an image NaN pixels?")
        return maps

    def full(self, coarse: Float[Tensor, "t p q"], canvas: Sequence[int]) -> Float[Tensor, "H W"]:
        """A coarse map, or those of the tiles of an image, as one smooth map with a value per pixel."""
        return blurred(self.tiling.join(resized(coarse, self.tiling.size), canvas), self.settings.blur)

    def look(self, images: Iterable[Shaped[Tensor, "c h w"]], batch: int = 32) -> Iterator["Look"]:
        """What is found in images of any size, in order; `batch`: tiles that go through the model at a time."""
        waiting: list[tuple[Tensor, tuple[int, int]]] = []
        for image in images:
            whole = self.tiling.whole(image)
            waiting.append((self.tiling.cut(whole).float(), (whole.shape[-2], whole.shape[-1])))
            if sum(len(tiles) for tiles, _ in waiting) >= batch:
                yield from self._looked(waiting, batch)
                waiting = []
        yield from self._looked(waiting, batch)

    def _looked(self, waiting: list[tuple[Tensor, tuple[int, int]]], batch: int) -> Iterator["Look"]:
        if not waiting:
            return
        tiles = torch.cat([part for part, _ in waiting])
        parts = [self.coarse(part.to(self.scale.device)) for part in tiles.split(self.at_once(batch))]
        split = {
            name: torch.cat([part[name] for part in parts]).split([len(part) for part, _ in waiting])
            for name in self.settings.methods
        }
        for place, (_, canvas) in enumerate(waiting):
            yield Look(self, {name: found[place] for name, found in split.items()}, canvas)

    def predict(self, images: Any, batch: int = 32, method: str | None = None) -> "Anomalies":
        """Scores, maps and verdicts of images: paths, whatever else `pretrain` takes as data, or pixels `n c h w`.

        The same as `unmask anomaly apply` says. method: whose maps and verdicts, by default the folder's. Raises
        DataError with the reason for an image that cannot be read, UserError for pixels of other channels.
        """
        method = self.chosen(method)
        if isinstance(images, np.ndarray | Tensor):
            pixels = torch.as_tensor(images)
            if pixels.ndim != 4 or pixels.shape[1] != self.encoder.channels:
                raise UserError(f"pixels must be n x {self.encoder.channels} x h x w, got {tuple(pixels.shape)}")
            names, pixels = [str(i) for i in range(len(pixels))], iter(pixels)
        else:
            source = open_source(images)
            samples = Samples(source, range(len(source.items)), channels=self.encoder.channels, max_side=self.max_side)
            names, pixels = samples.names, (_good(samples, i) for i in range(len(samples)))
        looks = list(self.look(pixels, batch))
        scores = {name: np.array([look.score(name) for look in looks]) for name in self.settings.methods}
        maps = [look.full(method).numpy() for look in looks]
        return Anomalies(
            names, scores, maps, {name: p["image"]["threshold"] for name, p in self.promises.items()}, method
        )

    def chosen(self, method: str | None) -> str:
        """The method asked for, or the one that the folder was fitted for."""
        method = method or self.settings.methods[-1]
        if method not in self.settings.methods:
            raise UserError(
                f"no method {method!r} was fitted{closest(method, self.settings.methods)} There are:"
                f" {', '.join(self.settings.methods)}; fit again with --method both for all"
            )
        return method

    def at_once(self, batch: int) -> int:
        """Tiles that go through the model together: `batch`, or what memory surely bears of large ones."""
        return min(batch, max(1, PIXELS // (self.tiling.size[0] * self.tiling.size[1])))

    @property
    def max_side(self) -> int:
        """As for `decode`: images are decoded at no more than what the view can use."""
        return 4 * max(1, self.settings.tiles) * max(self.tiling.size)

    def fit_rebuild(self, batches: Iterable[Tensor]) -> None:
        """Learns what errors are usual. batches: tiles of normal images, b c h w."""
        found = [[one.cpu() for one in errors(self.model, self.masks, x)] for x in batches]
        error, texture = (torch.cat(parts) for parts in zip(*found))
        self.usual.cpu().fit(error, texture)
        surprise = self.usual(error, texture)
        self.usual.to(self.scale.device)
        self._settle(0, surprise)

    def fit_features(
        self, batches: Iterable[tuple[Tensor, Tensor]], progress: Callable[[int], object] | None = None
    ) -> None:
        """Fills the memory bank with units of normal images, and measures how far a new normal image is from it.

        batches: tiles b c h w, and the numbers of the images that they are of.
        """
        chance = torch.Generator().manual_seed(self.settings.seed)
        units, owner, key = torch.zeros(0), torch.zeros(0, dtype=torch.long), torch.zeros(0)
        for x, number in batches:
            found = features(self.encoder, self.settings.layers, x).flatten(1, 2).cpu()
            part = found.flatten(0, 1), number.repeat_interleave(found.shape[1])
            drawn = torch.rand(len(part[0]), generator=chance)
            units = part[0] if not len(key) else torch.cat([units, part[0]])
            owner, key = torch.cat([owner, part[1]]), torch.cat([key, drawn])
            if len(key) > 2 * CANDIDATES:
                units, owner, key = _lowest(units, owner, key)
        units, owner, _ = _lowest(units, owner, key)
        units, owner = units.to(self.scale.device), owner.to(self.scale.device)
        chosen = coreset(units, self.settings.memory, self.settings.seed, progress).to(units.device)
        self.bank = units[chosen].clone()
        self._settle(1, nearest(units, self.bank, (owner, owner[chosen])))

    def _settle(self, row: int, values: Tensor) -> None:
        values = values.flatten()
        values = values[:: max(1, len(values) // 1_000_000)]
        middle = values.median()
        self.scale[row] = torch.stack([middle, (MAD * (values - middle).abs().median()).clamp(min=1e-6)])

    def _joined(self, rebuild: Tensor, features: Tensor) -> Tensor:
        """The mean of both on their own scales; the coarser is enlarged."""
        (a, b), (c, d) = self.scale.tolist()
        other = resized((features - c) / d, rebuild.shape[-2:])
        return ((rebuild - a) / b + other) / 2


def _lowest(units: Tensor, owner: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows with the lowest keys, as many as may be, in their order: a fair draw where keys are random."""
    keep = key.argsort()[:CANDIDATES].sort().values
    return units[keep], owner[keep], key[keep]


def _good(samples: Samples, place: int) -> Tensor:
    """Never another image in the place of a bad one."""
    image, used = samples.substitute(place)
    if used != place:
        raise DataError(f"{samples.names[place]} cannot be used: {samples.bad[place]}")
    return image
