"""The command `doctor`, step by step: open the subject, run every check, print the findings."""

import json

from rich.table import Table
from rich.text import Text

from unmask.cli.options.doctor import Doctor
from unmask.cli.shared_options import reading_of
from unmask.cli.verb import verb
from unmask.evaluation.doctor.diagnosis import Diagnosis, diagnose
from unmask.evaluation.doctor.subject import Subject
from unmask.plain import texts
from unmask.runtime.progress import doing, make_console
from unmask.weights.reading import Reading

__all__ = ["doctor"]


@verb(Doctor)
def doctor(options: Doctor) -> Diagnosis:
    """Runs every check that applies, prints the findings, and returns the diagnosis.

    On the command line the exit code is 0 without a finding and 7 with one. Raises UserError for a place that does not
    exist.
    """
    doing("looking for known faults")
    diagnosis = diagnose(Subject(str(options.place), texts(options.on), Reading.of(reading_of(options))))
    if options.json:
        print(json.dumps(diagnosis.to_json(), indent=2, ensure_ascii=False))
        return diagnosis
    console = make_console()
    console.print(table(diagnosis))
    count = sum(map(len, diagnosis.findings.values()))
    console.print(f"{count} found." if count else f"Nothing wrong, by {len(diagnosis.fine)} checks.", soft_wrap=True)
    return diagnosis


def table(diagnosis: Diagnosis) -> Table:
    """The diagnosis for a console without markup: findings, then passed checks, then checks that could not run."""
    title = f"{diagnosis.place} ({diagnosis.kind})"
    lines = Table("check", "found", "remedy", title=title, title_justify="left", box=None)
    for name, findings in diagnosis.findings.items():
        for finding in findings:
            lines.add_row(Text(name, "bold yellow"), finding.what, finding.remedy)
    for name in diagnosis.fine:
        lines.add_row(name, "nothing wrong", "")
    for name, reason in diagnosis.unknown.items():
        lines.add_row(name, f"not looked at: {reason}", "", style="dim")
    return lines
