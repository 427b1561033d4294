"""The duration of a study, from a few measured steps; or the length of its runs, for a given duration."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unmask.errors import UserError
from unmask.files import Json
from unmask.planning.build import flops_per_image
from unmask.planning.measure import trial
from unmask.planning.plan import Plan
from unmask.runs.run import make_encoder
from unmask.studies.ablation.axes import BASELINE, FLOPS, IMAGES, Changes, length_of
from unmask.studies.ablation.one_run import Bench, linear_probe
from unmask.studies.short_training import WARMUP
from unmask.tasks.classification import finetune as finetuning
from unmask.tasks.classification.settings import ClassifySettings
from unmask.tasks.task import settings_from
from unmask.training.log import clock
from unmask.training.speed.compile import ready

HOURS = 1.0  # of a study, when neither hours nor steps are given
TUNING_SHARE = 1 / 3  # largest share of the time for fine-tuning
RESERVE = 0.05  # share of the time reserved for tables, figures and errors of the forecast
FEW = 100  # optimizer steps of pretraining below which effects are hardly visible


@dataclass(frozen=True)
class Forecast:
    """It is saved with the study."""

    steps: int  # of the baseline's pretraining
    tuning: ClassifySettings  # of fine-tuning, with the length that fits
    pretraining: dict[str, float]  # seconds, by key
    judging: float  # seconds of each run: set-up, probe and test
    finetuning: float  # seconds of each run
    lengths: dict[str, float]  # of pretraining, by key, as shares of the baseline's steps

    @classmethod
    def from_json(cls, content: Json, where: Path) -> "Forecast":
        """where: the file, for errors."""
        values: Json = content | {"tuning": settings_from(ClassifySettings, content["tuning"], where)}
        return cls(**values)

    def of(self, key: str) -> float:
        """Seconds of one run."""
        return self.pretraining[key] + self.judging + self.finetuning

    def sentence(self, values: int, seeds: int) -> str:
        """The forecast in words."""
        runs, pretraining = values * seeds, seeds * sum(self.pretraining.values())
        parts = [("pretraining", pretraining), ("fine-tuning", runs * self.finetuning)]
        parts.append(("probes and set-up", runs * self.judging))
        total = sum(seconds for _, seconds in parts)
        durations = ", ".join(f"{name} {clock(seconds)}" for name, seconds in parts)
        text = f"Forecast: {clock(total)} for {values} different runs x {seeds} seeds = {runs} runs ({durations})."
        if self.steps < FEW:
            text += f" A run of {self.steps} steps learns little: more hours, fewer axes or a smaller model help."
        return text


def make_forecast(
    bench: Bench,
    values: Mapping[str, Changes],
    began: float,
    *,
    seeds: int,
    hours: float | None = None,
    steps: int | None = None,
    tuning_epochs: float | None = None,
    equal: str = IMAGES,
) -> Forecast:
    """Measures what runs cost and chooses their length. values: changes by key; began: when the command did; seeds:
    runs of every value; hours: for all; steps: of the baseline, instead; tuning_epochs: of fine-tuning, if given;
    equal: what every pretraining has as much of as the baseline, unless its length is varied.

    Pretraining is measured once and scaled by counted FLOPs. Raises UserError if the requested time is too short.
    """
    start = time.monotonic()
    linear_probe(make_encoder(bench.config), bench)
    probe, start = time.monotonic() - start, time.monotonic()
    flops, lengths, seed = {}, {}, bench.config.training.seed  # of a step; shares of the baseline's steps
    for key, changes in values.items():  # also refuses, before anything is run, what cannot be built
        config = bench.config_of(key, changes, seed)
        batch = config.training.batch
        flops[key] = batch * flops_per_image(config, bench.samples)
        same = flops[BASELINE] / flops[key] if equal == FLOPS else bench.config.training.batch / batch
        lengths[key] = length_of(changes) * same
    splits = {name: len(places) for name, places in bench.labelled.splits.items()}
    twice = 1 + splits["test"] / sum(splits.values())  # the test images are seen by the fine-tuned encoder too
    sizes = 1 + sum(factor**2 for factor in bench.factors)  # times the patches of one size
    judging = sizes * twice * probe + (time.monotonic() - start) / len(values)
    step = bench.config.training.batch / bench.config.record.expected.images_per_second
    relative = {key: flops[key] / flops[BASELINE] * lengths[key] for key in values}
    runs = len(values) * seeds
    hours = hours or (None if steps else HOURS)
    seconds = None if hours is None else (1 - RESERVE) * (3600 * hours - (time.monotonic() - began))
    tuning, tuning_seconds = _tuning(bench, tuning_epochs, None if seconds is None else seconds / runs / sizes)
    tuning_seconds *= sizes
    if seconds is None:
        steps = steps or 1
    else:
        left = seconds - runs * (judging + tuning_seconds)
        steps = int(left / (seeds * step * sum(relative.values())))
        if steps < 1:
            raise UserError(
                f"{hours:g} hours are too short: probes and fine-tuning of {runs} runs alone take"
                f" {clock(runs * (judging + tuning_seconds))}. Give more --hours, fewer --axes or --seeds, or less"
                " --labels, --test or --finetune-epochs"
            )
    bench = replace(bench, steps=steps, lengths=lengths)
    num_steps = {key: bench.steps_of(key, changes) for key, changes in values.items()}
    seconds_by_key = {key: count * step * flops[key] / flops[BASELINE] for key, count in num_steps.items()}
    return Forecast(steps, tuning, seconds_by_key, judging, tuning_seconds, lengths)


def _tuning(bench: Bench, epochs: float | None, seconds: float | None) -> tuple[ClassifySettings, float]:
    """Settings of fine-tuning and its seconds: `epochs`, or what fits into a share of a run's `seconds`."""
    labelled, tuning = bench.labelled, bench.tuning
    encoder = make_encoder(bench.config)
    samples = labelled.samples("train", encoder.channels)
    measured = trial(
        lambda: ready(finetuning.make_task(encoder, labelled.classes, tuning), tuning),
        lambda size: finetuning.make_loader(samples, tuning, encoder, size),
        Plan(asdict(tuning)),
        bench.devices,
        retry=False,
    )
    per_epoch = measured.seconds * len(samples) / tuning.batch
    if epochs is None:
        fits = tuning.epochs if seconds is None else TUNING_SHARE * seconds / per_epoch
        epochs = min(tuning.epochs, max(fits, tuning.batch / len(samples)))
    tuning = replace(tuning, epochs=epochs, warmup=WARMUP * epochs)
    return tuning, tuning.fit(len(samples)).steps * measured.seconds
