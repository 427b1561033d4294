"""Builds the loaders of a run from its settings."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from unmask import registry
from unmask.data.batch import Batch
from unmask.data.captions.tokenizer import CaptionSettings, opened_tokenizer
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.data.loaders.iterable import StreamLoader
from unmask.data.loaders.map_style import Loader, require_even
from unmask.data.loaders.on_device import InMemory
from unmask.data.modality import make_modality
from unmask.data.settings import DataSettings
from unmask.data.transform import Transform, make_transform
from unmask.errors import UserError, many
from unmask.files import write_atomically
from unmask.planning.plan import Plan
from unmask.runs.config import Config
from unmask.runs.text import TOKENIZER_JSON
from unmask.runtime.distributed.launcher import launch
from unmask.training.objective import Objective
from unmask.training.resolution import firsts, parse

WINDOW = 1000  # samples: mixes the classes of many shards while memory stays small


@dataclass(frozen=True)
class InStages:
    """`stages(n)` yields micro-batches from the n-th on, each from the current stage's loader. Every loader can start
    anywhere in the same order, so that a resumed run sees the same batches."""

    loaders: tuple[Callable[[int], Iterator[Batch]], ...]
    begins: tuple[int, ...]  # first micro-batch of each stage

    def __call__(self, first: int = 0) -> Iterator[Batch]:
        for loader, begin, end in zip(self.loaders, self.begins, (*self.begins[1:], None)):
            begin = max(begin, first)
            if end is None or begin < end:
                with torch.random.fork_rng(devices=[]):  # opening a loader draws a random number
                    stream = loader(begin)
                yield from islice(stream, None if end is None else end - begin)


def plan_order(plan: Plan, samples: Samples | StreamSamples) -> None:
    """Size of the shuffle buffer of a stream; other data is shuffled as a whole."""
    if isinstance(samples, StreamSamples):
        why = f"samples over which each reader mixes the order of its shards; about {samples.megabytes(WINDOW):,.0f} MB"
        plan.choose("shuffle_buffer", WINDOW, why)


def note_readers(plan: Plan, samples: Samples | StreamSamples) -> None:
    """Warns if a stream has fewer shards than there are workers."""
    if isinstance(samples, StreamSamples):
        shards, workers = len(samples.stream.shards), max(1, plan.settings["workers"])
        if workers > shards:
            plan.reasons["workers"] += (
                f"; of {many(shards, 'shard')}, so several read the same one and share its samples"
            )


def make_loader(
    config: Config, samples: Samples | StreamSamples, size: int | None = None, workers: int | None = None
) -> Loader | StreamLoader | InMemory | InStages:
    """Training micro-batches of this process as the settings say; or, with `size`, batches of that many images at the
    final image size, the same in every process; `workers` overrules the settings."""
    data, training, launched = config.data, config.training, launch()
    stages = parse(training.resolutions) if size is None else []
    if stages:
        begins = [first * training.accumulate for first in firsts(stages, training.steps)]
        loaders = [make_loader(config.at_size(stage.size), samples) for stage in stages]
        return InStages(tuple(loaders), tuple(begins))
    view = transform_of(data, config.model.patch_size)
    crops = data.views_per_image
    micro = divide(training.batch, training.accumulate, crops)
    if size is not None and size % crops:
        crops = 1  # batches of another size serve to inspect the data
    settings = caption_settings(config)
    shared: dict[str, Any] = {"view": view, "seed": training.seed, "batch": size or micro, "crops": crops}
    if size is None:
        shared |= {"rank": launched.rank, "world": launched.world}
    if settings is not None and isinstance(samples, Samples):
        shared["captions"] = samples.captions.tokens(settings)
    if data.in_memory == "on" and isinstance(samples, Samples) and view.batched:
        return InMemory(samples=samples, device=config.runtime.device, **shared)
    shared |= {"workers": data.workers if workers is None else workers, "pin": config.runtime.device == "cuda"}
    if isinstance(samples, StreamSamples):
        shared |= {"counts": samples.counts, "bad": samples.bad, "window": data.shuffle_buffer}
        shared |= {"channels": samples.channels, "max_side": samples.max_side}
        shared |= {"usual_range": samples.held.usual_range}
        shared |= {} if settings is None else {"tokenizer": samples.captions.trained(settings)}
        return StreamLoader(stream=samples.stream, **shared)
    return Loader(samples=samples, **shared)


def caption_settings(config: Config) -> CaptionSettings | None:
    """What the method needs to know of captions; None where it learns from none."""
    name, options = registry.parse(config.method.name)
    method: type[Objective] = registry.find("method", name)
    return method.captions(options)


def keep_tokenizer(config: Config, samples: Samples | StreamSamples, folder: Path, first: bool) -> str | None:
    """Takes the tokenizer of captions from the folder of a run, or trains one, which the first process keeps there.
    Returns a sentence for the user; None where the method learns from no captions."""
    settings = caption_settings(config)
    if settings is None:
        return None
    captions, file = samples.captions, folder / TOKENIZER_JSON
    if file.exists():
        captions.tokenizer = opened_tokenizer(file.read_text(encoding="utf-8"), settings.context, str(file))
    tokenizer = captions.trained(settings)
    if first and not file.exists():
        write_atomically(file, lambda part: part.write_text(tokenizer.json, encoding="utf-8"))
    long = tokenizer.long(captions.all)
    cut = (
        f"; {many(len(long), 'caption')} of more than {settings.context} are cut, e.g. {long[0][:60]!r}" if long else ""
    )
    return f"Captions are written with {tokenizer.size:,} tokens: {file}{cut}"


def transform_of(data: DataSettings, patch: int) -> Transform:
    """What makes the views of an image. patch: pixels along a side of a patch."""
    shared: dict[str, Any] = {"size": data.image_size, "channels": data.channels, "patch": patch}
    shared |= {"modality": make_modality(data.modality)}
    shared |= {"crop": data.crop, "crop_kind": data.crop_kind, "flip": data.flip == "on", "resize": data.resize}
    return make_transform(data.views, **shared)


def to_send(samples: Samples | StreamSamples) -> Samples | StreamSamples:
    """A copy to send to another process, without cached images."""
    return samples.light() if isinstance(samples, Samples) else samples


def divide(batch: int, accumulate: int, crops: int = 1) -> int:
    """Samples per micro-batch and device. Raises UserError if a batch cannot be divided equally, or the crops of each
    image do not fit evenly into its micro-batches."""
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
