"""Feeds the data of a run to the loop as the settings say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.loaders.iterable import StreamLoader
from unmask.data.loaders.map_style import Loader, require_even
from unmask.data.loaders.on_device import InMemory, can_cut
from unmask.data.transforms.colour import check_colours
from unmask.data.transforms.crops import training_view
from unmask.errors import UserError, many
from unmask.planning.plan import Plan
from unmask.runs.config import Config
from unmask.runtime.distributed.launcher import launch
from unmask.training.resolution import firsts, parse

WINDOW = 1000  # samples: MAE-like batches mix many shards' worth of classes, and memory stays small


@dataclass(frozen=True)
class InStages:
    """`stages(n)` yields micro-batches from the n-th on, each from the loader whose turn it is: every loader can begin
    at any place of the same order, so that a resumed run meets the very same batches."""

    loaders: tuple[Callable[[int], Iterator[dict[str, Any]]], ...]
    begins: tuple[int, ...]  # the micro-batch at which each takes over

    def __call__(self, first: int = 0) -> Iterator[dict[str, Any]]:
        for loader, begin, end in zip(self.loaders, self.begins, (*self.begins[1:], None)):
            begin = max(begin, first)
            if end is None or begin < end:
                with torch.random.fork_rng(devices=[]):  # opening a loader draws a number, which a step must not miss
                    stream = loader(begin)
                yield from islice(stream, None if end is None else end - begin)


def plan_order(plan: Plan, samples: Samples | StreamSamples) -> None:
    """Over how many samples the order of a stream is mixed; other data is mixed over everything."""
    if isinstance(samples, StreamSamples):
        why = f"samples over which each reader mixes the order of its shards; about {samples.megabytes(WINDOW):,.0f} MB"
        plan.choose("shuffle_buffer", WINDOW, why)


def note_readers(plan: Plan, samples: Samples | StreamSamples) -> None:
    """Says so where a stream has fewer shards than the workers, now that these were chosen."""
    if isinstance(samples, StreamSamples):
        shards, workers = len(samples.stream.shards), max(1, plan.settings["workers"])
        if workers > shards:
            plan.reasons["workers"] += (
                f"; of {many(shards, 'shard')}, so several read the same one and share its samples"
            )


def make_loader(
    config: Config, samples: Samples | StreamSamples, size: int | None = None, workers: int | None = None
) -> Loader | StreamLoader | InMemory | InStages:
    """Training batches in the parts that the settings say, as large as the step wants them, those of this process; or
    `size` images of the final size, the same in every process; or by other workers than the settings say."""
    data, training, launched = config.data, config.training, launch()
    stages = parse(training.resolutions) if size is None else []
    if stages:
        begins = [first * training.accumulate for first in firsts(stages, training.steps)]
        loaders = [make_loader(config.at_size(stage.size), samples) for stage in stages]
        return InStages(tuple(loaders), tuple(begins))
    view = training_view(data.image_size, data.crop_kind, data.crop, data.flip == "on", data.jitter, data.resize)
    if data.jitter:
        check_colours(data.channels)
    crops = data.views_per_image
    micro = divide(training.batch, training.accumulate, crops)
    if size is not None and size % crops:
        crops = 1  # batches of another size are for looking at the data
    shared: dict[str, Any] = {"view": view, "seed": training.seed, "batch": size or micro, "crops": crops}
    if size is None:
        shared |= {"rank": launched.rank, "world": launched.world}
    if data.in_memory == "on" and isinstance(samples, Samples) and can_cut(view):
        return InMemory(samples=samples, device=config.runtime.device, **shared)
    shared |= {"workers": data.workers if workers is None else workers, "pin": config.runtime.device == "cuda"}
    if isinstance(samples, StreamSamples):
        shared |= {"counts": samples.counts, "bad": samples.bad, "window": data.shuffle_buffer}
        shared |= {"channels": samples.channels, "max_side": samples.max_side}
        return StreamLoader(stream=samples.stream, **shared)
    return Loader(samples=samples, **shared)


def to_send(samples: Samples | StreamSamples) -> Samples | StreamSamples:
    """The same, for another process: without the decoded images that this one holds."""
    return samples.light() if isinstance(samples, Samples) else samples


def divide(batch: int, accumulate: int, crops: int = 1) -> int:
    """Samples that a device works off at a time. Raises UserError where a batch cannot be divided equally, or crops of
    each image do not go evenly into its parts."""
    world = launch().world
    micro, rest = divmod(batch, accumulate * world)
    if not rest and micro:
        require_even(crops, micro)
        return micro
    parts = accumulate * world
    each = "equal parts, one" if accumulate == 1 else f"{accumulate} equal parts"
    over = f"{accumulate} equal parts" if world == 1 else f"{each} on each of {world} devices"
    near = sorted({max(1, batch // parts) * parts, (batch // parts + 1) * parts})
    raise UserError(
        f"a batch of {batch} cannot be worked off in {over}; near it are {' and '.join(str(n) for n in near)}"
    )
