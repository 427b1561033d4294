"""The answer in words: what was looked at, the advice with its grounds, what it costs, what is not known, commands."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from unmask.choice import Choice
from unmask.data.sheet import Sheet
from unmask.errors import many
from unmask.files import Json
from unmask.planning.plan import text_of
from unmask.runtime.machine import Machine
from unmask.studies.advice.appearance import KINDS
from unmask.studies.advice.cost import Cost
from unmask.studies.advice.facts import Facts, LabelCounts
from unmask.studies.advice.published import MEGABYTES
from unmask.studies.advice.table import REMARK, Statement
from unmask.training.log import duration
from unmask.weights.timm_models import cached, stated

TITLES = {
    "start": "weights or pretraining",
    "weights": "which weights",
    "method": "method",
    "mask": "mask",
    "length": "length",
    "judge": "labels",
    REMARK: "note",
}


@dataclass(frozen=True)
class AtHand:
    """The weights that the advice names, and where they are."""

    name: str  # a path or a timm name; "" where none are advised
    here: bool  # can be opened without a network
    own: bool = False  # named with --against, in place of what the table names

    def sentence(self) -> str:
        """Where they are, their licence, and what fetching takes."""
        if not self.name or self.own:
            return ""
        licence = f"licence {stated(self.name) or 'not stated'}, as timm says"
        if self.here:
            return f"{self.name} is on this disk; {licence}."
        size = f", {MEGABYTES[self.name]} MB" if self.name in MEGABYTES else ""
        return f"{self.name} is not on this disk: the command fetches it from the Hugging Face hub{size}; {licence}."


@dataclass(frozen=True)
class Command:
    purpose: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        """To be pasted into a shell."""
        return shlex.join(self.words)


@dataclass(frozen=True)
class Advice:
    """What `unmask.advise` returns."""

    where: str
    facts: Facts
    labels: LabelCounts
    looked_at: list[tuple[str, str]]  # names and values
    statements: list[Statement]  # decisions in order, then remarks
    settings: list[Statement]  # that the plan of `pretrain` chose
    costs: list[tuple[str, Cost]]  # of what
    not_known: list[str]
    commands: list[Command]  # the last one runs here, as it stands

    def to_json(self) -> Json:
        """Plain values, as advice.json holds them."""
        content = asdict(self)
        content["commands"] = [{"purpose": c.purpose, "line": c.line, "words": list(c.words)} for c in self.commands]
        content["costs"] = [asdict(cost) | {"of": what} for what, cost in self.costs]
        return content

    def text(self) -> str:
        """For a terminal."""
        lines = [f"Advice for {self.where}", "", "Looked at"]
        width = max(len(name) for name, _ in self.looked_at)
        lines += [f"  {name:<{width}}  {value}" for name, value in self.looked_at]
        lines += ["", "Advice, with its grounds (strong, fair or thin)"]
        for number, statement in enumerate([s for s in self.statements if s.topic != REMARK], 1):
            lines += [f"  {number}. [{statement.weight}] {statement.text}", f"     {ground_of(statement)}"]
        if self.settings:
            lines += ["", "Settings of pretraining, as `unmask pretrain` plans them"]
            lines += [f"  {setting.topic} {setting.choice}: {setting.ground}" for setting in self.settings]
        if remarks := [s for s in self.statements if s.topic == REMARK]:
            lines += ["", "Notes"] + [f"  - {remark.text} ({ground_of(remark)})" for remark in remarks]
        lines += ["", "Cost"] + [f"  {what}: {cost_in_words(cost)}" for what, cost in self.costs]
        lines += ["", "Not known"] + [f"  - {text}" for text in self.not_known] if self.not_known else []
        lines += ["", "Run"]
        for command in self.commands:
            lines += [f"  # {command.purpose}", f"  {command.line}"]
        return "\n".join(lines)


def ground_of(statement: Statement) -> str:
    """Ground and source in one line."""
    return f"{statement.ground} [{statement.source}]" if statement.source else statement.ground


def cost_in_words(cost: Cost) -> str:
    memory = f", {cost.memory_mb:,} MB of memory" if cost.memory_mb else ""
    return f"{duration(cost.seconds)}{memory}: {cost.text}"


def weights_at_hand(facts: Facts, against: Sequence[str], judged: Sequence[str] = ()) -> AtHand:
    """The weights to use: the best of those that were judged, else those that a person has, else the table's."""
    if facts.start not in ("published", "continue"):
        return AtHand("", False)
    if own := [*judged, *against]:
        return AtHand(own[0], True, own=True)
    return AtHand(facts.weights, cached(facts.weights) is not None)


def with_weights(statements: Sequence[Statement], weights: AtHand) -> list[Statement]:
    """The statements, with where the weights are, and a person's own in place of the table's."""
    result = []
    for statement in statements:
        if statement.topic == "weights" and weights.own:
            text = f"{weights.name}, which you have; otherwise {statement.choice}."
            statement = replace(statement, choice=weights.name, text=text, strength="thin")
        elif statement.topic == "weights":
            statement = replace(statement, text=f"{statement.text} {weights.sentence()}")
        result.append(statement)
    return result


def settings_of(choices: Mapping[str, Choice]) -> list[Statement]:
    """The plan's choices as statements: what is chosen, and why."""
    return [
        Statement(name.replace("_", " "), text_of(choice.value), "", choice.reason, "", "fair")
        for name, choice in choices.items()
    ]


def looked_at(facts: Facts, labels: LabelCounts, sheet: Sheet, machine: Machine) -> list[tuple[str, str]]:
    """Lines of the answer's first part."""
    sample = "" if facts.looked == facts.images else f"; {facts.looked:,} drawn at random were looked at"
    guess = "guessed from the pixels" if facts.guessed else "as said with --kind"
    low, high = (" x ".join(map(str, size)) for size in (sheet.min_size, sheet.max_size))
    sizes = f"all {low} pixels" if low == high else f"{low} to {high} pixels"
    formats = ", ".join(sheet.formats)
    return [
        ("images", f"{many(facts.images, 'image')} to learn from{sample}; {sizes}; {formats}; channels"
                   f" {facts.channels}; {', '.join(sheet.bits)} bits"),
        ("kind", f"{KINDS[facts.kind]} ({guess}{f': {facts.evidence}' if facts.guessed else ''})"),
        ("labels", labels.sentence()),
        ("machine", f"{machine.name}, {machine.memory / 2**30:,.0f} GB free; precision {machine.precision}"),
    ]  # fmt: skip


def unknowns(facts: Facts, statements: Sequence[Statement], tried: Sequence[str] = ()) -> list[str]:
    """What a reader should not take for settled. tried: what a trial could not tell, where there was one."""
    topics = [TITLES[s.topic] for s in statements if s.strength == "thin" and s.topic != REMARK]
    lines = [f"Thin evidence: {', '.join(topics)}. A judgement; measure it where it matters."] if topics else []
    if not facts.classes and facts.annotated == "none":
        lines.append("What the features are to serve for: no labels were found, and none given with --on.")
    if facts.guessed and facts.kind not in ("unknown", "bands"):
        lines.append(f"Whether these are {KINDS[facts.kind]}: the pixels look like it. --kind settles it.")
    nothing = ["Nothing was trained: every figure but cost is other people's. --minutes 20 tries methods here."]
    return lines + (list(tried) or nothing)
