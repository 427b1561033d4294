"""Runs every check on one subject: findings, checks that passed, and checks that could not run."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from unmask.evaluation.doctor import checks
from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.files import Json

Check = Callable[[Subject], list[Finding]]


@dataclass(frozen=True)
class Diagnosis:
    """The findings by check, the checks that passed, and those that could not run, with the reason."""

    place: str
    kind: str  # "run", "weights" or "data"
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    fine: list[str] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""
        return 7 if self.findings else 0

    def to_json(self) -> Json:
        """Plain values."""
        findings = [
            {"check": name, "what": finding.what, "remedy": finding.remedy}
            for name, several in self.findings.items()
            for finding in several
        ]
        report = {"place": self.place, "kind": self.kind, "findings": findings}
        return report | {"fine": self.fine, "not_looked_at": self.unknown}


def all_checks() -> dict[str, Check]:
    """Every check by its name, in alphabetical order: the functions in `__all__` of the files in `checks/`."""
    modules = [importlib.import_module(f"{checks.__name__}.{m.name}") for m in pkgutil.iter_modules(checks.__path__)]
    return dict(sorted((name, getattr(module, name)) for module in modules for name in module.__all__))


def diagnose(subject: Subject) -> Diagnosis:
    """Runs all checks; none changes anything, not even the state of random generators."""
    diagnosis = Diagnosis(subject.place, subject.kind)
    with torch.random.fork_rng(devices=[]):
        for name, check in all_checks().items():
            try:
                findings = check(subject)
            except Unknown as error:
                diagnosis.unknown[name] = str(error)
                continue
            if findings:
                diagnosis.findings[name] = findings
            else:
                diagnosis.fine.append(name)
    return diagnosis
