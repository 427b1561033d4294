"""One run of a study: pretrain, fit a linear probe, fine-tune, and count the cost."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.evaluation.compare import judge
from unmask.evaluation.features import split_features
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.planning.build import build
from unmask.planning.initial_weights import Start
from unmask.planning.loaders import make_loader
from unmask.planning.measure import prepare
from unmask.runs.config import Config
from unmask.runtime.distributed.data_parallel import Devices
from unmask.runtime.machine import autocast_dtype
from unmask.studies.ablation.axes import Changes, changed, steps_of
from unmask.tasks.classification.finetune import answers, finetune
from unmask.tasks.classification.metrics import scores
from unmask.tasks.classification.settings import ClassifySettings
from unmask.training import checkpoint
from unmask.training.log import METRICS, Log, read
from unmask.training.loop import fit
from unmask.training.objective import Objective
from unmask.training.settings import Fit
from unmask.training.speed.compile import ready
from unmask.training.speed.step_cost import step_flops

CHECKPOINT_EVERY = 60.0  # seconds that a kill can lose
WARMUP = 0.05  # of the steps, as `plan_length` has it
COUNTED = 2  # images that FLOPs are counted on


@dataclass(frozen=True)
class Bench:
    """Data and settings that all runs of a study share."""

    config: Config  # of the baseline, as `pretrain` plans it
    steps: int  # of the baseline's pretraining
    tuning: ClassifySettings  # of fine-tuning
    samples: Samples
    labelled: Labelled
    devices: Devices
    finetunes: bool = True  # False: the linear probe alone


class Told(Log):
    """A log that records as usual, prints nothing, and reports its progress."""

    def __init__(self, folder: Path, config: Config, count: int, tell: Callable[[int], object]):
        quiet = Console(quiet=True, force_terminal=False)
        super().__init__(folder, quiet, config.training.batch, count, config.record.context)
        self.tell = tell

    def step(
        self, step: int, lr: float, means: dict[str, float], seconds: float, skipped: int, waited: float = 0.0
    ) -> None:
        super().step(step, lr, means, seconds, skipped, waited)
        self.tell(step)


def run_cell(
    bench: Bench, key: str, changes: Changes, seed: int, folder: Path, tell: Callable[[str, float], object]
) -> Json:
    """The line of one run. `folder` holds its checkpoint while it runs; `tell(what, share)` is called with its
    progress."""
    config = changed(bench.config, changes, seed)
    objective = build(config, Start())
    steps = steps_of(changes, bench.steps) if changes.get("length", 1.0) else 0
    trained = {"loss": None, "seconds": 0.0}
    if steps:
        trained = _pretrain(bench, config, objective, steps, folder, lambda step: tell("pretraining", step / steps))
    counted = {"flops": cost(objective, bench) if steps else 0.0, "images": steps * config.training.batch}
    tell("linear probe", 1.0)
    start = time.monotonic()
    probe = linear_probe(objective.kept, bench)
    middle = time.monotonic()
    tell("fine-tuning", 1.0)
    tuned = fine_tune(objective.kept, bench, seed) if bench.finetunes else None
    seconds = {"pretrain": trained["seconds"], "probe": middle - start, "finetune": time.monotonic() - middle}
    line = {"key": key, "seed": seed, "changes": changes, "steps": steps, "loss": trained["loss"], **counted}
    line |= probe | {"finetune": tuned, "seconds": {name: round(value, 2) for name, value in seconds.items()}}
    shutil.rmtree(folder, ignore_errors=True)
    return line


def _pretrain(
    bench: Bench, config: Config, objective: Objective, steps: int, folder: Path, tell: Callable[[int], object]
) -> Json:
    """Pretrains and returns the last record; resumes from a checkpoint in the folder."""
    training = config.training
    folder.mkdir(parents=True, exist_ok=True)
    if not checkpoint.begun(folder):
        prepare(objective, lambda size: make_loader(config, bench.samples, size))
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
    log = Told(folder, config, len(bench.samples), tell)
    ready(objective, replace(config.runtime, compile="off"))  # trainings are many and short
    fit(objective, make_loader(config, bench.samples), fitting, folder, bench.devices, log)
    return [record for record in read(folder / METRICS) if "loss" in record][-1]


def cost(objective: Objective, bench: Bench) -> float:
    """FLOPs per image of forward and backward; random generators are left unchanged."""
    data = bench.config.data
    shape = (COUNTED, data.channels, *data.image_size)
    batch = {"views": [torch.zeros(shape, dtype=torch.uint8, device=bench.devices.device)]}
    with torch.random.fork_rng():
        objective.to(bench.devices.device).train()
        return step_flops(objective, batch)


def linear_probe(encoder: Encoder, bench: Bench) -> Json:
    """Accuracy of a linear classifier on frozen features; pooling and penalty are chosen on the validation split."""
    device, labelled = bench.devices.device, bench.labelled
    encoder.to(device).eval()
    competitors = {"pretrained": lambda split: split_features(labelled, encoder, split, device, _autocast(bench))}
    verdict = judge(competitors, classes=labelled.classes, evaluators=("linear",), labels_per_class=())
    return {"linear": verdict.scores[0].accuracy, "pooling": verdict.scores[0].pooling}


def fine_tune(encoder: Encoder, bench: Bench, seed: int) -> float:
    """Accuracy on the test split after training all of a copy of the encoder with labels."""
    labelled, settings = bench.labelled, replace(bench.tuning, seed=seed)
    samples = labelled.samples("train", encoder.channels)
    task = finetune(encoder.cpu(), samples, settings, bench.devices)
    size = encoder.grid.size
    loader = labelled.loader("test", encoder.channels, WholeImage((size[0], size[1])))
    classifier = task.result.to(bench.devices.device)
    probabilities = answers(classifier, loader, bench.devices.device, _autocast(bench))
    return scores(probabilities, labelled.labels("test"), labelled.classes)["accuracy"]


def _autocast(bench: Bench) -> torch.dtype | None:
    return autocast_dtype(bench.config.runtime.precision)
