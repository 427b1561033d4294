"""A training of a study that is many and short: no pictures, no page, one checkpoint a minute."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from unmask.data.datasets.images import Samples
from unmask.files import Json
from unmask.planning.build import prepare
from unmask.planning.loaders import make_loader
from unmask.runs.config import Config
from unmask.runtime.distributed.data_parallel import Devices
from unmask.studies.quiet_log import QuietLog
from unmask.training import checkpoint
from unmask.training.log import METRICS, read
from unmask.training.loop import fit
from unmask.training.objective import Objective
from unmask.training.settings import Fit
from unmask.training.speed.compile import ready

CHECKPOINT_EVERY = 60.0  # seconds that a kill can lose
WARMUP = 0.05  # of the steps, as `plan_length` has it


def train_shortly(
    config: Config,
    objective: Objective,
    samples: Samples,
    steps: int,
    folder: Path,
    devices: Devices,
    tell: Callable[[int], object],
) -> Json:
    """Pretrains for so many steps and returns the last record; resumes from a checkpoint in the folder.

    Raises Diverged.
    """
    training = config.training
    folder.mkdir(parents=True, exist_ok=True)
    if not checkpoint.begun(folder):
        prepare(objective, lambda size: make_loader(config, samples, size))
    every = max(1, int(CHECKPOINT_EVERY * config.record.expected.images_per_second / training.batch))
    fitting = Fit(
        steps=steps,
        warmup=round(WARMUP * steps),
        batch=training.batch,
        accumulate=training.accumulate,
        lr=training.lr,
        weight_decay=training.weight_decay,
        clip=training.clip,
        seed=training.seed,
        log_every=max(1, steps // 20),
        save_every=every,
    )
    log = QuietLog(folder, config, len(samples), tell)
    ready(objective, replace(config.runtime, compile="off"))  # compiling takes longer than it saves
    fit(objective, make_loader(config, samples), fitting, folder, devices, log)
    return [record for record in read(folder / METRICS) if "loss" in record][-1]
