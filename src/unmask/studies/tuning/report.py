"""What tuning found, as one page, its tables as Markdown, one JSON file, one image per axis."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.files import Json, parse_json, write_atomically, write_json
from unmask.report.page import Lines, code, image, note, paragraph, section, table, verdict, write_page
from unmask.report.palette import save
from unmask.report.words import percent
from unmask.studies.ablation.axes import Changes
from unmask.studies.tuning.figures import draw_axis
from unmask.studies.tuning.findings import Outcome, to_json
from unmask.training.log import clock

RESULT, TABLES, PAGE = "tuning.json", "tuning.md", "tuning.html"
NOTES = (  # {word}: what one sample is called
    "Accuracies are on validation {word}s: every labelled {word} that is not for testing, each judged once by a"
    " classifier on frozen features that has not seen it. The test split was not looked at: unmask evaluate can judge"
    " the choice there.",
    "Intervals are 95 %, over {word}s (Wilson; Newcombe for differences) and, with several seeds, over these (Student),"
    " whose spread is taken as the same for all values of a round."
    " Differences are paired over the same {word}s and seeds, and their intervals are wider by Bonferroni, for the best"
    " was chosen among all.",
    "All runs of one length have the same counted FLOPs. The axes were tuned one after the other, each from the"
    " settings that were better beyond noise before; how two of them act together was not looked at. What suits short"
    " runs need not suit long ones.",
)


@dataclass(frozen=True)
class Facts:
    """Facts about a study, besides its results."""

    where: str  # the data
    command: str
    pairs: list[tuple[str, str]]
    data: tuple[str, ...]  # the samples, for the command to run next
    given: Changes  # options of the study that this command shall have too
    word: str  # what a sample is called
    kind: str  # of data, as modalities are named

    @property
    def notes(self) -> list[str]:
        """How to read the results."""
        return [text.format(word=self.word) for text in NOTES]


def write_results(out: Path, outcomes: Sequence[Outcome], chosen: Changes, seconds: float, facts: Facts) -> Json:
    """Writes what is known so far; returns the contents of the JSON file. seconds: of all runs."""
    done = [outcome for outcome in outcomes if outcome.rounds and outcome.rounds[0].results]
    for outcome in done:
        save(draw_axis(outcome, facts.where, facts.word), image_of(out, outcome))
    command = next_command(facts.data, {**facts.given, **chosen})
    content = {"on": facts.where, "command": facts.command, "setting": dict(facts.pairs), "seconds": round(seconds, 1)}
    content |= {"axes": [to_json(outcome) for outcome in done], "chosen": dict(chosen), "next": command}
    elsewhere = [row for outcome in done for row in literature(outcome, facts.kind)]
    content |= {"notes": facts.notes, "literature": elsewhere}
    write_json(out / RESULT, content)
    markdown = _markdown(done, command, seconds, facts)
    write_atomically(out / TABLES, lambda part: part.write_text(markdown, encoding="utf-8"))
    write_page(
        out / PAGE,
        f"Settings for {facts.where}",
        verdict(" ".join(outcome.sentence for outcome in done)),
        paragraph("With these settings:"),
        code(command),
        note(f"{clock(seconds)} of computing."),
        *(
            section(
                outcome.axis.title,
                paragraph(outcome.sentence),
                image(image_of(out, outcome), f"accuracy by {outcome.axis.title}"),
                table(lines_of(outcome), ("", "", "n")),
                *(note(f"Elsewhere: {row['text']}. {row['source']}.") for row in literature(outcome, facts.kind)),
            )
            for outcome in done
        ),
        section("Setting", table(facts.pairs, heading=False)),
        section("How to read this", *map(note, facts.notes)),
        section("Command", code(facts.command)),
    )
    return content


def image_of(out: Path, outcome: Outcome) -> Path:
    return out / f"{outcome.axis.name}.png"


def literature(outcome: Outcome, kind: str) -> list[Mapping[str, str]]:
    """What others found along this axis on this kind of data, with their sources."""
    rows = parse_json(Path(__file__).with_name("literature.json").read_text(encoding="utf-8"))
    return [row for row in rows if row["axis"] == outcome.axis.name and kind in row["kinds"]]


def next_command(data: Sequence[str], options: Changes) -> str:
    """What to run: with the settings that were better, and those that the study was given."""
    words = ["unmask", "pretrain", *data]
    for name, value in options.items():
        text = [str(part) for part in value] if isinstance(value, tuple | list) else [str(value)]
        words += [f"--{name.replace('_', '-')}", *text]
    return shlex.join(words)


def lines_of(outcome: Outcome) -> Lines:
    """One line for every value of every round; the heading first."""
    lines = [["", "run", "accuracy, %", "to the baseline, points", "seeds", "loss", "seconds"]]
    for done in outcome.rounds:
        share = "whole" if done.rung.share == 1 else f"{done.rung.share:.0%}"
        for result in done.results:
            gap = "" if result.difference is None else _points(result.difference)
            mark = " (baseline)" if result.value.key == outcome.baseline else ""
            cells = [result.label + mark, share, percent(*result.accuracy, unit=""), gap, str(result.seeds)]
            lines.append([*cells, f"{result.loss:.4f}", f"{result.seconds:,.1f}"])
        lines += [[label, share, "diverged", "", "", "", ""] for label in done.diverged]
    return lines


def _points(difference: tuple[float, float, float]) -> str:
    mean, low, high = (100 * part for part in difference)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _markdown(outcomes: Sequence[Outcome], command: str, seconds: float, facts: Facts) -> str:
    texts = [f"# Settings for {facts.where}", *(outcome.sentence for outcome in outcomes)]
    texts += [f"```\n{command}\n```", f"{clock(seconds)} of computing."]
    for outcome in outcomes:
        heading, *rest = lines_of(outcome)
        rows = "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *rest))
        texts += [f"## {outcome.axis.title}", f"![{outcome.axis.title}]({image_of(Path(), outcome)})", rows]
        texts += [f"- Elsewhere: {row['text']}. {row['source']}." for row in literature(outcome, facts.kind)]
    texts += ["## Setting", "\n".join(f"- {name}: {value}" for name, value in facts.pairs), *facts.notes]
    return "\n\n".join([*texts, f"```\n{facts.command}\n```"]) + "\n"
