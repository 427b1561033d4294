"""One run of a study: pretrain, fit a linear probe, fine-tune, and count the cost."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from rich.console import Console

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.errors import Diverged
from unmask.evaluation.compare import judge
from unmask.evaluation.features import split_features
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.planning.build import build, flops_per_image
from unmask.planning.initial_weights import Start
from unmask.runs.config import Config
from unmask.runtime.distributed.data_parallel import Devices, make_devices
from unmask.runtime.machine import autocast_dtype
from unmask.seeds import mix
from unmask.studies.ablation.across_sizes import AT, resized, size_at
from unmask.studies.ablation.axes import Changes, changed, length_of
from unmask.studies.engine import Key, Tell, Work, opened_once
from unmask.studies.opening import Opening
from unmask.studies.short_training import train_shortly
from unmask.tasks.classification.finetune import answers, finetune
from unmask.tasks.classification.metrics import scores
from unmask.tasks.classification.settings import ClassifySettings

RUNS = "runs"


@dataclass(frozen=True)
class Bench:
    """Data and settings that all runs of a study share."""

    config: Config  # of the baseline, as `pretrain` plans it
    steps: int  # of the baseline's pretraining
    tuning: ClassifySettings  # of fine-tuning
    samples: Samples
    labelled: Labelled
    devices: Devices
    configs: Mapping[str, Config] = field(default_factory=dict)  # by key, of values that need a plan of their own
    lengths: Mapping[str, float] = field(default_factory=dict)  # by key, as shares of the baseline's steps
    factors: Sequence[float] = ()  # on the image size, at which encoders are judged too
    finetunes: bool = True  # False: the linear probe alone

    def config_of(self, key: str, changes: Changes, seed: int) -> Config:
        """Of one run."""
        planned = self.configs.get(key)
        return changed(self.config, changes, seed) if planned is None else planned.with_options({"seed": seed})

    def steps_of(self, key: str, changes: Changes) -> int:
        """Of one run's pretraining."""
        length = self.lengths.get(key, length_of(changes))
        return max(1, round(self.steps * length)) if length else 0


def run_cell(
    bench: Bench, key: str, changes: Changes, seed: int, folder: Path, tell: Callable[[str, float], object]
) -> Json:
    """The line of one run. `folder` holds its checkpoint while it runs; `tell(what, share)` is called with its
    progress."""
    config = bench.config_of(key, changes, seed)
    objective = build(config, Start())
    steps = bench.steps_of(key, changes)
    trained = {"loss": None, "seconds": 0.0}
    if steps:
        told = lambda step: tell("pretraining", step / steps)  # noqa: E731
        trained = train_shortly(config, objective, bench.samples, steps, folder, bench.devices, told)
    flops, images = flops_per_image(config, bench.samples) if steps else 0.0, steps * config.training.batch
    tell("linear probe", 1.0)
    start = time.monotonic()
    probe = linear_probe(objective.kept, bench)
    middle = time.monotonic()
    tell("fine-tuning", 1.0)
    tuned = fine_tune(objective.kept, bench, seed) if bench.finetunes else None
    seconds = {"pretrain": trained["seconds"], "probe": middle - start, "finetune": time.monotonic() - middle}
    at_sizes = {}
    for factor in bench.factors:
        encoder = resized(objective.kept, config, size_at(config, factor))
        tell(f"{factor:g} times the size", 1.0)
        linear, finetune = linear_probe(encoder, bench)["linear"], fine_tune(encoder, bench, seed)
        at_sizes[f"{factor:g}"] = {"linear": linear, "finetune": finetune}
    if at_sizes:
        probe, seconds["sizes"] = probe | {AT: at_sizes}, time.monotonic() - start - sum(list(seconds.values())[1:])
    line = {"changes": dict(changes), "steps": steps, "loss": trained["loss"], "flops": flops, "images": images}
    line |= probe | {"finetune": tuned, "seconds": {name: round(value, 2) for name, value in seconds.items()}}
    shutil.rmtree(folder, ignore_errors=True)
    return line


def run_folder(out: Path, key: str, seed: int) -> Path:
    """Holds the checkpoint of a run that is not finished."""
    return out / RUNS / f"{mix(*key.encode()):016x}-{seed}"


@dataclass(frozen=True)
class Doing:
    """Runs the cells of a study; in other processes, which open the data themselves, without what is open here."""

    out: Path
    values: Mapping[str, Changes]  # by key
    opening: Opening
    config: Config
    steps: int
    tuning: ClassifySettings
    configs: Mapping[str, Config]
    lengths: Mapping[str, float]
    factors: Sequence[float]
    bench: Bench | None = None

    def here(self, place: Key, tell: Tell) -> Json:
        """One run. A training that diverges leaves no checkpoint."""
        key, seed = str(place[0]), int(place[1])
        folder = run_folder(self.out, key, seed)
        assert self.bench is not None
        try:
            return run_cell(self.bench, key, self.values[key], seed, folder, tell)
        except Diverged:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def elsewhere(self, place: Key) -> Json:
        """The same in another process."""
        bench = opened_once((self.opening, self.config, self.steps, self.tuning), self._open)
        return replace(self, bench=bench).here(place, lambda what, share: None)

    def _open(self) -> Bench:
        quiet = Console(quiet=True, force_terminal=False)
        samples, labelled = self.opening.samples(quiet)[1], self.opening.labelled(quiet, "ablate")
        samples.channels = self.config.data.channels
        devices = make_devices(self.config.runtime)
        bench = Bench(self.config, self.steps, self.tuning, samples, labelled, devices)
        return replace(bench, configs=self.configs, lengths=self.lengths, factors=self.factors)

    def work(self, jobs: int) -> Work:
        return Work(self.here, replace(self, bench=None).elsewhere, jobs)


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
    loader = labelled.loader("test", encoder.channels, labelled.source.modality.whole(size))
    classifier = task.result.to(bench.devices.device)
    probabilities = answers(classifier, loader, bench.devices.device, _autocast(bench))
    return scores(probabilities, labelled.labels("test"), labelled.classes)["accuracy"]


def _autocast(bench: Bench) -> torch.dtype | None:
    return autocast_dtype(bench.config.runtime.precision)
