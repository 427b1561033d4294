"""What a comparison found: accuracies with their intervals, paired differences, and what can be said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from unmask.evaluation.intervals import (
    LEVEL,
    Spread,
    repeated,
    repeated_difference,
    spread_of_differences,
    spread_within,
)
from unmask.files import Json
from unmask.report.words import percent
from unmask.studies.comparison.judging import unpacked
from unmask.studies.comparison.pieces import FINETUNE, FROZEN, TRAIN
from unmask.studies.comparison.settings import METHOD, PIXELS, RANDOM, Contestant
from unmask.studies.engine import Key

NAMES = {"knn": "kNN", "linear": "linear probe", "attentive": "attentive probe"}
Rows = Mapping[tuple[int, int], Bool[np.ndarray, "n"]]  # (seed, draw) -> test images that were right


@dataclass(frozen=True)
class Accuracy:
    """One contestant by one judge, at one point of its training; shares, 0 to 1."""

    contestant: str
    judge: str
    share: float  # of the training
    mean: float
    low: float
    high: float
    values: list[float]  # of each seed and draw, in their order


@dataclass(frozen=True)
class Difference:
    """Accuracy of the first minus that of the second, on the same test images, seeds and draws."""

    judge: str
    first: str
    second: str
    mean: float
    low: float
    high: float
    pairs: int  # seeds and draws that both have

    @property
    def sign(self) -> int:
        """0 where the interval holds zero."""
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    @property
    def text(self) -> str:
        """Of one whose interval does not hold zero, without its sign: "4.1 points (1.2 to 7.0)"."""
        return f"{100 * abs(self.mean):.1f} points ({100 * min(abs(self.low), abs(self.high)):.1f} to" + (
            f" {100 * max(abs(self.low), abs(self.high)):.1f})"
        )

    @property
    def signed(self) -> str:
        """For tables: "+4.1 (+1.2 to +7.0)"."""
        return f"{100 * self.mean:+.1f} ({100 * self.low:+.1f} to {100 * self.high:+.1f})"


@dataclass
class Findings:
    """Everything that is recorded so far, in order of the contestants."""

    contestants: Sequence[Contestant]
    judges: list[str] = field(default_factory=list)
    rows: dict[tuple[str, str, float], dict[tuple[int, int], Bool[np.ndarray, "n"]]] = field(default_factory=dict)
    trainings: dict[tuple[str, int], Json] = field(default_factory=dict)  # (method, seed) -> its record
    diverged: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, contestants: Sequence[Contestant], lines: Mapping[Key, Json]) -> "Findings":
        findings = cls(contestants)
        names, judges = [contestant.name for contestant in contestants], set()
        for (what, name, seed, size, draw), line in sorted(lines.items(), key=lambda pair: str(pair[0])):
            if name not in names:
                continue
            if "diverged" in line:
                findings.diverged.append(f"{name}, seed {seed}")
            elif what == TRAIN:
                findings.trainings[str(name), int(seed)] = line
            else:
                results = line["results"] if what == FROZEN else [{"judge": f"{FINETUNE}@{size}"} | line]
                for result in results:
                    judges.add(result["judge"])
                    place = (str(name), result["judge"], float(size) if what == FROZEN else 1.0)
                    findings.rows.setdefault(place, {})[int(seed), int(draw)] = unpacked(result["correct"])
        findings.judges = sorted(judges, key=_order)
        return findings

    def accuracy(self, contestant: str, judge: str, share: float = 1.0) -> Accuracy | None:
        rows = self.rows.get((contestant, judge, share))
        if not rows:
            return None
        matrix = np.stack([rows[place] for place in sorted(rows)])
        within = spread_within(self._means(judge, share)) if len(rows) > 1 else None
        interval = repeated(matrix, spread=within)
        return Accuracy(contestant, judge, share, *interval, values=[float(row.mean()) for row in matrix])

    def difference(self, first: str, second: str, judge: str, level: float = LEVEL) -> Difference | None:
        """Over the seeds and draws that both have; what has no seed of its own, such as raw pixels, meets all."""
        mine, theirs = self.rows.get((first, judge, 1.0)), self.rows.get((second, judge, 1.0))
        if not mine or not theirs or first == second:
            return None
        mine, theirs = _spread(mine, theirs, self._seedless(first)), _spread(theirs, mine, self._seedless(second))
        both = sorted(mine.keys() & theirs.keys())
        if not both:
            return None
        a, b = np.stack([mine[place] for place in both]), np.stack([theirs[place] for place in both])
        spread = self._spread_of(first, second, judge) if len(both) > 1 else None
        return Difference(judge, first, second, *repeated_difference(a, b, level, spread), pairs=len(both))

    def _spread_of(self, first: str, second: str, judge: str) -> Spread | None:
        """Over seeds and draws, of the difference of two contestants; of the one that has seeds, where only one has."""
        seedless = self._seedless(first), self._seedless(second)
        if all(seedless):
            return None
        means = self._means(judge, 1.0)
        return spread_within(means) if any(seedless) else spread_of_differences(means)

    def _means(self, judge: str, share: float) -> Float[np.ndarray, "v r"]:
        """Accuracies of all contestants that have seeds, by those seeds and draws that all of them have."""
        names = [contestant.name for contestant in self.contestants if not self._seedless(contestant.name)]
        rows = [self.rows[name, judge, share] for name in names if (name, judge, share) in self.rows]
        shared = sorted(set.intersection(*map(set, rows))) if rows else []
        return np.array([[mine[place].mean() for place in shared] for mine in rows]).reshape(len(rows), len(shared))

    def _seedless(self, name: str) -> bool:
        return next(contestant.kind for contestant in self.contestants if contestant.name == name) not in (
            METHOD,
            RANDOM,
        )

    @property
    def methods(self) -> list[str]:
        return [contestant.name for contestant in self.contestants if contestant.trained]

    def ranked(self, judge: str) -> list[Accuracy]:
        """Methods that this judge has seen, the best first: by the seeds and draws that all of them have, if any."""
        rows = {name: self.rows[name, judge, 1.0] for name in self.methods if (name, judge, 1.0) in self.rows}
        shared = set.intersection(*map(set, rows.values())) if rows else set()
        means = {
            name: np.mean([row.mean() for place, row in mine.items() if place in shared or not shared])
            for name, mine in rows.items()
        }
        accuracies = [self.accuracy(name, judge) for name in sorted(means, key=lambda name: -means[name])]
        return [accuracy for accuracy in accuracies if accuracy is not None]

    def leading(self, judge: str) -> str:
        """Who is ahead by this judge, of whom, and of whom that cannot be said, in a sentence."""
        ranked = self.ranked(judge)
        if not ranked:
            return ""
        best, others = ranked[0], ranked[1:]
        interval = f"{percent(best.mean)}, {100 * best.low:.1f} to {100 * best.high:.1f}"
        start = f"by {words(judge)}, {best.contestant} ({interval})"
        if not others:
            return f"{start} is the only one"
        level = 1 - (1 - LEVEL) / len(others)  # the leader was chosen among all of them: Bonferroni
        compared = [(other, self.difference(best.contestant, other.contestant, judge, level)) for other in others]
        behind = [f"{other.contestant} by {gap.text}" for other, gap in compared if gap and gap.sign > 0]
        level_with = [other.contestant for other, gap in compared if gap and gap.sign <= 0]
        parts = [f"is ahead of {_listed(behind)}"] if behind else []
        if level_with:
            parts.append(f"cannot be told apart from {_listed(level_with)}")
        if waiting := [other.contestant for other, gap in compared if gap is None]:
            parts.append(f"has no seed in common with {_listed(waiting)} yet")
        return f"{start} {' but '.join(parts)}"

    def above_random(self, name: str) -> list[str]:
        """The judges by which a method is above the same encoder at random initialisation."""
        gaps = [(judge, self.difference(name, RANDOM, judge)) for judge in self.judges]
        return [judge for judge, gap in gaps if gap is not None and gap.sign > 0]

    def sentence(self) -> str:
        """What can be said, in a few sentences."""
        said = [text for judge in self.judges if (text := self.leading(judge))]
        judged = [name for name in self.methods if any((name, judge, 1.0) in self.rows for judge in self.judges)]
        learnt_nothing = [name for name in judged if not self.above_random(name)]
        if RANDOM in (place[0] for place in self.rows) and learnt_nothing:
            said.append(f"not above random initialisation by any judge: {_listed(learnt_nothing)}")
        pixels = [
            judge
            for judge in self.judges
            if (ranked := self.ranked(judge))
            and (gap := self.difference(ranked[0].contestant, PIXELS, judge)) is not None
            and gap.sign <= 0
        ]
        if pixels:
            said.append(f"no method is above raw pixels by {_listed([words(judge) for judge in pixels])}")
        return ". ".join(text[0].upper() + text[1:] for text in said) + "." if said else "Nothing is judged yet."

    def to_json(self) -> Json:
        """Plain values: accuracies, and all paired differences."""
        names = [contestant.name for contestant in self.contestants]
        places = sorted(self.rows, key=lambda place: (names.index(place[0]), _order(place[1]), place[2]))
        accuracies = [self.accuracy(*place) for place in places]
        gaps = [
            gap
            for judge in self.judges
            for number, first in enumerate(names)
            for second in names[number + 1 :]
            if (gap := self.difference(first, second, judge)) is not None
        ]
        trainings = [
            {"method": name, "seed": seed} | {key: value for key, value in line.items() if key not in _KEYS}
            for (name, seed), line in self.trainings.items()
        ]
        return {
            "sentence": self.sentence(),
            "accuracies": [vars(accuracy) for accuracy in accuracies if accuracy is not None],
            "differences": [vars(gap) for gap in gaps],
            "trainings": trainings,
            "diverged": self.diverged,
        }


_KEYS = ("piece", "contestant", "size", "draw")


def words(judge: str) -> str:
    """A judge for people: "fine-tuned at 10 labels"."""
    if judge.startswith(f"{FINETUNE}@"):
        return f"fine-tuning at {judge.split('@')[1]} labels per class"
    name, *options = judge.split("(", 1)
    return "(".join([NAMES.get(name, name), *options])


def _order(judge: str) -> tuple[int, float, str]:
    """Frozen judges as the world lists them, then fine-tuning by its labels."""
    if judge.startswith(f"{FINETUNE}@"):
        return len(NAMES) + 1, float(judge.split("@")[1]), judge
    name = judge.split("(")[0]
    return list(NAMES).index(name) if name in NAMES else len(NAMES), 0.0, judge


def _spread(rows: Rows, others: Rows, seedless: bool) -> Rows:
    """What was judged once meets every seed and draw of the others."""
    if seedless and len(rows) == 1:
        (only,) = rows.values()
        return dict.fromkeys(others, only)
    return rows


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
