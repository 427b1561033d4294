"""Builds the objective of a run, fits it to the first images, and counts the FLOPs of a step."""

import math
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from unmask.data.batch import Batch
from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.masking.mask import LEVELS, Sampler
from unmask.models.decoder import Decoder
from unmask.planning.initial_weights import Start
from unmask.planning.loaders import make_loader, transform_of
from unmask.runs.config import Config
from unmask.runs.run import make_objective
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.settings import RuntimeSettings
from unmask.seeds import mix
from unmask.training.objective import Objective
from unmask.training.resolution import parse as parse_resolutions
from unmask.training.speed.step_cost import step_flops
from unmask.weights.frozen_teacher import FrozenTeacher, teachers_of
from unmask.weights.teacher_cache import FOLDER, no_room

INSPECTED, PREPARE_BATCHES = 128, 8  # images of a batch that is only looked at; batches that objectives are fitted to
PIXELS = 128 * 224**2  # of such a batch at the most: fewer images at a time where they are large
COUNTED = 8  # images that FLOPs are counted on; what compares them with each other costs next to nothing


def build(config: Config, start: Start) -> Objective:
    """The objective with its initial weights: from the seed, or from `--init`."""
    torch.manual_seed(mix(config.training.seed, 0x1217))
    objective = make_objective(config)
    start.load(objective, config.method.decoder, config.data.bands, config.method.target or "")
    decoder = getattr(objective, "decoder", None)
    for stage in parse_resolutions(config.training.resolutions):
        if isinstance(decoder, Decoder):
            decoder.require_grid(objective.encoder.grid.covering(stage.size))
    return objective


def prepare(objective: Objective, loader: Callable[[int], Callable[[int], Iterator[Batch]]]) -> None:
    """Calls `prepare` of a new objective with the first few batches of its data."""

    def batches() -> Iterator[Batch]:  # opens the loader only when asked: it may start processes
        yield from map(on_cpu, islice(loader(batch_to_inspect(objective))(0), PREPARE_BATCHES))

    objective.prepare(batches())


def on_cpu(batch: Batch) -> Batch:
    """The same for an objective that was not moved to the device yet, on which a loader may keep its images."""
    cpu = make_devices(RuntimeSettings(), alone=True)
    return cpu.move(batch)


def batch_to_inspect(objective: Objective) -> int:
    """A batch of a fixed number of images, fewer if they are too large for memory."""
    return max(1, min(INSPECTED, PIXELS // math.prod(objective.encoder.grid.size)))


def flops_per_image(config: Config, samples: Samples | StreamSamples) -> float:
    """FLOPs of forward and backward for one image, all its views included; their mean over the training where the mask
    ratio changes. Random generators are left unchanged."""
    with torch.random.fork_rng():
        objective, batch = a_few(config, samples)
        mask, counts = getattr(objective, "mask", None), []
        levels = LEVELS if isinstance(mask, Sampler) and mask.changes else 1
        for level in range(levels):
            objective.progress = (level + 0.5) / levels
            counts.append(step_flops(objective, batch))
        return statistics.fmean(counts)


def a_few(config: Config, samples: Samples | StreamSamples) -> tuple[Objective, Batch]:
    """A new objective in training mode, and a few images for it, on the CPU."""
    objective = build(config, Start())
    prepare(objective, partial(make_loader, config, samples, workers=0))
    batch = on_cpu(next(iter(make_loader(config, samples, COUNTED, workers=0)(0))))
    objective.scheduled = objective.schedules(0.0)
    return objective.train(), batch


def keep_features(config: Config, objective: Objective, images: int, folder: Path) -> str | None:
    """Lets frozen teachers keep their features in the folder of a run, where its views are the same in every epoch.

    Returns a sentence for the user: that they are kept, or why they are not although views may be the same; nothing
    where there is no teacher, or where views change.
    """
    teachers = [teacher for teacher in teachers_of(objective) if isinstance(teacher, FrozenTeacher)]
    views = transform_of(config.data, config.model.patch_size).variants
    if not teachers or views is None:
        return None
    if launch().world > 1 or parse_resolutions(config.training.resolutions):
        why = "several processes" if launch().world > 1 else "--resolutions"
        return f"The teacher's features are computed in every step: they are kept for whole images, but not with {why}."
    need = views * images * sum(teacher.bytes_per_view for teacher in teachers)
    if (why := no_room(need, folder)) is not None:
        return f"The teacher's features are computed in every step: {why}."
    for number, teacher in enumerate(teachers):
        teacher.keep_in(folder / FOLDER / str(number))
    return (
        "The views are the same in every epoch: the teacher's features are computed once and kept in"
        f" {folder / FOLDER}, {need / 2**20:,.0f} MB at the most, until the run is finished."
    )
