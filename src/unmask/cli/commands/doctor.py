"""The command `doctor`, step by step: open what there is, run every check, say what was found."""

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Table

from unmask import registry
from unmask.cli.options.doctor import Doctor
from unmask.cli.verb import verb
from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.plain import texts
from unmask.training.log import make_console

__all__ = ["doctor"]


CHECKS = "check"


@dataclass(frozen=True)
class Diagnosis:
    """What was found by check, which checks found nothing, and which had nothing to look at, with the reason."""

    place: str
    kind: str  # "run", "weights" or "data"
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    fine: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """What the command line ends with."""
        return 7 if self.findings else 0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = [{"check": c, "what": f.what, "remedy": f.remedy} for c, many in self.findings.items() for f in many]
        return {
            "place": self.place,
            "kind": self.kind,
            "findings": found,
            "fine": self.fine,
            "not_looked_at": self.unknown,
        }


def doctoring(options: Doctor) -> Diagnosis:
    """See `unmask.cli.commands.doctor.doctor`."""
    diagnosis = diagnose(Subject(str(options.place), texts(options.on)))
    console = make_console()
    if options.json:
        print(json.dumps(diagnosis.to_json(), indent=2, ensure_ascii=False))
        return diagnosis
    table = Table(
        "check", "found", "remedy", title=f"{diagnosis.place} ({diagnosis.kind})", title_justify="left", box=None
    )
    for name, findings in diagnosis.findings.items():
        for finding in findings:
            table.add_row(f"[bold yellow]{name}[/]", _plain(finding.what), _plain(finding.remedy))
    for name in diagnosis.fine:
        table.add_row(name, "nothing wrong", "")
    for name, why in diagnosis.unknown.items():
        table.add_row(f"[dim]{name}[/]", f"[dim]not looked at: {_plain(why)}[/]", "")
    console.print(table)
    count = sum(map(len, diagnosis.findings.values()))
    console.print(f"{count} found." if count else f"Nothing wrong, by {len(diagnosis.fine)} checks.", soft_wrap=True)
    return diagnosis


def diagnose(subject: Subject) -> Diagnosis:
    """Runs all checks; none changes anything, not even the random numbers that follow."""
    diagnosis = Diagnosis(subject.place, subject.kind)
    with torch.random.fork_rng(devices=[]):
        for name in registry.names(CHECKS):
            try:
                found = registry.find(CHECKS, name)(subject)
            except Unknown as error:
                diagnosis.unknown[name] = str(error)
                continue
            if found:
                diagnosis.findings[name] = found
            else:
                diagnosis.fine.append(name)
    return diagnosis


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


@verb(Doctor)
def doctor(options: Doctor) -> "Diagnosis":
    """Runs every check that has something to look at, prints what was found, and returns it.

    On the command line the exit code is 0 when nothing was found and 7 when something was. Raises UserError for a place
    that leads nowhere.
    """
    return doctoring(options)
