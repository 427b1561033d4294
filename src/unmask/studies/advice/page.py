"""advice.html: the answer as one self-contained page, with a few of the images and every ground."""

import base64
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from markupsafe import Markup

from unmask.report.page import code, facts, folded, gallery, note, paragraph, section, table, verdict, write_page
from unmask.report.run_page import sheet_table
from unmask.report.words import percent
from unmask.studies.advice.answer import TITLES, Advice, cost_in_words
from unmask.studies.advice.look import Look
from unmask.studies.advice.other_kinds import KindAdvice
from unmask.studies.advice.table import REMARK, Statement
from unmask.studies.advice.trial import Trial
from unmask.studies.comparison.findings import words
from unmask.tasks.retrieval.likeness import thumbnail
from unmask.training.log import duration

SHOWN, SIDE = 8, 132  # images on the page, pixels of their longer side
HEADING, SETTING = ("", "advice", "ground", "source", "strength"), ("setting", "value", "why")


def write_advice_page(path: Path, advice: Advice, look: Look, *more: Markup) -> Path:
    """Writes the page and returns its path. more: sections on what was tried."""
    decisions = [s for s in advice.statements if s.topic != REMARK]
    settings = [(setting.topic, setting.choice, setting.ground) for setting in advice.settings]
    numbers = [
        ("images to learn from", f"{advice.facts.images:,}"),
        ("pixels, median shorter side", f"{advice.facts.side:,}"),
        ("channels", str(advice.facts.channels)),
        ("classes", f"{advice.facts.classes:,}"),
        *((f"for {what}", duration(cost.seconds)) for what, cost in advice.costs),
    ]
    return write_page(
        path,
        f"Advice for {advice.where}",
        verdict(" ".join(s.text for s in decisions if s.topic in ("start", "weights"))),
        facts(numbers),
        section("The images", gallery(_cells(look)), table(advice.looked_at, heading=False)),
        section("Advice", _statements(decisions), note(STRENGTHS)),
        *more,
        section("Settings of pretraining", table([SETTING, *settings], ("", "", "why"))),
        section("Notes", _statements([s for s in advice.statements if s.topic == REMARK])),
        section("Cost", *(paragraph(f"{what}: {cost_in_words(cost)}.") for what, cost in advice.costs)),
        section("Not known", *map(paragraph, advice.not_known)),
        section("Run", *(part for c in advice.commands for part in (note(c.purpose), code(c.line)))),
        folded("Data sheet of the images looked at", sheet_table(asdict(look.sheet))),
    )


def write_kind_page(path: Path, advice: KindAdvice) -> Path:
    """The page of what are no images; returns its path."""
    return write_page(
        path,
        f"Advice for {advice.where}",
        section("Looked at", *map(paragraph, advice.looked_at)),
        section("Enough?", *map(paragraph, advice.enough)),
        section("Not known", *map(paragraph, advice.not_known)),
        section("Run", *(part for c in advice.commands for part in (note(c.purpose), code(c.line)))),
    )


def trial_section(trial: Trial) -> Markup:
    """What the trial found, with intervals; its own page lies beside."""
    accuracies = [a for a in trial.results["accuracies"] if a["share"] == 1.0]
    names = list(dict.fromkeys(a["contestant"] for a in accuracies))
    judges = list(dict.fromkeys(a["judge"] for a in accuracies))
    cells = {(a["contestant"], a["judge"]): percent(a["mean"], a["low"], a["high"], unit="") for a in accuracies}
    lines = [[name, *(cells.get((name, judge), "") for judge in judges)] for name in names]
    minutes = f"{60 * trial.design.hours:.1f} minutes of training for each method, one seed; 95 % intervals."
    return section(
        "Tried here",
        verdict(trial.results["sentence"]),
        note(f"{minutes} All of it: {trial.path.name}/comparison.html."),
        table([["", *(f"{words(judge)}, %" for judge in judges)], *lines], ("", "n")),
    )


STRENGTHS = (
    "strong: large controlled studies agree; fair: one study, or a close case; thin: no study of such a case in our"
    " sources, a judgement. Within a topic the first rule of the table that holds decides (docs/advise.md)."
)


def _statements(statements: Sequence[Statement]) -> Markup:
    rows = [(TITLES[s.topic], s.text, s.ground, s.source, s.weight) for s in statements]
    return table([HEADING, *rows], ("", "", "why", "why", "")) if rows else Markup("")


def _cells(look: Look) -> list[tuple[str, Sequence[str], str]]:
    """A few images, spread over those looked at."""
    count = len(look.names)
    rows = sorted({i * count // SHOWN for i in range(SHOWN)})
    images = list(look.pixels.values())
    cells = []
    for row in rows:
        jpeg = base64.b64encode(thumbnail(images[row], SIDE)).decode()
        words = [word for word in (look.names[row], look.labels[row]) if word]
        cells.append((f"data:image/jpeg;base64,{jpeg}", words, ""))
    return cells
