"""What tuning found: for each axis the accuracy of every value in every round, and a sentence that claims no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from unmask.evaluation.intervals import LEVEL, repeated, repeated_difference, spread_of_differences, spread_within
from unmask.files import Json
from unmask.studies.ablation.axes import Axis, Value
from unmask.studies.comparison.judging import unpacked
from unmask.studies.engine import Key
from unmask.studies.tuning.halving import Rung, survivors

Lines = Mapping[Key, Json]  # (settings, share of a whole run, seed) -> the recorded run


@dataclass(frozen=True)
class Result:
    """One value in one round."""

    value: Value
    label: str
    accuracy: tuple[float, float, float]  # mean and limits, over images and seeds, 0 to 1
    difference: tuple[float, float, float] | None  # to the baseline, paired; None for the baseline itself
    seeds: int
    loss: float  # mean over the seeds
    seconds: float  # of a training, mean over the seeds


@dataclass(frozen=True)
class Round:
    rung: Rung
    results: list[Result]  # in the order of the values; those that diverged are left out
    diverged: list[str]  # labels

    def of(self, key: str) -> Result | None:
        return next((result for result in self.results if result.value.key == key), None)


@dataclass(frozen=True)
class Outcome:
    """What was found along one axis."""

    axis: Axis
    baseline: str  # the key of its own value
    rounds: list[Round]
    finished: bool

    @property
    def final(self) -> Round:
        return self.rounds[-1]

    @property
    def best(self) -> Result | None:
        """The value with the highest accuracy in the last round, but for the baseline."""
        others = [result for result in self.final.results if result.value.key != self.baseline]
        return max(others, key=lambda result: result.accuracy[0], default=None)

    @property
    def winner(self) -> Result | None:
        """The best, if it is better than the baseline beyond noise, and all runs are done."""
        best = self.best
        better = self.finished and best is not None and best.difference is not None and best.difference[1] > 0
        return best if better else None

    @property
    def sentence(self) -> str:
        """The finding of the last round."""
        own, best = self.final.of(self.baseline), self.best
        if not self.finished:
            return f"{self.axis.title}: not finished; repeat the command to go on."
        if own is None:
            return f"{self.axis.title}: the baseline diverged, so that nothing can be said; a smaller --lr may help."
        if best is None or best.difference is None:
            return f"{self.axis.title}: every other value diverged; {own.label} stays."
        mean, low, high = (100 * part for part in best.difference)
        interval = f"({low:.1f} to {high:.1f})"
        if low > 0:
            return f"{self.axis.title}: {best.label} is better than {own.label} by {mean:.1f} points {interval}."
        if mean > 0:
            return (
                f"{self.axis.title}: {own.label} is within noise of the best here: {best.label} is ahead by {mean:.1f}"
                f" points {interval}."
            )
        return (
            f"{self.axis.title}: no value is better than {own.label}: the nearest, {best.label}, is"
            f" {'level' if mean == 0 else f'behind by {-mean:.1f} points'} ({-high:.1f} to {-low:.1f} behind)."
        )


def key_of(value: Value, before: Mapping[str, object]) -> str:
    """Names the settings of a run: those chosen on the axes before, and the value's own."""
    merged = {**before, **value.changes}
    return ", ".join(f"{name}={setting}" for name, setting in sorted(merged.items())) or "baseline"


def share_text(share: float) -> str:
    return f"{share:g}"


def rounds_of(
    axis: Axis, plan: Sequence[Rung], before: Mapping[str, object], lines: Lines, seeds: Sequence[int]
) -> tuple[list[Round], list[Value], bool]:
    """The rounds so far, the values of the next one (or of the last), and whether all are done.

    The values of a round follow from the results of the one before, so that a study that was stopped goes on alike.
    """
    own = next(value for value in axis.values if not value.changes).key
    values, rounds = list(axis.values), []
    for place, rung in enumerate(plan):
        used = list(seeds)[: rung.seeds]
        rounds.append(_round(axis, rung, values, own, before, lines, used))
        keys = [(key_of(value, before), share_text(rung.share), seed) for value in values for seed in used]
        if any(key not in lines for key in keys):
            return rounds, values, False
        if place + 1 < len(plan):
            accuracies = {result.value.key: result.accuracy[0] for result in rounds[-1].results}
            kept = survivors([value.key for value in values], accuracies, own, plan[place + 1].values)
            values = [value for value in values if value.key in kept]
    return rounds, values, True


def _round(
    axis: Axis,
    rung: Rung,
    values: Sequence[Value],
    own: str,
    before: Mapping[str, object],
    lines: Lines,
    seeds: Sequence[int],
) -> Round:
    def runs(value: Value) -> dict[int, Json]:
        places = {seed: (key_of(value, before), share_text(rung.share), seed) for seed in seeds}
        done = {seed: lines[place] for seed, place in places.items() if place in lines}
        return {seed: line for seed, line in done.items() if "diverged" not in line}

    by_value = {value.key: runs(value) for value in values}
    level = 1 - (1 - LEVEL) / max(1, len(values) - 1)  # Bonferroni: the best is chosen among all
    whole = [runs for runs in by_value.values() if len(runs) == len(seeds)]
    means = np.array([[float(unpacked(runs[seed]["correct"]).mean()) for seed in seeds] for runs in whole])
    within = spread_within(means) if whole else None
    between = spread_of_differences(means) if whole else None
    results, diverged = [], []
    for value in values:
        mine, base = by_value[value.key], by_value[own]
        label = label_of(axis, value)
        if not mine:
            if all((key_of(value, before), share_text(rung.share), seed) in lines for seed in seeds):
                diverged.append(label)
            continue
        common = [seed for seed in mine if seed in base]
        difference = None
        if value.key != own and common:
            difference = repeated_difference(_stack(mine, common), _stack(base, common), level, between)
        losses, seconds = ([float(line[name]) for line in mine.values()] for name in ("loss", "seconds"))
        accuracy = repeated(_stack(mine, list(mine)), spread=within)
        mean_loss, mean_seconds = float(np.mean(losses)), float(np.mean(seconds))
        results.append(Result(value, label, accuracy, difference, len(mine), mean_loss, mean_seconds))
    return Round(rung, results, diverged)


def _stack(runs: Mapping[int, Json], seeds: Sequence[int]) -> Bool[np.ndarray, "r n"]:
    return np.stack([unpacked(runs[seed]["correct"]) for seed in seeds])


def label_of(axis: Axis, value: Value) -> str:
    """75 % for a ratio, otherwise as written."""
    return f"{100 * value.x:g} %" if axis.name == "mask.ratio" and value.x is not None else value.label


def to_json(outcome: Outcome) -> Json:
    """Plain values; accuracies and differences as shares."""
    rounds = []
    for number in outcome.rounds:
        values = [
            {"value": result.label, "changes": dict(result.value.changes), "accuracy": list(result.accuracy),
             "difference": None if result.difference is None else list(result.difference), "seeds": result.seeds,
             "loss": result.loss, "seconds": result.seconds}
            for result in number.results
        ]  # fmt: skip
        rounds.append({"share": number.rung.share, "values": values, "diverged": number.diverged})
    winner = outcome.winner
    chosen = None if winner is None else {"value": winner.label, "changes": dict(winner.value.changes)}
    content = {"axis": outcome.axis.name, "finding": outcome.sentence, "finished": outcome.finished}
    return content | {"better": chosen, "rounds": rounds}
