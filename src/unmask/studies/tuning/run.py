"""The runs of a tuning study: each axis in turn, in rounds of successive halving, every run at the same counted
FLOPs."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.errors import Diverged
from unmask.files import Json
from unmask.planning.build import build, flops_per_image
from unmask.planning.initial_weights import Start
from unmask.planning.pretrain import Given
from unmask.runs.config import Config
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.machine import autocast_dtype
from unmask.seeds import mix
from unmask.studies.ablation.any_axis import needs_plan, replanned
from unmask.studies.ablation.axes import Changes, changed
from unmask.studies.comparison.judging import packed
from unmask.studies.engine import Key, Piece, Records, Tell, Work, opened_once, run_pieces
from unmask.studies.opening import Opening
from unmask.studies.short_training import train_shortly
from unmask.studies.tuning.findings import Outcome, key_of, rounds_of, share_text
from unmask.studies.tuning.halving import rungs
from unmask.studies.tuning.judging import JUDGED, judge_on_validation, validation_features
from unmask.studies.tuning.space import axis_of

FIELDS = ("key", "share", "seed")  # of a recorded run: its settings, the share of a whole run, the seed
RECORDS, RUNS = "runs.jsonl", "runs"
COMMAND = "tune"


@dataclass(frozen=True)
class Length:
    """What a whole run is: the baseline's, and as many FLOPs of any other settings."""

    steps: int  # of the baseline
    flops: float  # of a step of the baseline
    step_seconds: float
    judging_seconds: float  # of one run

    def steps_of(self, flops: float, share: float) -> int:
        """flops: of a step; share: of a whole run."""
        return max(1, round(share * self.steps * self.flops / flops))

    def seconds(self, share: float) -> float:
        """Of one run with its judging, as expected."""
        return share * self.steps * self.step_seconds + self.judging_seconds


@dataclass(frozen=True)
class Bench:
    """The data of a study, open in this process."""

    samples: Samples
    labelled: Labelled


@dataclass(frozen=True)
class Doing:
    """Makes and judges one run; in another process, which opens the data itself, without what is open here."""

    configs: Mapping[str, Config]  # by the key of the settings
    length: Length
    opening: Opening
    channels: int
    evaluator: str
    out: Path
    seed: int  # of the study
    bench: Bench | None = None

    def here(self, place: Key, tell: Tell) -> Json:
        """A run that diverges leaves no checkpoint. Raises Diverged."""
        key, share, seed = str(place[0]), float(place[1]), int(place[2])
        assert self.bench is not None
        config = self.configs[key].with_options({"seed": seed})
        devices, samples = make_devices(config.runtime), self.bench.samples
        samples.channels = config.data.channels
        objective = build(config, Start())
        flops = config.training.batch * flops_per_image(config, samples)
        steps = self.length.steps_of(flops, share)
        folder = self.out / RUNS / f"{mix(*f'{key} {share}'.encode()):016x}-{seed}"
        told = lambda step: tell("pretraining", step / steps)  # noqa: E731
        try:
            last = train_shortly(config, objective, samples, steps, folder, devices, told)
        except Diverged:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        tell(self.evaluator, 1.0)
        autocast = autocast_dtype(config.runtime.precision)
        features = validation_features(self.bench.labelled, objective.kept, devices.device, autocast)
        correct = judge_on_validation(features, self.evaluator, self.seed)
        shutil.rmtree(folder, ignore_errors=True)
        counted = {"flops": steps * flops, "images": steps * config.training.batch}
        return {"steps": steps, "loss": last["loss"], "seconds": last["seconds"], **counted, "correct": packed(correct)}

    def elsewhere(self, place: Key) -> Json:
        """The same in another process."""
        bench = opened_once((self.opening, COMMAND), lambda: opened(self.opening))
        return replace(self, bench=bench).here(place, lambda what, share: None)


def opened(opening: Opening) -> Bench:
    quiet = Console(quiet=True, force_terminal=False)
    labelled = opening.labelled(quiet, COMMAND, JUDGED)
    return Bench(opening.samples(quiet)[1], labelled)


@dataclass
class Tuning:
    """A study: what it starts from, and how its runs are made."""

    given: Given  # of the baseline's plan
    baseline: Config
    axes: Sequence[str]
    doing: Doing
    seeds: Sequence[int]
    jobs: int

    def run(self, records: Records, console: Console, written: Callable[[list[Outcome]], object]) -> list[Outcome]:
        """Each axis in turn, from the best settings before it. written: called with the outcomes whenever a run is
        done."""
        outcomes: list[Outcome] = []
        for text in self.axes:
            chosen = chosen_by(outcomes)
            while True:
                outcome, pieces = self.next(text, chosen, records)
                if not pieces:
                    break

                def after(text: str = text, chosen: Changes = chosen) -> None:
                    written([*outcomes, self.next(text, chosen, records)[0]])

                words = f"{outcome.axis.name}, round {len(outcome.rounds)}"
                run_pieces(self._work(outcome, chosen), [pieces], records, console, said, words=words, after=after)
            outcomes.append(outcome)
            console.print(outcome.sentence, soft_wrap=True, markup=False, highlight=False)
        return outcomes

    def outcomes(self, records: Records) -> list[Outcome]:
        """As far as runs are recorded."""
        outcomes: list[Outcome] = []
        for text in self.axes:
            outcomes.append(self.next(text, chosen_by(outcomes), records)[0])
            if not outcomes[-1].finished:
                break
        return outcomes

    def next(self, text: str, chosen: Changes, records: Records) -> tuple[Outcome, list[Piece]]:
        """What is known of an axis, and the runs of its current round; none where all are done."""
        config = self.config(chosen)
        axis = axis_of(text, config).axis(config)
        plan = rungs(len(axis.values), len(self.seeds))
        rounds, values, finished = rounds_of(axis, plan, chosen, records.lines, self.seeds)
        own = next(value for value in axis.values if not value.changes).key
        outcome = Outcome(axis, own, rounds, finished)
        if finished:
            return outcome, []
        rung, pieces = rounds[-1].rung, []
        for seed in self.seeds[: rung.seeds]:
            for value in values:
                name = f"{axis.name} {value.label}, {rung.share:.0%} of a run, seed {seed}"
                key = (key_of(value, chosen), share_text(rung.share), seed)
                pieces.append(Piece(key, name, max(1e-3, self.doing.length.seconds(rung.share))))
        return outcome, pieces

    def config(self, changes: Changes) -> Config:
        """The baseline with the settings that were chosen so far. Raises UserError for what cannot be built."""
        if needs_plan(changes):
            return replanned(self.given, self.baseline, changes)
        return changed(self.baseline, changes, self.baseline.training.seed)

    def _work(self, outcome: Outcome, chosen: Changes) -> Work:
        merged = {key_of(value, chosen): {**chosen, **value.changes} for value in outcome.axis.values}
        configs = {key: self.config(changes) for key, changes in merged.items()}
        doing = replace(self.doing, configs=configs)
        return Work(doing.here, replace(doing, bench=None).elsewhere, self.jobs)


def chosen_by(outcomes: Sequence[Outcome]) -> Changes:
    """The settings that were better than the baseline's, of all axes so far."""
    merged: dict = {}
    for outcome in outcomes:
        if outcome.winner is not None:
            merged |= outcome.winner.value.changes
    return merged


def said(line: Json) -> str:
    from unmask.studies.comparison.judging import accuracy

    return f"{accuracy(line):.1%}, loss {line['loss']:.4f}"
