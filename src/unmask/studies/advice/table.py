"""Reads the table of rules (rules.ini) and decides by it: the first rule of a topic whose conditions hold."""

import configparser
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

from unmask.studies.advice.facts import UNKNOWN, Facts

TABLE = Path(__file__).with_name("rules.ini")
REMARK, ALWAYS = "remark", "always"
STRENGTHS = ("strong", "fair", "thin")
GUESSED = {  # kinds that are guessed -> in a word or two
    "photographs": "photographs",
    "drawings": "drawings",
    "scans": "X-rays or scans",
    "unoriented": "microscopy or views from above",
}
NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
KEYS = {"if", "say", "ground", "source", "strength"}  # of a rule; besides, "choose" of all but remarks


@dataclass(frozen=True)
class Condition:
    fact: str  # a field of Facts
    sign: str  # of NUMBERS, or = or !=
    values: tuple[str, ...]

    def holds(self, facts: Facts) -> bool:
        value: str | float = getattr(facts, self.fact)
        if value in (UNKNOWN, "unknown") and "unknown" not in self.values:
            return False
        if self.sign in NUMBERS:
            return NUMBERS[self.sign](float(value), float(self.values[0]))
        return (str(value) in self.values) == (self.sign == "=")


@dataclass(frozen=True)
class Rule:
    topic: str
    name: str
    conditions: tuple[Condition, ...]
    choose: str  # "" for remarks
    say: str
    ground: str
    source: str
    strength: str  # of STRENGTHS

    def holds(self, facts: Facts) -> bool:
        return all(condition.holds(facts) for condition in self.conditions)

    def premise(self, facts: Facts) -> str:
        """What it takes for granted of images whose kind was guessed from their pixels; "" for nothing."""
        asks = any(condition.fact == "kind" for condition in self.conditions)
        return GUESSED.get(facts.kind, "") if asks and facts.guessed else ""


@dataclass(frozen=True)
class Statement:
    """A sentence of advice with its ground."""

    topic: str
    choice: str
    text: str
    ground: str
    source: str
    strength: str  # of STRENGTHS
    rule: str = ""  # topic.name in the table; "" for what a plan or a trial says
    premise: str = ""  # what it takes for granted

    @property
    def weight(self) -> str:
        """Strength and premise in words."""
        return f"{self.strength}, if {self.premise}" if self.premise else self.strength


@cache
def read_rules(path: Path = TABLE) -> tuple[Rule, ...]:
    """The rules in order. Raises ValueError for a table with a mistake, naming the rule."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.read_string(path.read_text(encoding="utf-8"))
    return tuple(_rule(section, dict(parser[section])) for section in parser.sections())


def decide(facts: Facts, measured: Sequence[Statement] = ()) -> tuple[Facts, list[Statement]]:
    """One statement per topic in the table's order, then every remark; and the facts with the decisions.

    measured: statements that overrule the table's on their topics.
    """
    rules, fixed = read_rules(), {statement.topic: statement for statement in measured}
    names, statements = {field.name for field in fields(Facts)}, []
    for topic in dict.fromkeys(rule.topic for rule in rules if rule.topic != REMARK):
        rule = next((rule for rule in rules if rule.topic == topic and rule.holds(facts)), None)
        choice = fixed[topic].choice if topic in fixed else rule.choose if rule else "unknown"
        facts = replace(facts, **{topic: choice}) if topic in names else facts
        if topic in fixed:
            statements.append(fixed[topic])
        elif rule is not None:
            statements.append(_state(rule, facts))
    return facts, statements + [_state(rule, facts) for rule in rules if rule.topic == REMARK and rule.holds(facts)]


def _state(rule: Rule, facts: Facts) -> Statement:
    text, ground = (part.format(**facts.words) for part in (rule.say, rule.ground))
    name = f"{rule.topic}.{rule.name}"
    return Statement(rule.topic, rule.choose, text, ground, rule.source, rule.strength, name, rule.premise(facts))


def _rule(section: str, entries: dict[str, str]) -> Rule:
    topic, _, name = section.partition(".")
    wanted = KEYS if topic == REMARK else KEYS | {"choose"}
    if entries.keys() != wanted or not name or entries["strength"] not in STRENGTHS:
        raise ValueError(f"rule [{section}] needs {', '.join(sorted(wanted))}; strength is of {', '.join(STRENGTHS)}")
    texts = {key: " ".join(entries[key].split()) for key in ("say", "ground", "source", "strength")}
    conditions = [] if entries["if"] == ALWAYS else [_condition(section, part) for part in entries["if"].split(",")]
    return Rule(topic, name, tuple(conditions), entries.get("choose", ""), **texts)


def _condition(section: str, text: str) -> Condition:
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|!=|<|>|=)\s*(\S.*?)\s*", text, re.S)
    if match is None or match[1] not in {field.name for field in fields(Facts)}:
        raise ValueError(f"rule [{section}]: {text.strip()!r} is no condition on a field of Facts")
    values = tuple(match[3].split())
    if match[2] in NUMBERS:
        float(values[0])
    return Condition(match[1], match[2], values)
