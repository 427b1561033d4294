"""Opens and inspects the data of a run, and feeds it to the loop as the settings say."""

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
from unmask.runtime.distributed.launcher import launch
from unmask.training.resolution import NONE, at_size, firsts, parse

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
    config: dict[str, Any], samples: Samples | StreamSamples, size: int | None = None, workers: int | None = None
) -> Loader | StreamLoader | InMemory | InStages:
    """Training batches in the parts that the settings say, as large as the step wants them, those of this process; or
    `size` images of the final size, the same in every process; or by other workers than the settings say."""
    settings, launched = config["settings"], launch()
    stages = parse(settings.get("resolutions", NONE)) if size is None and "fit" in config else []
    if stages:
        begins = [first * settings["accumulate"] for first in firsts(stages, config["fit"]["steps"])]
        loaders = [make_loader(at_size(config, stage.size), samples) for stage in stages]
        return InStages(tuple(loaders), tuple(begins))
    view = training_view(
        tuple(settings["image_size"]),
        settings.get("crop_kind", "random"),  # runs made before there was a choice lack it and the jitter
        settings["crop"],
        settings["flip"] == "on",
        settings.get("jitter", 0.0),
        settings.get("resize", "exact"),
    )
    if settings.get("jitter"):
        check_colours(settings["channels"])
    crops = settings.get("views_per_image", 1)
    micro = divide(settings["batch"], settings["accumulate"], crops)
    if size is not None and size % crops:
        crops = 1  # batches of another size are for looking at the data
    shared: dict[str, Any] = {"view": view, "seed": settings["seed"], "batch": size or micro, "crops": crops}
    if size is None:
        shared |= {"rank": launched.rank, "world": launched.world}
    if settings.get("in_memory") == "on" and isinstance(samples, Samples) and can_cut(view):
        return InMemory(samples=samples, device=settings["device"], **shared)
    shared |= {"workers": (settings["workers"] or 0) if workers is None else workers}
    shared |= {"pin": settings["device"] == "cuda"}
    if isinstance(samples, StreamSamples):
        shared |= {"counts": samples.counts, "bad": samples.bad, "window": settings["shuffle_buffer"]}
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
