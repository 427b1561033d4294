"""Failures that methods are known for, provoked in tiny trainings: the log tells of them, doctor finds them with their
remedy, and neither says anything of a training that goes well."""

import json
import shutil
from typing import NamedTuple

import pytest
import torch
from rich.console import Console
from support.methods import small_method, teacher_file, views_of
from support.small_training import records

from unmask.evaluation.doctor.checks.methods import symptoms
from unmask.evaluation.doctor.subject import Subject
from unmask.registry import names, parse
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import RuntimeSettings
from unmask.training.log import Log
from unmask.training.loop import fit
from unmask.training.settings import Fit

PLAIN_HEADS = "head='mlp(layers=1, out=8)', predictor='mlp(layers=1, out=8)'"


class Fault(NamedTuple):
    method: str  # its text, with the options that provoke it
    lr: float
    scalar: str  # that shows it
    steps: int = 30
    unbalanced: str | None = None  # what keeps assignments apart is turned off


FAULTS = {
    "the rate is far too high": [
        Fault("mae", 0.3, "contrast"),
        Fault("simmim", 0.05, "contrast", steps=60),
        Fault("dbot", 1.0, "contrast", steps=60),
        Fault("vqvae(codes=64)", 1.0, "codes_in_use"),
        Fault("vqkd(codes=64, of='TEACHER')", 1.0, "codes_in_use"),
        Fault("igpt", 0.3, "guessing"),
        Fault("siglip", 1.0, "spread", steps=80),
        Fault("align(of='TEACHER')", 1.0, "guessing"),
        Fault("distil(of='TEACHER', loss='smooth_l1')", 3.0, "spread", steps=60),
    ],
    "the rate is far too low": [Fault("igpt", 1e-6, "guessing")],
    "the teacher is the student, and nothing keeps them apart": [
        Fault(f"byol(momentum=0.0, {PLAIN_HEADS})", 0.05, "spread", steps=50),
        Fault("data2vec(momentum=0.0)", 0.3, "spread"),
        Fault("ijepa(momentum=0.0)", 1.0, "spread", steps=60),
    ],
    "the temperature is too low": [
        Fault("simclr(temperature=0.003)", 1e-3, "guessing"),
        Fault("mocov3(temperature=0.003)", 1e-3, "guessing"),
        Fault("mae_contrast(temperature=0.003)", 1e-3, "guessing"),
    ],
    "the temperature is too high": [
        Fault("dino(teacher_temperature=1.0)", 1e-3, "sharpness"),
        Fault("dinov2(teacher_temperature=1.0)", 1e-3, "sharpness"),
        Fault("ibot(teacher_temperature=1.0)", 1e-3, "sharpness"),
        Fault("swav(epsilon=10.0)", 1e-3, "sharpness"),
    ],
    "all go to one prototype": [
        Fault("dino", 0.01, "entropy", unbalanced="centre"),
        Fault("ibot(momentum=0.5)", 0.01, "entropy", unbalanced="centre"),
        Fault("swav", 0.01, "entropy", unbalanced="sinkhorn"),
        Fault("beit", 0.01, "accuracy", unbalanced="tokenizer"),
    ],
    "features are not kept apart": [
        Fault("lejepa(weight=0.0)", 0.03, "spread", steps=40),
        Fault("dinov2(spread=0.0)", 1.0, "spread"),
    ],
}
DRAWS = 5  # of images: at such rates a training fails more often than not, and which one does hangs on the last digits
LONG = ("dino", "ibot", "dinov2", "ijepa", "lejepa")  # seconds
PROVOKED = [
    pytest.param(fault, id=f"{fault.method}: {why}", marks=[pytest.mark.slow] * fault.method.startswith(LONG))
    for why, faults in FAULTS.items()
    for fault in faults
]


def trained(out, text, lr=1e-3, steps=24, unbalanced=None, batch=16, images=0):
    """A method trained at a constant rate, its records in `out`; images: which of the draws of images."""
    method = small_method(text.replace("TEACHER", str(teacher_file())))
    if unbalanced == "centre":
        method.centre.momentum = 1.0  # it stays where it is
    if unbalanced == "tokenizer":
        method.tokenizer.forward = lambda x, grid: torch.zeros(len(x), grid.num_units, dtype=torch.long)
    seen = [views_of(method, count=batch, seed=3 * images + number) for number in range(3)]

    def batches(first):
        while True:
            yield seen[first % len(seen)]
            first += 1

    method.prepare(iter(seen))
    log = Log(out, Console(quiet=True), batch, 3 * batch, symptoms=method.symptoms)
    config = Fit(steps=steps, batch=batch, lr=lr, floor=lr, warmup=0, log_every=2, save_every=1000, spike=None)
    fit(method, batches, config, out, make_devices(RuntimeSettings()), log)
    return method


def diagnosed(out, pretrained, name):
    """What doctor says of the records of a run of this method."""
    config = json.loads((pretrained.path / "config.json").read_text())
    config["method"]["name"] = name
    (out / "config.json").write_text(json.dumps(config))
    shutil.copy(pretrained.path / "data_sheet.json", out)
    return symptoms(Subject(str(out)))


@pytest.mark.slow
@pytest.mark.parametrize("name", names("method"))
def test_a_training_that_goes_well_shows_no_symptom(name, tmp_path, pretrained):
    method = trained(tmp_path, name, steps=60 if name == "igpt" else 24)  # which begins by learning frequencies
    assert method.symptoms
    assert records(tmp_path, "symptom") == []
    assert diagnosed(tmp_path, pretrained, name) == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", PROVOKED)
def test_a_failure_that_is_provoked_is_told_with_its_remedy(fault, tmp_path, pretrained, monkeypatch):
    if fault.unbalanced == "sinkhorn":
        monkeypatch.setattr("unmask.methods.swav.sinkhorn", lambda scores, epsilon: (scores / epsilon).softmax(dim=1))
    for images in range(DRAWS):
        out = tmp_path / str(images)
        out.mkdir()
        method = trained(out, fault.method, fault.lr, fault.steps, fault.unbalanced, images=images)
        if told := fault.scalar in [record["scalar"] for record in records(out, "symptom")]:
            break
    assert told
    (symptom,) = [symptom for symptom in method.symptoms if symptom.scalar == fault.scalar]
    findings = diagnosed(out, pretrained, parse(fault.method)[0])
    assert (symptom.says, symptom.remedy) in [(finding.what.split(" (")[0], finding.remedy) for finding in findings]


def test_every_method_has_a_failure_that_is_provoked_here():
    provoked = {parse(fault.method)[0] for faults in FAULTS.values() for fault in faults}
    assert provoked == set(names("method"))
