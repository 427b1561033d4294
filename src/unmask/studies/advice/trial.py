"""Trials on the images themselves: what a small comparison found, and where it overrules the table of rules.

A measurement overrules what was published elsewhere only where its interval is clear of zero. One training of each
method was made, so that the chance of a training is in no interval: that is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.errors import UserError
from unmask.files import Json
from unmask.studies.advice.facts import Facts
from unmask.studies.advice.table import Statement
from unmask.studies.comparison.settings import PIXELS, RANDOM

RIVALS = ("mae", "simclr", "dino")  # that are tried beside the method that the table names, as time allows
FIXED, EACH = 75.0, 45.0  # seconds for looking and baselines, and for measuring and judging a method, on a few cores
LEAST = 60.0  # seconds of training for a method: less teaches next to nothing
JUDGED = 1000  # images to fit classifiers on, and to test on, at the most
TUNED = 10  # labels per class of fine-tuning, where that is what the features are for
LONG = 15.0  # minutes from which there is time for fine-tuning
ONCE = "one training each, whose chance is in no interval"


@dataclass(frozen=True)
class Design:
    """What a trial compares, and how long it trains each method."""

    methods: tuple[str, ...]
    hours: float  # of each training
    labels_per_class: int  # of fine-tuning; 0: frozen features alone are judged

    @property
    def judge(self) -> str:
        """By which it is decided, as a comparison calls it."""
        return f"finetune@{self.labels_per_class}" if self.labels_per_class else "linear"


@dataclass(frozen=True)
class Trial:
    """A finished comparison."""

    design: Design
    results: Json  # as in comparison.json
    path: Path  # its folder
    against: tuple[str, ...]  # weights that were judged too, as the comparison names them

    @property
    def methods(self) -> list[str]:
        """Those that were judged, the best first."""
        return self._ranked(self.design.methods)

    @property
    def weights(self) -> list[str]:
        """Those that were judged, the best first."""
        return self._ranked(self.against)

    def _ranked(self, names: Sequence[str]) -> list[str]:
        judged = [a for a in self.results["accuracies"] if a["judge"] == self.design.judge and a["share"] == 1.0]
        accuracies = {a["contestant"]: a["mean"] for a in judged if a["contestant"] in names}
        return sorted(accuracies, key=lambda name: -accuracies[name])

    def above(self, first: str, second: str) -> bool:
        """Whether the first is clearly ahead of the second."""
        return (gap := self.gap(first, second)) is not None and gap.low > 0

    def gap(self, first: str, second: str) -> "Gap | None":
        """Accuracy of the first minus that of the second, on the same test images."""
        for difference in self.results["differences"]:
            pair = {difference["first"], difference["second"]}
            if difference["judge"] == self.design.judge and pair == {first, second}:
                sign = 1 if difference["first"] == first else -1
                low, high = sorted((sign * difference["low"], sign * difference["high"]))
                return Gap(sign * difference["mean"], low, high)
        return None


@dataclass(frozen=True)
class Gap:
    """A difference of accuracies with its 95 % interval; shares, 0 to 1."""

    mean: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """In points: "4.1 points (1.2 to 7.0)"."""
        return f"{100 * self.mean:.1f} points ({100 * self.low:.1f} to {100 * self.high:.1f})"


def design_trial(minutes: float, facts: Facts) -> Design:
    """As many methods as the time allows, the table's first. Raises UserError where the time is too short for one."""
    seconds, names = 60 * minutes - FIXED, tuple(dict.fromkeys((facts.method, *RIVALS)))
    count = min(len(names), int(seconds // (EACH + LEAST)))
    if count < 1:
        raise UserError(
            f"--minutes {minutes:g} leaves no time to train: looking, measuring and judging take"
            f" {(FIXED + EACH) / 60:.0f} minutes; give {math.ceil((FIXED + EACH + LEAST) / 60)} or more, or none"
        )
    tuned = TUNED if facts.judge == "full" and minutes >= LONG and facts.labels_per_class >= TUNED else 0
    training = (seconds - count * EACH) / (2 if tuned else 1)
    return Design(names[:count], round(training / count / 3600, 4), tuned)


def measured_statements(trial: Trial, facts: Facts) -> list[Statement]:
    """What the trial says clearly of methods and weights; each overrules the table's statement of its topic."""
    statements = [_method(trial, facts), _start(trial, facts)] if trial.methods else []
    return [statement for statement in statements if statement is not None]


def remarks(trial: Trial, facts: Facts) -> list[str]:
    """What the trial could not tell."""
    minutes = 60 * trial.design.hours
    texts = [f"The trial made {ONCE}, {minutes:.1f} minutes long: longer ones may order otherwise."]
    if trial.methods and _method(trial, facts) is None:
        texts.append(f"The trial does not decide on the method, so the table does. {trial.results['sentence']}")
    unlearnt = [name for name in trial.methods if not trial.above(name, RANDOM)]
    if unlearnt:
        texts.append(f"{', '.join(unlearnt)}: not above random initialisation in the trial, too short to judge by.")
    if trial.methods and not trial.above(trial.methods[0], PIXELS):
        texts.append("No method was above raw pixels in the trial.")
    if _frozen_only(trial, facts):
        texts.append(
            f"The trial judged frozen features; fine-tuned, methods may order otherwise (--minutes {LONG:g} or more)."
        )
    return texts


def _frozen_only(trial: Trial, facts: Facts) -> bool:
    """Whether the features are to be fine-tuned, and were judged frozen."""
    return facts.judge == "full" and not trial.design.labels_per_class


def _method(trial: Trial, facts: Facts) -> Statement | None:
    """The leader, where it is clearly ahead of random weights, and of the table's method or of the next."""
    best, advised = trial.methods[0], facts.method
    rival = advised if best != advised else next(iter(trial.methods[1:]), "")
    gap = trial.gap(best, rival)
    if gap is None or gap.low <= 0 or not trial.above(best, RANDOM) or (best != advised and _frozen_only(trial, facts)):
        return None
    if best == advised:
        text = f"{best}: named by the table, and in the trial ahead of {rival} by {gap.text}."
    else:
        text = f"{best}: in the trial ahead of {rival}, which the table names, by {gap.text}. Follow the measurement."
    source = f"measured on these images, {ONCE}"
    return Statement("method", best, text, trial.results["sentence"], source, "fair", "trial")


def _start(trial: Trial, facts: Facts) -> Statement | None:
    """Weights at hand against the best training: which is ahead decides, where that is clear."""
    if not trial.weights:
        return None
    method, weights = trial.methods[0], trial.weights[0]
    gap = trial.gap(weights, method)
    if gap is None or (gap.low <= 0 <= gap.high):
        return None
    source = f"measured on these images, {ONCE}"
    if gap.low > 0:
        choice = facts.start if facts.start in ("published", "continue") else "published"
        text = f"Use {weights}: in the trial ahead of {method} trained here by {gap.text}."
    else:
        choice, ahead = "scratch", Gap(-gap.mean, -gap.high, -gap.low)
        text = f"Pretrain on your own images: in the trial {method} was ahead of {weights} by {ahead.text}."
    against = "" if choice == facts.start else " The table says otherwise; follow the measurement."
    return Statement("start", choice, text + against, trial.results["sentence"], source, "fair", "trial")
