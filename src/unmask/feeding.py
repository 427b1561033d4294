"""Opens and inspects the data of a run, and feeds it to the loop as the settings say."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from unmask.errors import UserError, many
from unmask.in_memory import InMemory, can_cut
from unmask.launch import launch
from unmask.loader import Loader, require_even
from unmask.plan import Plan
from unmask.resolution import NONE, at_size, firsts, parse
from unmask.runtime import machine
from unmask.samples import Samples
from unmask.sheet import Sheet, check_bad, inspect
from unmask.source import open_source
from unmask.stream import is_stream, open_stream
from unmask.streamed import StreamSamples, glimpse
from unmask.streaming import StreamLoader
from unmask.verb import numbers
from unmask.verbs.pretrain import Pretrain
from unmask.views import check_colours, training_view

WINDOW = 1000  # samples: MAE-like batches mix many shards' worth of classes, and memory stays small
CACHE_SHARE = 0.2  # of the free memory, for decoded pictures


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


def look_at(options: Pretrain, saved: dict[str, Any] | None, console: Console) -> tuple[Sheet, Samples | StreamSamples]:
    """Opens and inspects the data; the training split where there are splits, else everything."""
    if not options.data:
        raise UserError("say on which pictures: unmask pretrain DATA (a folder, an archive, an .npz, or demo)")
    if is_stream(options.data):
        return _look_at_stream(options, saved, console)
    if options.shuffle_buffer is not None:
        raise UserError("--shuffle-buffer is for streams (docs/streams.md); these pictures are mixed over all of them")
    source = open_source(options.data)
    train = [i for i, item in enumerate(source.items) if item.split in (None, "train")]
    indices = train or list(range(len(source.items)))
    max_side = saved["max_side"] if saved else 4 * max(numbers(options.image_size or 224))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the pictures", total=len(indices))
        sheet, cache = inspect(
            source,
            indices=indices,
            max_side=max_side,
            keep_bytes=int(CACHE_SHARE * machine("cpu", "32").memory),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in indices if i not in bad]
    console.print(sheet.text(), soft_wrap=True)
    check_bad(sheet, options.max_bad)
    channels = options.channels or (saved["settings"]["channels"] if saved else sheet.channels)
    return sheet, Samples(source, good, channels=channels, max_side=max_side, cache=cache)


def _look_at_stream(options: Pretrain, saved: dict[str, Any] | None, console: Console) -> tuple[Sheet, StreamSamples]:
    """Opens a stream and looks at some of it: it may be too long to look at all before anything is learned."""
    stream = open_stream(options.data).training()
    max_side = saved["max_side"] if saved else 4 * max(numbers(options.image_size or 224))
    with console.status(f"looking into {many(len(stream.shards), 'shard')}"):
        seen = glimpse(stream)
        sheet = seen.amend(inspect(seen.held, max_side=max_side)[0], stream)
    console.print(sheet.text(), soft_wrap=True)
    check_bad(sheet, options.max_bad)
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in range(len(seen.held.items)) if i not in bad]
    channels = options.channels or (saved["settings"]["channels"] if saved else sheet.channels)
    return sheet, StreamSamples(stream, Samples(seen.held, good, channels=channels, max_side=max_side), seen.count)


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
    `size` pictures of the final size, the same in every process; or by other workers than the settings say."""
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
    """The same, for another process: without the decoded pictures that this one holds."""
    return samples.light() if isinstance(samples, Samples) else samples


def divide(batch: int, accumulate: int, crops: int = 1) -> int:
    """Samples that a device works off at a time. Raises UserError where a batch cannot be divided equally, or crops of
    each picture do not go evenly into its parts."""
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
