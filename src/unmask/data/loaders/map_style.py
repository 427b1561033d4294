"""The loader of map-style data. The order and the crops of samples are pure functions of (seed, position).

Whole batches of 8-bit values are built where images are decoded, in memory that processes share: a float batch is
four times as large, and moving it costs more than decoding. They are normalised on the device, by the encoder.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from unmask.data.batch import Batch
from unmask.data.captions.tokens import DRAWN, CaptionTokens
from unmask.data.datasets.images import Samples
from unmask.data.transform import Transform
from unmask.errors import UserError, worker_lost
from unmask.runtime.signals import end_with_parent
from unmask.seeds import mix

AHEAD = 2**30  # bytes of batches that worker processes prepare ahead, at the most
# Of an image, alone or with what is annotated in it; a Transform makes several views
View = Callable[[Any, torch.Generator], Any]
Collate = Callable[[list[Batch]], Batch]


@runtime_checkable
class Items(Protocol):
    """What a loader asks of its samples; `Samples` are such, and data sets whose images come with what is in them."""

    @property
    def labels(self) -> Tensor | None: ...

    @property
    def channels(self) -> int: ...

    def __len__(self) -> int: ...

    def image(self, i: int) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Loader:
    """`loader(n)` yields micro-batches from the n-th on, without end: a resumed run continues at the exact sample.

    Every epoch is a fresh permutation; a batch may reach over the end of one into the next, so none is dropped. With
    `crops` above 1, a batch holds batch / crops images, each decoded once and seen in so many crops, one after the
    other; an epoch of decoded images then is `crops` epochs of samples (repeated augmentation, Hoffer et al. 2020).
    Micro-batch m of rank r holds samples (m world + r) batch to (m world + r + 1) batch of one order that all share.
    """

    samples: Items
    view: View
    batch: int  # samples per micro-batch on this device
    crops: int = 1  # samples made of each decoded image; divides `batch`
    weights: Tensor | None = None  # n: how often each sample is drawn, with replacement; None: each once per epoch
    seed: int = 0
    workers: int = 0  # processes; 0 loads in the main one
    pin: bool = False  # page-locked memory, for CUDA
    rank: int = 0
    world: int = 1
    collate: Collate | None = None  # items to a batch; None: as `collate`
    captions: CaptionTokens | None = None  # one of each image goes into the batch as "tokens"

    def __post_init__(self):
        require_even(self.crops, self.batch)

    def __call__(self, first: int = 0) -> Iterator[Batch]:
        loader = DataLoader(
            _Views(self),
            batch_sampler=_Stream(self, first),
            num_workers=self.workers,
            collate_fn=self.collate or collate_for(self.view),
            pin_memory=self.pin,
            prefetch_factor=batches_ahead(self.view, self.batch, self.samples.channels, self.workers),
            worker_init_fn=begin_worker,
        )
        return in_one_line(iter(loader))  # opened here: that draws a random number, which the first step must not miss


def in_one_line(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches. What a worker process raises comes back with its traceback as text; the user's own mistakes without
    it. Raises Lost where a worker ended."""
    try:
        yield from batches
    except (ConnectionError, EOFError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        raise worker_lost(error) from error
    except UserError as error:
        name = f"{type(error).__module__}.{type(error).__qualname__}: "
        if name not in str(error):
            raise
        raise type(error)(str(error).rpartition(name)[2].strip()) from None


def batches_ahead(view: View, batch: int, channels: int, workers: int) -> int | None:
    """Batches that each worker process prepares ahead: 2 to 8, within what memory they may take; None without any."""
    if not workers:
        return None
    sizes = view.sizes if isinstance(view, Transform) else [getattr(view, "size", (224, 224))]
    pixels = sum(math.prod(size) for size in sizes)
    return max(2, min(8, AHEAD // max(1, batch * channels * pixels * workers)))


def views_of(view: View, image: Any, generator: torch.Generator) -> list[Any]:
    """All views of one image."""
    return view(image, generator) if isinstance(view, Transform) else [view(image, generator)]


def require_even(crops: int, batch: int) -> None:
    """Raises UserError unless a batch can be made of so many crops of each image."""
    if crops >= 1 and batch % crops == 0:
        return
    divisors = [n for n in range(1, batch + 1) if batch % n == 0]
    below, above = [n for n in divisors if n < crops], [n for n in divisors if n > crops]
    near = [*below[-1:], *above[:1]]
    raise UserError(
        f"{crops} crops of each image do not go evenly into {batch} samples at a time; give a --views-per-image that"
        f" divides the batch and its parts, near it {' or '.join(str(n) for n in near)}"
    )


def each_once(samples: Samples, view: Callable[[Tensor], Tensor], batch: int, workers: int = 0) -> DataLoader:
    """All samples in order, once, through a deterministic view: for evaluation and embedding. Raises DataError while it
    is read where an image cannot be read any more, since another must not be judged in its place."""
    same = {"num_workers": workers, "collate_fn": collate, "worker_init_fn": begin_worker}
    return DataLoader(_Once(samples, view), batch_size=batch, **same)


def collate_for(view: View) -> Collate:
    """How batches of what a view makes are stacked."""
    return collate_turned if getattr(view, "resize", "") == "fast" else collate


def collate(items: list[Batch]) -> Batch:
    """Stacks samples; where 8-bit and deeper images meet in a batch, all become float32."""
    for place in range(len(items[0]["views"])):
        if len({item["views"][place].dtype for item in items}) > 1:
            for item in items:
                item["views"][place] = item["views"][place].float()
    return default_collate(items)


def collate_turned(items: list[Batch]) -> Batch:
    """As `collate`; 8-bit colour, which OpenCV resized, stays h w c in memory (b c h w with the strides of b h w c):
    turning it round is the device's work. Always or never in a run, since compiled steps depend on strides."""
    views = [item["views"] for item in items]
    if any(v.ndim != 3 or v.shape[0] != 3 or v.dtype != torch.uint8 for several in views for v in several):
        return collate(items)
    turned = [item | {"views": [v.permute(1, 2, 0) for v in item["views"]]} for item in items]
    batch = default_collate(turned)  # writes into shared memory where this is a worker process
    return batch | {"views": [v.permute(0, 3, 1, 2) for v in batch["views"]]}


class _Views(Dataset):
    def __init__(self, loader: Loader):
        self.samples, self.view, self.seed, self.crops = loader.samples, loader.view, loader.seed, loader.crops
        self.captions = loader.captions

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Batch]:
        return [item for epoch, index in keys for item in self._items(epoch, index)]

    def _items(self, epoch: int, index: int) -> Iterator[Batch]:
        image, used = self._image(index)
        if self.crops > 1 and isinstance(self.samples, Samples):
            chance = torch.Generator().manual_seed(mix(self.seed, epoch, index, -1))
            image = self.samples.source.modality.repeated(image, chance)
        for crop in range(self.crops):
            which = (crop,) if crop else ()  # the first crop is the one that there is without others
            chance = torch.Generator().manual_seed(mix(self.seed, epoch, index, *which))
            item = {"views": views_of(self.view, image, chance), "index": index}
            if self.captions is not None:
                own = torch.Generator().manual_seed(mix(self.seed, epoch, index, crop, DRAWN))
                item["tokens"] = self.captions.draw(used, own)
            yield item if self.samples.labels is None else item | {"label": self.samples.labels[used]}

    def _image(self, index: int) -> tuple[Any, int]:
        """An image and whose it is: where one cannot be read any more, another comes in its place, with its label."""
        if isinstance(self.samples, Samples):
            return self.samples.substitute(index)
        return self.samples.image(index), index


class _Once(Dataset):
    def __init__(self, samples: Samples, view: Callable[[Tensor], Tensor]):
        self.samples, self.view = samples, view

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        item = {"views": [self.view(self.samples.itself(index))], "index": index}
        return item if self.samples.labels is None else item | {"label": self.samples.labels[index]}


class _Stream(Sampler):
    def __init__(self, loader: Loader, first: int):
        self.loader, self.first = loader, first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        loader, num, epoch, order = self.loader, len(self.loader.samples), -1, torch.empty(0)
        images = loader.batch // loader.crops
        position = (self.first * loader.world + loader.rank) * images
        while True:
            keys = []
            for place in range(position, position + images):
                if place // num != epoch:
                    epoch = place // num
                    order = shuffled(num, loader.seed, epoch, loader.weights)
                keys.append((epoch, int(order[place % num])))
            yield keys
            position += images * loader.world


def shuffled(num: int, seed: int, epoch: int, weights: Tensor | None = None) -> Tensor:
    """The order of an epoch: a permutation, or draws with replacement by weight."""
    chance = torch.Generator().manual_seed(mix(seed, epoch))
    if weights is None:
        return torch.randperm(num, generator=chance)
    return torch.multinomial(weights, num, replacement=True, generator=chance)


def begin_worker(worker: int) -> None:
    end_with_parent()
