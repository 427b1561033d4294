"""A comparison's results: one self-contained page, its tables as Markdown, one JSON file, one figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from unmask.files import Json, write_atomically, write_json
from unmask.report.page import code, folded, image, note, section, table, verdict, write_page
from unmask.report.palette import save
from unmask.report.words import percent
from unmask.runs.config import Config
from unmask.studies.comparison.figures import draw
from unmask.studies.comparison.findings import Findings, words
from unmask.studies.comparison.settings import RANDOM, Contestant
from unmask.training.log import clock

RESULT, TABLES, PAGE, FIGURE = "comparison.json", "comparison.md", "comparison.html", "comparison.png"
INTERVALS = (  # {word}: what one sample is called
    "Intervals are 95 %. Those of accuracies add the chance of the test {word}s (Wilson) and, with several seeds or"
    " draws, that of these (Student), whose spread is taken as the same for all methods; those of differences are"
    " paired over the same test {word}s, seeds and draws (Newcombe, Student). With one seed the chance of a training is"
    " in no interval: a second run of the same method may differ. Where the best is named, its intervals are wider, by"
    " Bonferroni, for it was chosen among all."
)
CHOSEN = (
    "No method was tuned: each has the settings that pretrain chooses for it, listed below. All have the same encoder,"
    " see the same {word}s in the same order, and are judged on the same splits."
)


@dataclass(frozen=True)
class Facts:
    """Facts about a study, besides its results."""

    where: str  # the data
    command: str
    pairs: list[tuple[str, str]]  # names and values
    planned: int  # trainings and fits in all
    notes: list[str]
    word: str  # what a sample is called


def write_results(out: Path, findings: Findings, done: int, seconds: float, facts: Facts) -> Json:
    """Writes what is known so far; returns the contents of the JSON file."""
    progress = f"{done:,} of {facts.planned:,} trainings and fits, {clock(seconds)} of computing"
    content = {"on": facts.where, "command": facts.command, "setting": dict(facts.pairs), "done": done}
    content |= {"planned": facts.planned, "seconds": round(seconds, 1), "notes": notes(findings, facts)}
    content |= findings.to_json()
    figure = draw(findings, f"{facts.where} · {done:,} of {facts.planned:,} done")
    if figure is not None:
        save(figure, out / FIGURE)
    write_json(out / RESULT, content)
    markdown = _markdown(findings, facts, progress)
    write_atomically(out / TABLES, lambda part: part.write_text(markdown, encoding="utf-8"))
    _write_page(out, findings, facts, progress)
    return content


def notes(findings: Findings, facts: Facts) -> list[str]:
    chosen, intervals = (text.format(word=facts.word) for text in (CHOSEN, INTERVALS))
    texts = [chosen, *facts.notes, intervals]
    if findings.diverged:
        texts.append(f"Diverged and left out: {'; '.join(findings.diverged)}.")
    return texts


def accuracies(findings: Findings) -> list[list[str]]:
    """One line for each contestant, one column for each judge; the heading first."""
    lines = [["", *(f"{words(judge)}, %" for judge in findings.judges)]]
    for contestant in findings.contestants:
        own = [findings.accuracy(contestant.name, judge) for judge in findings.judges]
        if any(own):
            cells = ["" if a is None else percent(a.mean, a.low, a.high, unit="") for a in own]
            lines.append([contestant.name, *cells])
    return lines if len(lines) > 1 else []


def differences(findings: Findings, to: str) -> list[list[str]]:
    """Points above another contestant, by the same judges; the heading first."""
    lines = [[f"points above {to}", *map(words, findings.judges)]]
    for contestant in findings.contestants:
        gaps = [findings.difference(contestant.name, to, judge) for judge in findings.judges]
        if any(gaps):
            lines.append([contestant.name, *("" if gap is None else gap.signed for gap in gaps)])
    return lines if len(lines) > 1 else []


def costs(findings: Findings, word: str) -> list[list[str]]:
    """What each training took: planned, and as it was. word: what a sample is called."""
    lines = [["", "steps", f"{word}s", f"MFLOP/{word}", "TFLOP", "time", "MB of a step", "loss", "seeds"]]
    for contestant in (contestant for contestant in findings.contestants if contestant.trained and contestant.config):
        assert contestant.config is not None
        records = [line for (name, _), line in findings.trainings.items() if name == contestant.name]
        mean = {key: fmean(line[key] for line in records) for key in ("seconds", "loss") if records}
        cells = [
            contestant.name,
            f"{contestant.config.training.steps:,}",
            f"{contestant.images:,}",
            f"{contestant.flops / 1e6:,.1f}",
        ]
        cells += [f"{contestant.total_flops / 1e12:,.3g}"]
        time_and_loss = (clock(mean["seconds"]), f"{mean['loss']:.4f}") if mean else ("", "")
        lines.append([*cells, time_and_loss[0], f"{contestant.memory_mb:,}", time_and_loss[1], str(len(records))])
    return lines


def settings(contestants: Sequence[Contestant]) -> list[list[str]]:
    """What each method chose, each with its reason: name, setting, value, reason."""
    lines = [["method", "setting", "value", "why"]]
    for contestant in contestants:
        if contestant.config is None or not contestant.trained:
            continue
        values, reasons = _values(contestant.config), contestant.config.record.reasons
        lines += [[contestant.name, name, value, reasons.get(name, "")] for name, value in values.items()]
    return lines


def _values(config: Config) -> dict[str, str]:
    training, method = config.training, config.method
    values = {"batch": f"{training.batch:,}", "lr": f"{training.lr:.3g}", "weight_decay": f"{training.weight_decay:g}"}
    values |= {"warmup": f"{training.warmup_epochs:g}", "clip": f"{training.clip or 'off'}"}
    values |= {"betas": f"{training.betas[0]:g}, {training.betas[1]:g}", "crop": f"{config.data.crop:g}"}
    values |= {"views": ", ".join(config.data.views)}
    parts = {"mask": method.mask, "target": method.target, "decoder": method.decoder}
    return values | {name: text for name, text in parts.items() if text}


def _write_page(out: Path, findings: Findings, facts: Facts, progress: str) -> None:
    methods, chosen = findings.methods, settings(findings.contestants)
    write_page(
        out / PAGE,
        f"Comparison on {facts.where}",
        verdict(findings.sentence()),
        note(f"{progress}."),
        image(out / FIGURE, "accuracy against compute"),
        section("Accuracy", table(accuracies(findings), ("", "n"), marked=methods[0])),
        section("Differences", *(table(differences(findings, to), ("", "n")) for to in (methods[0], RANDOM))),
        section("Cost", table(costs(findings, facts.word), ("", "n"))),
        section("Setting", table(facts.pairs, heading=False)),
        section("What each method chose", folded("settings and reasons", table(chosen, ("", "", "", "why")))),
        section("How to read this", *(note(text) for text in notes(findings, facts))),
        section("Command", code(facts.command)),
    )  # fmt: skip


def _markdown(findings: Findings, facts: Facts, progress: str) -> str:
    texts = [f"# Comparison on {facts.where}", findings.sentence(), f"{progress}."]
    texts += [f"![accuracy against compute]({FIGURE})"]
    tables = [("Accuracy", accuracies(findings)), ("Cost", costs(findings, facts.word))]
    tables += [(f"Differences to {to}", differences(findings, to)) for to in (findings.methods[0], RANDOM)]
    for title, lines in tables:
        if lines:
            heading, *rest = lines
            rows = "\n".join(f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *rest))
            texts += [f"## {title}", rows]
    texts += ["## Setting", "\n".join(f"- {name}: {value}" for name, value in facts.pairs)]
    texts += notes(findings, facts) + ["```\n" + facts.command + "\n```"]
    return "\n\n".join(texts) + "\n"
