"""Features of images from a frozen encoder: one vector per image and pooling."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unmask.data.batch import Batch
from unmask.data.datasets.classification import Labelled
from unmask.errors import UserError, closest
from unmask.models.encoder import Encoder
from unmask.models.state import weights_hash

POOLINGS = ("mean", "cls", "mean4")
ATTENTIVE = "attentive"  # the query that the attentive probe of `unmask evaluate` learnt
INNER = ("mean@2", "mean@3", "mean@4")  # of the layer that is so many from the end, counted from 1
DEEP = 4  # layers that mean4 joins, as in the linear evaluation of DINO (Caron et al. 2021)
SCORES = 256 * 196**2  # attention scores of a head at a time; large images are taken one by one
FLOOR = 0.01  # of the mean variance, added to each when features are whitened
WIDE, KEPT = 1024, 256  # of wider features this many directions are whitened, the strongest: all would take minutes
SIDE = 32  # pixels; larger images are shrunk to this before they count as raw pixels


@dataclass(frozen=True)
class Features:
    """Features of n samples, in the loader's order."""

    pools: dict[str, np.ndarray]  # pooling -> n d, float32
    labels: np.ndarray  # n, int64; -1 for none
    index: np.ndarray  # n, int64; of the samples in their data set

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Features":
        """A subset of the samples, by index or boolean mask."""
        return Features({name: x[rows] for name, x in self.pools.items()}, self.labels[rows], self.index[rows])


def available(encoder: Encoder) -> tuple[str, ...]:
    """The poolings that this encoder supports; `cls` needs a class token, registers do not count."""
    return tuple(name for name in POOLINGS if name != "cls" or getattr(encoder.net, "cls_token", None) is not None)


def searched(encoder: Encoder) -> tuple[str, ...]:
    """The poolings that `unmask evaluate` chooses from: those of `available`, and the mean of each of the last four
    layers. The last layers of a masked autoencoder's encoder serve its decoder, so that an earlier one may say more."""
    return available(encoder) + INNER[: min(DEEP, encoder.num_maps) - 1]


