"""Small images of one size that live on the training device as one tensor: crops are cut for whole batches there.

Cutting 32 x 32 images one by one costs Python more than the pixels are worth. Here a batch is two matrix products:
the weights of an antialiased bicubic resize are written down as matrices, one for the rows and one for the columns of
each crop. Weights are multiples of 2^-14 and pixels are rounded in between, so that every sum is exact in float32 and a
sample's pixels depend on nothing but (seed, epoch, index), whatever the batch, the device or the number of threads.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Generator, Tensor

from unmask.data.batch import Batch
from unmask.data.captions.tokens import DRAWN, CaptionTokens
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import require_even, shuffled
from unmask.data.transform import Transform, View
from unmask.data.transforms.kernels.crop import FixedCrop, RandomCrop
from unmask.seeds import mix

COLOURS = 0xC0  # keeps the seeds of colours distinct from those of crops
TRIES = 10  # of a random crop, as in views.py
UNIT = 2.0**14  # weights are multiples of 1 / UNIT
_GOLDEN, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15  # splitmix64's, as signed


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """As `Loader`: `loader(n)` yields micro-batches from the n-th on, without end, in the order that a Loader has.

    Crops have the distribution of `view`, drawn by a counter instead of a generator: other numbers, equal chances.
    Colours are changed sample by sample, on the device.
    """

    samples: Samples
    view: Transform  # whose crops can be cut in batches
    batch: int  # samples per micro-batch on this device
    device: torch.device | str = "cpu"
    crops: int = 1  # samples made of each image in a row
    seed: int = 0
    rank: int = 0
    world: int = 1
    captions: CaptionTokens | None = None  # one of each image goes into the batch as "tokens"

    def __post_init__(self):
        require_even(self.crops, self.batch)

    def __call__(self, first: int = 0) -> Iterator[Batch]:
        images = self.samples.stacked(self.device)
        labels = None if self.samples.labels is None else self.samples.labels.to(self.device)
        num, count, orders = len(images), self.batch // self.crops, {}
        position = (first * self.world + self.rank) * count
        while True:
            chosen: list[tuple[Tensor, list[Tensor]]] = []
            tokens: list[Tensor] = []
            for epoch in range(position // num, (position + count - 1) // num + 1):
                if epoch not in orders:
                    orders = {k: v for k, v in orders.items() if k == epoch - 1}
                    orders[epoch] = shuffled(num, self.seed, epoch).to(self.device)
                start, end = max(position - epoch * num, 0), min(position + count - epoch * num, num)
                chosen.append(self._batch(images, orders[epoch][start:end], epoch))
                tokens += self._tokens(chosen[-1][0], epoch)
            whole = len(chosen) == 1  # mostly; else the batch reaches over the end of an epoch
            index, views = chosen[0]
            if not whole:
                index = torch.cat([part[0] for part in chosen])
                views = [torch.cat(parts) for parts in zip(*(part[1] for part in chosen))]
            told = {"tokens": torch.cat(tokens)} if tokens else {}
            yield {"views": views, "index": index} | told | ({} if labels is None else {"label": labels[index]})
            position += count * self.world

    def _batch(self, images: Tensor, order: Tensor, epoch: int) -> tuple[Tensor, list[Tensor]]:
        index = order.repeat_interleave(self.crops, output_size=len(order) * self.crops)
        crop = torch.arange(self.crops, device=order.device).repeat(len(order))
        views = []
        for place, view in enumerate(self.view.views):
            assert isinstance(view.window, RandomCrop | FixedCrop)  # `Transform.batched` says so
            seed = mix(self.seed, epoch, *((place,) if place else ()))  # one view: as if there were no others
            chance = uniform(seed, index, crop, 2 * TRIES + 3)
            boxes = draw_boxes(view.window, images.shape[-2], images.shape[-1], chance)
            flips = chance[:, 2 * TRIES + 2] < 0.5 if view.window.flip else torch.zeros_like(index, dtype=torch.bool)
            height, width = view.window.size
            crops = cut(images[index], boxes, flips, (height, width))
            views += self._recoloured(view, crops, seed, index, crop)
        return index, views

    def _tokens(self, index: Tensor, epoch: int) -> list[Tensor]:
        """A caption of each image, where captions are wanted."""
        if self.captions is None:
            return []
        own, crop = index.cpu(), torch.arange(self.crops).repeat(len(index) // self.crops)
        return [self.captions.drawn(own, uniform(mix(self.seed, epoch, DRAWN), own, crop, 1)[:, 0]).to(index.device)]

    def _recoloured(self, view: View, crops: Tensor, seed: int, index: Tensor, crop: Tensor) -> list[Tensor]:
        """The finished views at all their sizes, each sample with chance of its own."""
        if not view.chancy and not view.also:
            return [crops]
        own = [Generator().manual_seed(mix(seed, i, c, COLOURS)) for i, c in zip(index.tolist(), crop.tolist())]
        finished = [view.finished(image, chance) for image, chance in zip(crops, own)]
        return [torch.stack(images) for images in zip(*finished)]


def uniform(seed: int, index: Int[Tensor, "b"], crop: Int[Tensor, "b"], num: int) -> Float[Tensor, "b num"]:
    """Numbers in [0, 1), float64: of each sample its own, a pure function of the arguments (splitmix64 as counter)."""
    key = _mixed(_mixed(index + (seed & 0x7FFFFFFFFFFFFFFF)) + crop)
    place = torch.arange(1, num + 1, device=index.device) * _GOLDEN
    return _shifted(_mixed(key[:, None] + place), 11).double() * 2.0**-53


def draw_boxes(
    view: RandomCrop | FixedCrop, height: int, width: int, chance: Float[Tensor, "b n"]
) -> Int[Tensor, "b 4"]:
    """Top, left, height and width of each crop, with the chances of `view`."""
    if isinstance(view, FixedCrop):
        h, w = (torch.full((len(chance),), side, device=chance.device) for side in view.window(height, width))
    else:
        h, w = _random_sizes(view, height, width, chance)
    top = (chance[:, 2 * TRIES] * (height - h + 1)).long()
    left = (chance[:, 2 * TRIES + 1] * (width - w + 1)).long()
    if isinstance(view, RandomCrop):
        whole_h, whole_w = view.largest(height, width)
        none = h == 0
        h, w = h.masked_fill(none, whole_h), w.masked_fill(none, whole_w)
        top = top.masked_fill(none, (height - whole_h) // 2)
        left = left.masked_fill(none, (width - whole_w) // 2)
    return torch.stack([top, left, h, w], dim=1)


def cut(
    images: UInt8[Tensor, "b c h w"], boxes: Int[Tensor, "b 4"], flips: Tensor, size: tuple[int, int]
) -> UInt8[Tensor, "b c p q"]:
    """Each image's box, resized to `size` by antialiased bicubic weights, mirrored where `flips` says so."""
    rows = _weights(boxes[:, 0], boxes[:, 2], images.shape[-2], size[0])
    columns = _weights(boxes[:, 1], boxes[:, 3], images.shape[-1], size[1])
    columns = torch.where(flips[:, None, None], columns.flip(1), columns)
    with _exact_products():
        wide = _rounded(images.float() @ columns[:, None].mT)  # -> b c h q
        return _rounded(rows[:, None] @ wide).to(torch.uint8)


