"""Faults of methods: the failures that each of them is known for, and features that have collapsed."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from unmask import registry
from unmask.errors import NotGiven
from unmask.evaluation.collapse import COLLAPSED_RANK, COLLAPSED_SPREAD, RANK, SPREAD
from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.files import STAGE, STAGES, Json, read_json
from unmask.runs.run import SUMMARY, Run
from unmask.training.log import METRICS, read
from unmask.training.objective import Objective

__all__ = ["collapse", "stages", "symptoms"]
LAST_RECORDS = 3


def symptoms(subject: Subject) -> list[Finding]:
    """A number of the method in the range of a known failure, over the last records."""
    return _symptoms(subject.of_pretraining()["settings"]["method"], subject.steps)


def _symptoms(text: str, records: Sequence[Json]) -> list[Finding]:
    """text: of the method that made the records."""
    try:
        method: type[Objective] = registry.find("method", registry.parse(text)[0])
    except NotGiven as error:
        raise Unknown(str(error)) from error
    findings = []
    for symptom in method.symptoms:
        values = [record[symptom.scalar] for record in records if symptom.scalar in record][-LAST_RECORDS:]
        if len(values) == LAST_RECORDS and all(symptom.shows(value) for value in values):
            findings.append(Finding(f"{symptom.says} ({symptom.scalar} {fmean(values):.3g})", symptom.remedy))
    return findings


def stages(subject: Subject) -> list[Finding]:
    """A training that came before this one and is not finished, is gone, or shows a failure that its method is known
    for."""
    subject.of_pretraining()
    findings = []
    handed = Run(subject.path).config.method.handed or {}
    gone = [Path(place) for place in handed.values() if not (Path(place) / STAGE).is_file()]
    for folder in gone:
        again = "put it back, or run the same command in a new folder, which makes it again"
        findings.append(Finding(f"{folder} is gone, which a training before this one made", again))
    for path in sorted((subject.path / STAGES).glob(f"*/{STAGE}")):
        folder, stage = path.parent, read_json(path)
        if not (folder / SUMMARY).exists():
            what = f"the training before this one, {stage['method']}, is not finished"
            findings.append(Finding(what, "run the same command again: it goes on from there"))
        for finding in _symptoms(stage["method"], list(read(folder / METRICS))):
            findings.append(Finding(f"{folder.name}: {finding.what}", finding.remedy))
    return findings


def collapse(subject: Subject) -> list[Finding]:
    """Features of different images that are nearly the same, or lie along a few directions only."""
    subject.of_pretraining()
    measured = [record for record in subject.records if RANK in record]
    if not measured:
        raise Unknown("the run recorded no spread of its features")
    rank, spread = measured[-1][RANK], measured[-1][SPREAD]
    if rank >= COLLAPSED_RANK and spread >= COLLAPSED_SPREAD:
        return []
    what = f"features of different images are nearly the same: spread {spread:.2g}, {rank:.1f} directions in use"
    return [Finding(what, "a lower --lr or more --warmup; with a teacher, a slower one (momentum= nearer to 1)")]