def pooled(
    encoder: Encoder, x: Shaped[Tensor, "b ..."], poolings: Sequence[str] | None = None
) -> dict[str, Float[Tensor, "b _"]]:
    """One float32 vector per raw sample and pooling; all poolings of the encoder unless given. Of several views of each
    sample, b n c *size, the mean of their vectors.

    mean: the last layer's unit tokens, averaged. cls: its class token. mean4: the unit tokens of the last 4 layers,
    averaged per layer and concatenated (Hiera's layers differ in width). mean@2: those of the layer before the last,
    averaged; so on to mean@4. attentive: what the query gathers that `evaluate` learnt for these weights. Raises
    UserError for a pooling that this encoder does not have.
    """
    poolings = check_poolings(encoder, poolings)
    if x.ndim > len(encoder.input_size) + 2:
        vectors = pooled(encoder, x.flatten(0, 1), poolings)
        return {name: vector.unflatten(0, x.shape[:2]).mean(dim=1) for name, vector in vectors.items()}
    most = max(1, SCORES // encoder.grid.num_units**2)
    if len(x) > most:
        parts = [pooled(encoder, part, poolings) for part in x.split(most)]
        return {name: torch.cat([part[name] for part in parts]) for name in poolings}
    layers = encoder.layers(x, DEEP if "mean4" in poolings or set(INNER) & set(poolings) else 1)
    means = [layer.units.float().mean(dim=1) for layer in layers]
    vectors = {"mean": means[-1], "mean4": torch.cat(means, dim=1)}
    vectors |= {f"mean@{back}": means[-back] for back in range(2, len(means) + 1)}
    if "cls" in poolings:
        vectors["cls"] = encoder.class_token(layers[-1]).float()
    if ATTENTIVE in poolings and encoder.learnt_pool:
        vectors[ATTENTIVE] = encoder.learnt_pool.pool(layers[-1].units.float()).float()
    return {name: vectors[name] for name in poolings}


def check_poolings(encoder: Encoder, poolings: Sequence[str] | None) -> tuple[str, ...]:
    """The requested poolings, or all; UserError for one that this encoder does not have."""
    default = available(encoder)
    offered = (*searched(encoder), *((ATTENTIVE,) if encoder.learnt_pool else ()))
    absent = {"cls": "; this model has no class token", ATTENTIVE: "; unmask evaluate RUN --on LABELLED learns one"}
    for name in poolings or ():
        if name not in offered:
            missing = absent.get(name, "")
            raise UserError(f"no pooling {name!r}{missing}{closest(name, offered)} There are: {', '.join(offered)}")
    return tuple(poolings or default)


def features_hash(encoder: Encoder, pooling: str) -> str:
    """Digits that change with whatever the vectors of a pooling are computed by."""
    learnt = encoder.learnt_pool.digest if pooling == ATTENTIVE and encoder.learnt_pool else ""
    return weights_hash(encoder) + learnt


def extract(
    encoder: Encoder,
    loader: Iterable[Batch],
    device: torch.device | str,
    progress: Callable[[int], Any] | None = None,  # called with the number of samples done so far
    poolings: Sequence[str] | None = None,  # None: all that the encoder has
    autocast: torch.dtype | None = None,  # e.g. torch.bfloat16; None computes in the weights' own precision
) -> Features:
    """Features of all batches `{"views": [x], "label": b, "index": b}`; without labels, they count as -1.

    The encoder must be on `device` already. Nothing is masked, and its training mode is restored. Raises UserError for
    features that are not finite.
    """
    poolings = check_poolings(encoder, poolings)
    kind = torch.device(device).type

    def pool(x: Tensor) -> dict[str, Tensor]:
        with torch.autocast(kind, dtype=autocast) if autocast else nullcontext():
            return pooled(encoder, x.to(device, non_blocking=True), poolings)

    with judged(encoder):
        return _collect(loader, pool, progress)


def pixels(loader: Iterable[Batch], side: int = SIDE, progress: Callable[[int], Any] | None = None) -> Features:
    """The images themselves as features, the baseline `raw pixels`: flattened to b (c h w), float32, raw pixel values.

    Images with a side longer than `side` pixels are first shrunk by averaging, keeping their aspect ratio: at 224
    pixels an image has 150,528 values, too many to fit a linear model to. Data of more axes is shrunk to about as many
    values.
    """

    def flatten(x: Shaped[Tensor, "b c *size"]) -> dict[str, Tensor]:
        x, sides = x.float(), x.shape[2:]
        if x.isnan().any():  # where there is no value: the sample's mean
            x = torch.where(x.isnan(), x.flatten(1).nanmean(dim=1).view(-1, *(1,) * (x.ndim - 1)), x)
        shrink = side / max(sides) if len(sides) < 3 else (side**2 / math.prod(sides)) ** (1 / len(sides))
        if shrink < 1:
            x = interpolate(x, size=[max(1, round(s * shrink)) for s in sides], mode="area")
        return {"pixels": x.flatten(1)}

    with torch.inference_mode():
        return _collect(loader, flatten, progress)


def split_features(
    labelled: Labelled,
    encoder: Encoder,
    split: str,
    device: torch.device | str,
    autocast: torch.dtype | None,
    poolings: Sequence[str] | None = None,
    clips: int = 1,
) -> Features:
    """Features of a split of labelled images, each seen whole; the encoder must be on `device` already.

    poolings: all of `available` unless given. clips: of a video, whose features are averaged.
    """
    modality, size = labelled.source.modality, encoder.grid.size
    view = modality.whole(size) if clips == 1 else modality.views_at_test(size, clips)
    return extract(encoder, labelled.loader(split, encoder.channels, view), device, None, poolings, autocast)


def split_pixels(labelled: Labelled, split: str, channels: int, size: tuple[int, ...]) -> Features:
    """A split's raw pixels, at the size that the encoder sees, but at most 32 pixels."""
    return pixels(labelled.loader(split, channels, labelled.source.modality.whole(size)))


@contextmanager
def judged(module: nn.Module) -> Iterator[None]:
    """Context of eval mode without gradients; afterwards every submodule returns to its previous mode."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def finite(x: np.ndarray, what: str) -> np.ndarray:
    """The same array, or UserError."""
    if not np.isfinite(x).all():
        raise UserError(f"the {what} features are not finite: did training diverge, or has an image NaN pixels?")
    return x


def _collect(
    loader: Iterable[Batch], pool: Callable[[Tensor], dict[str, Tensor]], progress: Callable[[int], Any] | None
) -> Features:
    pools: dict[str, list[np.ndarray]] = {}
    labels, index, num_done = [], [], 0
    for batch in loader:
        for name, x in pool(batch["views"][0]).items():
            pools.setdefault(name, []).append(finite(x.float().cpu().numpy(), name))
        index.append(batch["index"].cpu().numpy())
        labels.append(batch["label"].cpu().numpy() if "label" in batch else np.full(len(index[-1]), -1))
        num_done += len(index[-1])
        if progress:
            progress(num_done)
    if not num_done:
        raise UserError("there are no images to take features of")
    return Features({k: np.concatenate(v) for k, v in pools.items()}, np.concatenate(labels), np.concatenate(index))


class Whitening:
    """Makes features uncorrelated and of equal variance, so that no few directions rule the cosine: those of a masked
    autoencoder vary far more along some than along others. Fitted to n features, without labels; applied to any. Small
    variances are raised, lest noise be blown up.
    """

    def __init__(self, x: Float[np.ndarray, "n d"]):
        x = np.asarray(x, np.float64)
        self.mean = x.mean(axis=0)
        if x.shape[1] > WIDE:
            from sklearn.decomposition import PCA

            kept = PCA(min(KEPT, len(x)), svd_solver="randomized", random_state=0).fit(x)
            variances, axes = np.asarray(kept.explained_variance_), np.asarray(kept.components_).T
        else:
            covariance = np.cov(x - self.mean, rowvar=False, bias=True).reshape(x.shape[1], x.shape[1])
            variances, axes = np.linalg.eigh(covariance)
        floor = FLOOR * max(float(variances.mean()), np.finfo(np.float32).tiny)
        self.turn = axes / np.sqrt(variances.clip(0) + floor)

    def __call__(self, x: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m _"]:
        return ((x - self.mean) @ self.turn).astype(np.float32)
