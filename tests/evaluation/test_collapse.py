"""Rank and spread of features tell collapse from use; runs record them and doctor reads them."""

import json

import pytest
import torch

from unmask.evaluation.collapse import RANK, SPREAD, choose, feature_health, rank, spread
from unmask.evaluation.doctor.diagnosis import diagnose
from unmask.evaluation.doctor.subject import Subject
from unmask.training.log import METRICS


def test_rank_counts_directions_in_use():
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(400, 5, generator=generator) @ torch.linalg.qr(torch.randn(32, 5, generator=generator))[0].T
    assert rank(few + 7) == pytest.approx(5, abs=0.2)
    assert rank(torch.randn(4000, 16, generator=generator)) == pytest.approx(16, abs=0.3)
    assert rank(torch.ones(10, 4)) == 1.0
    line = torch.linspace(-1, 1, 50)[:, None] * torch.ones(1, 8)
    assert rank(line) == pytest.approx(1, abs=0.01)


def test_spread_is_one_all_over_the_sphere_and_nothing_for_equal_features():
    generator = torch.Generator().manual_seed(0)
    assert spread(torch.randn(2000, 64, generator=generator)) == pytest.approx(1, abs=0.01)
    assert spread(torch.ones(9, 3)) == pytest.approx(0, abs=1e-6)


class Few:
    names = tuple(str(i) for i in range(40))

    def __len__(self):
        return 40

    def image(self, i):
        return torch.randint(0, 256, (3, 40, 40), generator=torch.Generator().manual_seed(i)).byte()


def test_it_is_measured_on_whole_images_and_leaves_the_encoder_in_training(encoder):
    encoder.train()
    measured = feature_health(encoder, Few(), choose(Few(), 20), (32, 32), torch.device("cpu"))
    assert encoder.training
    assert 1 < measured[RANK] <= 20
    assert 0 < measured[SPREAD] <= 1
    with torch.no_grad():
        for parameter in encoder.net.blocks.parameters():
            parameter.zero_()
        encoder.net.patch_embed.proj.weight.zero_()
    assert feature_health(encoder, Few(), choose(Few(), 20), (32, 32), torch.device("cpu"))[SPREAD] < 1e-3
    assert choose(Few(), 15) == []


def test_doctor_names_features_that_have_collapsed_and_what_a_method_is_known_for(run):
    run = run.path
    lines = (run / METRICS).read_text().splitlines()
    last = json.loads(lines[-1])
    fine = {"step": last["step"], RANK: 9.0, SPREAD: 0.6}
    (run / METRICS).write_text("\n".join([*lines, json.dumps(fine)]) + "\n")
    found = diagnose(Subject(str(run)))
    assert {"collapse", "symptoms"} <= set(found.fine)
    (run / METRICS).write_text("\n".join([*lines, json.dumps(fine | {RANK: 1.1, SPREAD: 0.003})]) + "\n")
    assert "nearly the same" in diagnose(Subject(str(run))).findings["collapse"][0].what
    config = json.loads((run / "config.json").read_text())
    config["method"]["name"] = "dino"
    (run / "config.json").write_text(json.dumps(config))
    steps = [{"step": i, "epoch": 1.0, "loss": 1.0, "entropy": 0.01, "sharpness": 0.5} for i in range(3)]
    (run / METRICS).write_text("\n".join(json.dumps(line) for line in steps) + "\n")
    findings = diagnose(Subject(str(run))).findings["symptoms"]
    assert "collapsed" in findings[0].what
    assert "temperature" in findings[0].remedy