def _random_sizes(view: RandomCrop, height: int, width: int, chance: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width by the first of ten tries that fits; 0 where none does."""
    target = view.size[1] / view.size[0]
    low, high = (math.log(r * target) for r in view.ratio)
    area = height * width * (view.scale[0] + (view.scale[1] - view.scale[0]) * chance[:, :TRIES])
    aspect = (low + (high - low) * chance[:, TRIES : 2 * TRIES]).exp()
    w, h = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    fits_any = fits.any(dim=1)
    return h.gather(1, first)[:, 0] * fits_any, w.gather(1, first)[:, 0] * fits_any


def _weights(start: Tensor, length: Tensor, num: int, size: int) -> Tensor:
    """b size num: what each pixel of a row of `num` gives to each of `size` pixels made of its part from `start` on."""
    scale = length.float()[:, None] / size
    centre = start[:, None] + (torch.arange(size, device=start.device) + 0.5) * scale  # -> b size
    pixel = torch.arange(num, device=start.device)
    distance = (pixel + 0.5 - centre[..., None]) / scale.clamp(min=1)[..., None]  # -> b size num
    inside = (pixel >= start[:, None]) & (pixel < (start + length)[:, None])
    weights = _cubic(distance.abs()) * inside[:, None]
    return (weights / weights.sum(dim=-1, keepdim=True) * UNIT).round() / UNIT


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, which is Pillow's and that of torch's antialiased resize."""
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _rounded(x: Tensor) -> Tensor:
    return (x + 0.5).floor().clamp(0, 255)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Context of full-precision matrix products, whatever the run's settings."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _mixed(x: Tensor) -> Tensor:
    """splitmix64's finaliser on int64, which wraps around as unsigned numbers do."""
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own repeats the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


SMALL = 64  # pixels: images up to this side may live on the device; larger ones are cut in less time than they take up
