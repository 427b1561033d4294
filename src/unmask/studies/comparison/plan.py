"""Plans the trainings of a comparison: the settings that each method chooses, and the length that its budget pays for.

No method is tuned: each gets what `pretrain` would choose for it on this data and this machine, with the same encoder
and the same images.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.planning.build import flops_per_image
from unmask.planning.initial_weights import Start
from unmask.planning.measure import trial
from unmask.planning.plan import Plan
from unmask.planning.pretrain import Given, choose_length, choose_parts, measure_stages
from unmask.planning.stages.divide import own_share, stages_of
from unmask.planning.stages.trainings import trainings_of
from unmask.runs.config import Config
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.progress import doing
from unmask.studies.comparison.judging import rows_of, tuning_of
from unmask.studies.comparison.settings import METHOD, PIXELS, RANDOM, Budget, Contestant, Judging, Setting
from unmask.studies.comparison.training import count_bytes
from unmask.tasks.classification import finetune
from unmask.training.log import clock
from unmask.training.objective import Stage
from unmask.training.speed.compile import ready

ENOUGH = 5.0  # seconds of measuring a method's steps


@dataclass(frozen=True)
class Forecast:
    """Seconds of the pieces of a study, and the most memory that a training needs."""

    frozen: Mapping[str, float]  # of judging one encoder's features, by evaluator
    finetuning: Mapping[str, float]  # of one fine-tuning, by the number of labels per class
    memory_mb: int

    def training(self, contestants: Sequence[Contestant], seeds: int) -> float:
        return seeds * sum(contestant.seconds for contestant in contestants if contestant.trained)

    def judging(self, contestants: Sequence[Contestant], judging: Judging, seeds: int) -> float:
        seconds = 0.0
        for contestant in contestants:
            times = seeds if contestant.kind in (METHOD, RANDOM) else 1
            for evaluator in judging.of(contestant):
                points = judging.points if contestant.trained and evaluator != "attentive" else 1
                seconds += times * points * self.frozen[evaluator]
            if contestant.kind != PIXELS:
                seconds += seeds * judging.draws * sum(self.finetuning.values())
        return seconds

    def sentence(self, contestants: Sequence[Contestant], judging: Judging, seeds: int, jobs: int, word: str) -> str:
        """Time and memory of the whole study in words. word: what a sample is called."""
        training, judged = self.training(contestants, seeds), self.judging(contestants, judging, seeds)
        num, total = seeds * sum(contestant.trained for contestant in contestants), training + judged
        text = (
            f"Forecast: {clock(total)} of work: {num} trainings {clock(training)}, judging {clock(judged)}; at most"
            f" {self.memory_mb:,} MB for a training step, beside {word}s and libraries"
        )
        return text + (f"; {jobs} side by side take about {clock(total / jobs)}." if jobs > 1 else ".")


def plan_method(name: str, given: Given, samples: Samples, budget: Budget) -> Contestant:
    """One method's training. Raises UserError for a method that does not work here, or a budget below one step."""
    began, start = time.monotonic(), Start()
    doing(f"planning {name}")
    plan = Plan(dict(given.options), dict(given.reasons))
    draft = choose_parts(plan, given, start)
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()  # of the method before
    measured = measure_stages(draft, start, Ranks(), ENOUGH)
    own, batch = flops_per_image(draft.config(), samples), plan.settings["batch"]
    stages = stages_of(name)
    before = _flops_of_stages(draft.config(), given.sheet, samples, stages)
    flops = before + own_share(stages) * own
    seconds = measured[-1].seconds * flops / own  # stages take as long as their FLOPs would take the method itself
    steps = budget.steps(batch, seconds, flops)
    if steps < 1:
        raise UserError(
            f"{budget.option} does not pay for one step of {name}: {batch:,} {given.sheet.word}s,"
            f" {flops * batch:.3g} FLOPs, {seconds:.2g} s. Give more"
        )
    plan.settings["steps"], plan.reasons["steps"] = int(steps), f"what {budget.option} pays for"
    draft = replace(draft, given=replace(given, asked=given.asked | {"steps": int(steps)}))
    config = choose_length(draft, measured, time.monotonic() - began)
    total = config.training.steps
    if total <= len(stages):
        raise UserError(
            f"{budget.option} pays for {total} steps of {name}, which trains {len(stages) + 1} times in a row"
        )
    on_cpu = make_devices(config.runtime).device.type == "cpu"
    memory_mb = count_bytes(config, samples) >> 20 if on_cpu else measured[-1].memory_mb
    return Contestant(name, METHOD, config, flops, before / flops, total * seconds, memory_mb)


def _flops_of_stages(config: Config, sheet: Sheet, samples: Samples, stages: Sequence[Stage]) -> float:
    """Of the trainings before the method itself, for an image of the whole run."""
    if not stages:
        return 0.0
    trainings = trainings_of(config, sheet, samples, Path(), steps=1000)[:-1]
    return sum(stage.share * flops_per_image(training.config, samples) for stage, training in zip(stages, trainings))


def forecast(setting: Setting, labelled: Labelled, encoder: Encoder, frozen: Mapping[str, float]) -> Forecast:
    """frozen: measured seconds of judging one encoder, by evaluator. A few steps of fine-tuning are measured here."""
    finetuning = {}
    for number in setting.judging.labels_per_class:
        rows = rows_of(setting, labelled, number, setting.seed, 0)
        settings = tuning_of(setting, len(rows), encoder, labelled, setting.seed, scratch=False)
        samples = labelled.samples("train", encoder.channels, rows)
        measured = trial(
            lambda s=settings: ready(finetune.make_task(encoder, labelled.classes, s), s),
            lambda size, x=samples, s=settings: finetune.make_loader(x, s, encoder, size),
            Plan(asdict(settings)),
            make_devices(settings),
            retry=False,
        )
        answering = (
            min(frozen.values(), default=0.0) * len(labelled.splits["test"]) / sum(map(len, labelled.splits.values()))
        )
        finetuning[str(number)] = settings.fit(len(rows)).steps * measured.seconds + answering
    return Forecast(
        dict(frozen), finetuning, max((contestant.memory_mb for contestant in setting.contestants), default=0)
    )
