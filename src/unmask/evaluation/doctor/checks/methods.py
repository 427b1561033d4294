"""Faults of methods: the failures that each of them is known for, and features that have collapsed."""

from statistics import fmean

from unmask import registry
from unmask.errors import NotGiven
from unmask.evaluation.collapse import COLLAPSED_RANK, COLLAPSED_SPREAD, RANK, SPREAD
from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.training.objective import Objective

__all__ = ["collapse", "symptoms"]
LAST_RECORDS = 3


def symptoms(subject: Subject) -> list[Finding]:
    """A number of the method in the range of a known failure, over the last records."""
    text = subject.of_pretraining()["settings"]["method"]
    try:
        method: type[Objective] = registry.find("method", registry.parse(text)[0])
    except NotGiven as error:
        raise Unknown(str(error)) from error
    findings = []
    for symptom in method.symptoms:
        values = [record[symptom.scalar] for record in subject.steps if symptom.scalar in record][-LAST_RECORDS:]
        if len(values) == LAST_RECORDS and all(symptom.shows(value) for value in values):
            findings.append(Finding(f"{symptom.says} ({symptom.scalar} {fmean(values):.3g})", symptom.remedy))
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
