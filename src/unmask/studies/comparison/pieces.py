"""The pieces of a comparison: trainings, and what is judged of each, in an order that is readable at any moment."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.images import Samples
from unmask.data.sheet import Sheet
from unmask.files import Json
from unmask.studies.comparison.judging import accuracy, judge_finetuned, judge_frozen
from unmask.studies.comparison.plan import Forecast
from unmask.studies.comparison.settings import METHOD, PIXELS, RANDOM, Contestant, Setting, shares
from unmask.studies.comparison.training import train
from unmask.studies.engine import Key, Piece, Tell, Work, opened_once
from unmask.training.log import clock

FIELDS = ("piece", "contestant", "seed", "size", "draw")  # of a recorded line; the key of a piece
TRAIN, FROZEN, FINETUNE = "train", "frozen", "finetune"
COMMAND = "compare"


def waves(setting: Setting, forecast: Forecast, seeds: Sequence[int]) -> list[list[Piece]]:
    """For each seed the trainings, then what is judged: a study that is stopped is one with fewer seeds."""
    planned: list[list[Piece]] = []
    for seed in seeds:
        own = [
            contestant for contestant in setting.contestants if contestant.kind in (METHOD, RANDOM) or seed == seeds[0]
        ]
        planned.append(
            [_piece(TRAIN, contestant, seed, "", 0, contestant.seconds) for contestant in own if contestant.trained]
        )
        planned.append([piece for contestant in own for piece in _frozen(setting, forecast, contestant, seed)])
        tuned = [contestant for contestant in setting.contestants if contestant.kind != PIXELS]
        planned.append([piece for contestant in tuned for piece in _tuned(setting, forecast, contestant, seed)])
    return [wave for wave in planned if wave]


def _frozen(setting: Setting, forecast: Forecast, contestant: Contestant, seed: int) -> list[Piece]:
    pieces = []
    for share in shares(setting.judging.points if contestant.trained else 1):
        evaluators = evaluators_at(setting, contestant, share)
        if evaluators:
            cost = sum(forecast.frozen[name] for name in evaluators)
            pieces.append(_piece(FROZEN, contestant, seed, f"{share:g}", 0, cost))
    return pieces


def _tuned(setting: Setting, forecast: Forecast, contestant: Contestant, seed: int) -> list[Piece]:
    return [
        _piece(FINETUNE, contestant, seed, str(number), draw, forecast.finetuning[str(number)])
        for number in setting.judging.labels_per_class
        for draw in range(setting.judging.draws)
    ]


def evaluators_at(setting: Setting, contestant: Contestant, share: float) -> tuple[str, ...]:
    """The attentive probe, which costs most, judges whole trainings only."""
    return tuple(name for name in setting.judging.of(contestant) if share == 1 or name != "attentive")


def _piece(what: str, contestant: Contestant, seed: int, size: str, draw: int, cost: float) -> Piece:
    if what == TRAIN:
        doing = "training"
    elif what == FROZEN:
        doing = "frozen features" + ("" if size == "1" else f" after {float(size):.0%} of the training")
    else:
        doing = f"fine-tuned with {size} labels per class" + (f", draw {draw}" if draw else "")
    return Piece((what, contestant.name, seed, size, draw), f"{contestant.name}, seed {seed}, {doing}", max(cost, 1e-3))


@dataclass
class Bench:
    """The data of a study, open in this process."""

    setting: Setting
    sheet: Sheet
    samples: Samples
    labelled: Labelled

    def do(self, key: Key, tell: Tell) -> Json:
        """One piece of work."""
        what, name, seed, size, draw = key
        setting, contestant, seed = self.setting, self.setting.contestant(str(name)), int(seed)
        if what == TRAIN:
            points, data = setting.judging.points, (self.sheet, self.samples)
            return train(contestant, seed, setting.out, *data, points, lambda share: tell("training", share))
        if what == FROZEN:
            share = float(size)
            evaluators = evaluators_at(setting, contestant, share)
            return {"results": judge_frozen(setting, self.labelled, contestant, seed, share, evaluators, tell)}
        tell("fine-tuning", 0.0)
        return judge_finetuned(setting, self.labelled, contestant, seed, int(size), int(draw))


class Elsewhere:
    """Does pieces in another process, which opens the data itself, once; it can be sent there."""

    def __init__(self, setting: Setting):
        self.setting = setting

    def __call__(self, key: Key) -> Json:
        return opened_once(self.setting, lambda: opened(self.setting)).do(key, lambda what, share: None)


def opened(setting: Setting) -> Bench:
    """Opens the data of a study."""
    quiet = Console(quiet=True, force_terminal=False)
    sheet, samples = setting.opening.samples(quiet)
    samples.channels = setting.reference.data.channels
    return Bench(setting, sheet, samples, setting.opening.labelled(quiet, COMMAND))


def work_of(bench: Bench, jobs: int) -> Work:
    return Work(bench.do, Elsewhere(bench.setting), jobs)


def said(line: Json, word: str) -> str:
    """A result in words. word: what a sample is called."""
    if line["piece"] == TRAIN:
        return f"loss {line['loss']:.4f}, {line['images']:,} {word}s, {clock(line['seconds'])}"
    results = line.get("results") or [{"judge": FINETUNE} | line]
    return ", ".join(f"{result['judge']} {accuracy(result):.1%}" for result in results)
