"""Feeds the loop. Which sample comes when, and how it is cropped, is a pure function of (seed, position)."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from unmask.samples import Samples
from unmask.seeds import mix

View = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class Loader:
    """`loader(n)` yields micro-batches from the n-th on, without end: a resumed run continues at the exact sample.

    Every epoch is a fresh permutation; a batch may reach over the end of one into the next, so none is dropped.
    """

    samples: Samples
    view: View
    batch: int  # samples per micro-batch on this device
    num_views: int = 1
    weights: Tensor | None = None  # n: how often each sample is drawn, with replacement; None: each once per epoch
    seed: int = 0
    workers: int = 0  # processes; 0 loads in the main one
    pin: bool = False  # page-locked memory, for CUDA
    rank: int = 0
    world: int = 1

    def __call__(self, first: int = 0) -> Iterator[dict[str, Any]]:
        return iter(
            DataLoader(
                _Views(self.samples, self.view, self.num_views, self.seed),
                batch_sampler=_Stream(self, first),
                num_workers=self.workers,
                collate_fn=collate,
                pin_memory=self.pin,
                prefetch_factor=4 if self.workers else None,
                worker_init_fn=_leave_ctrl_c_to_the_parent,
            )
        )


def each_once(samples: Samples, view: Callable[[Tensor], Tensor], batch: int, workers: int = 0) -> DataLoader:
    """All samples in order, once, seen through a view without chance: for evaluation and embedding."""
    return DataLoader(_Once(samples, view), batch_size=batch, num_workers=workers, collate_fn=collate)


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks samples; where 8-bit and deeper pictures meet in a batch, all become float32."""
    for place in range(len(items[0]["views"])):
        if len({item["views"][place].dtype for item in items}) > 1:
            for item in items:
                item["views"][place] = item["views"][place].float()
    return default_collate(items)


class _Views(Dataset):
    def __init__(self, samples: Samples, view: View, num_views: int, seed: int):
        self.samples, self.view, self.num_views, self.seed = samples, view, num_views, seed

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        picture = self.samples.picture(index)
        chance = torch.Generator().manual_seed(mix(self.seed, epoch, index))
        item = {"views": [self.view(picture, chance) for _ in range(self.num_views)], "index": index}
        return item if self.samples.labels is None else item | {"label": self.samples.labels[index]}


class _Once(Dataset):
    def __init__(self, samples: Samples, view: Callable[[Tensor], Tensor]):
        self.samples, self.view = samples, view

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"views": [self.view(self.samples.picture(index))], "index": index}
        return item if self.samples.labels is None else item | {"label": self.samples.labels[index]}


class _Stream(Sampler):
    def __init__(self, loader: Loader, first: int):
        self.loader, self.first = loader, first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        loader, num, epoch, order = self.loader, len(self.loader.samples), -1, torch.empty(0)
        position = (self.first * loader.world + loader.rank) * loader.batch
        while True:
            keys = []
            for place in range(position, position + loader.batch):
                if place // num != epoch:
                    epoch = place // num
                    order = _order(loader, num, epoch)
                keys.append((epoch, int(order[place % num])))
            yield keys
            position += loader.batch * loader.world


def _order(loader: Loader, num: int, epoch: int) -> Tensor:
    chance = torch.Generator().manual_seed(mix(loader.seed, epoch))
    if loader.weights is None:
        return torch.randperm(num, generator=chance)
    return torch.multinomial(loader.weights, num, replacement=True, generator=chance)


def _leave_ctrl_c_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to workers too; the loop still needs them
