"""Advice on what are no images: what lies there, whether it is enough to judge with, and the commands to run next.

The table of published results is of images, so no weights, methods or lengths are advised here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from unmask.data.datasets.splits import TEST
from unmask.data.modality import Modality
from unmask.data.sheet import Sheet
from unmask.errors import many
from unmask.evaluation.intervals import wilson
from unmask.files import Json
from unmask.studies.advice.answer import Command
from unmask.studies.advice.commands import Places, pretraining_words
from unmask.studies.advice.facts import LabelCounts
from unmask.studies.tuning.judging import PARTS

METHODS = ("mae", "simmim")  # that need no views, and so train on every kind of data
HOURS = "0.5"  # of a comparison and of a tuning, as a first try
WIDE = 0.1  # half an interval of accuracy above which most differences go unseen


@dataclass(frozen=True)
class KindAdvice:
    """What `unmask.advise` returns for what are no images."""

    where: str
    word: str  # what a sample is called
    modality: str  # text of the kind
    looked_at: list[str]  # lines of the data sheet, and the labels
    enough: list[str]  # sentences on whether there is enough data, and for what
    not_known: list[str]  # what cannot be said, and why
    commands: list[Command]  # in the order in which to run them

    def to_json(self) -> Json:
        """Plain values, as advice.json holds them."""
        commands = [{"purpose": c.purpose, "line": c.line, "words": list(c.words)} for c in self.commands]
        return asdict(self) | {"commands": commands}

    def text(self) -> str:
        """For a terminal."""
        lines = [f"Advice for {self.where}", "", "Looked at", *(f"  {line}" for line in self.looked_at)]
        lines += ["", "Enough?", *(f"  - {text}" for text in self.enough)]
        lines += ["", "Not known", *(f"  - {text}" for text in self.not_known), "", "Run"]
        for command in self.commands:
            lines += [f"  # {command.purpose}", f"  {command.line}"]
        return "\n".join(lines)


def advise_on(sheet: Sheet, labels: LabelCounts, modality: Modality, places: Places, named: str | None) -> KindAdvice:
    """sheet: of a sample, whose `count` is of all; labels: of the labelled data; named: the kind
    of data as the person named it, which the commands then name too."""
    word = modality.word
    return KindAdvice(
        where=sheet.where,
        word=word,
        modality=modality.text,
        looked_at=[*sheet.text().splitlines(), f"labels    {labels.sentence(word)}"],
        enough=_enough(sheet.count, labels, word),
        not_known=_not_known(modality, labels),
        commands=_commands(labels, modality, places, named),
    )


def _enough(count: int, labels: LabelCounts, word: str) -> list[str]:
    told = [f"{many(count, word)} to pretrain on. Whether that is enough shows against random weights, below."]
    if len(labels.counts) < 2:
        return [*told, f"No classes, so nothing can be judged: judging takes {word}s of two classes or more."]
    total = sum(labels.counts.values())
    tested, how = labels.tested, "in splits of their own"
    if not tested:
        tested, how = round(TEST * total), f"{100 * TEST:.0f} % of those with labels, drawn by the seed"
    if tested:
        low, high = wilson(round(tested / 2), tested)
        half = (high - low) / 2
        told.append(
            f"{many(tested, word)} to test on ({how}): an accuracy of 50 % is known to within {100 * half:.0f} points"
            f"{', so only large differences will show' if half > WIDE else ''}."
        )
    else:
        told.append(f"No {word} is left to test on: label more.")
    if (least := _least(labels)) < PARTS:
        told.append(
            f"The smallest class has {many(least, word)} to learn from: too few for tune, which needs {PARTS} or"
            " more of each class."
        )
    return told


def _least(labels: LabelCounts) -> int:
    """Samples of the smallest class to learn from, when those to test on are taken out."""
    return labels.least if labels.tested else int((1 - TEST) * labels.least)


def _not_known(modality: Modality, labels: LabelCounts) -> list[str]:
    word = modality.word
    told = [
        f"Which weights or method suit these {word}s: the published results that advise knows are of images. compare"
        " tries methods here.",
        f"How long to pretrain: pretrain chooses a length for {word}s and says why; --epochs sets another.",
        f"What they show: no kind is guessed for {word}s, as it is for images.",
    ]
    if len(labels.counts) < 2:
        told.append(
            f"What pretraining is worth: no {word} has a class. Put the {word}s of each class in a folder of its own,"
            " or add a labels.csv with the columns path and label; then evaluate, labels, compare and tune can judge."
        )
    if modality.labelled:
        told.append(
            f"Whether there are maps with a class for every {modality.labelled}: unmask transfer RUN --to segment --on"
            " LABELLED reads them."
        )
    return told


def _commands(labels: LabelCounts, modality: Modality, places: Places, named: str | None) -> list[Command]:
    """What to run, in order; judging only where there are classes."""
    word, run = modality.word, str(places.free("run"))
    kind = ("--modality", named) if named else ()
    device = () if places.device == "auto" else ("--device", places.device)
    pretraining = pretraining_words(places, {"out": run})
    commands = [
        Command("pretrain; the same command goes on where it stopped", ("unmask", *pretraining, *kind, *device)),
        Command(f"look at {word}s: as they are, what was hidden, and what was rebuilt", _show(places, run, device)),
    ]
    if len(labels.counts) < 2:
        features = ("unmask", "embed", run, *places.data, "--out", str(places.free("features.npz")), *device)
        return [*commands, Command(f"features of all {word}s", features)]
    on = ("--on", *places.on)
    judged = ("unmask", "evaluate", run, *on, *device)
    commands.append(Command("judge it: kNN and linear classifiers, beside random weights", judged))
    if labels.several:
        return commands
    worth = ("unmask", "labels", run, *on, *device)
    commands.append(Command("how many labels pretraining saves", worth))
    methods = ("--methods", *METHODS, "--hours", HOURS, "--out", str(places.free("comparison")))
    compared = ("unmask", "compare", *places.data, *on, *methods, *kind, *device)
    commands.append(Command(f"which method suits these {word}s", compared))
    if _least(labels) >= PARTS:
        axes = ("--axes", "mask.ratio=0.6,0.75,0.9", "--hours", HOURS, "--out", str(places.free("tuning")))
        tuned = ("unmask", "tune", *places.data, *on, *axes, *kind, *device)
        commands.append(Command(f"which share to hide of {word}s", tuned))
    return commands


def _show(places: Places, run: str, device: Sequence[str]) -> tuple[str, ...]:
    return ("unmask", "show", run, *places.data, *device)
