"""Advice after trials: when a measurement overrules the table, and how large a trial is."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.advice import FACTS

from unmask.errors import UserError
from unmask.studies.advice.answer import weights_at_hand
from unmask.studies.advice.table import decide
from unmask.studies.advice.trial import Design, Trial, design_trial, measured_statements, remarks


def trial_of(accuracies, gaps, *, judge="linear", methods=("mae", "simclr"), against=("w.pth",), labels=0):
    """A finished trial. accuracies: contestant -> share; gaps: (first, second) -> mean, low, high."""
    found = [{"contestant": n, "judge": judge, "share": 1.0, "mean": a} for n, a in accuracies.items()]
    between = [
        {"judge": judge, "first": first, "second": second, "mean": m, "low": low, "high": high}
        for (first, second), (m, low, high) in gaps.items()
    ]
    results = {"sentence": "It was so.", "accuracies": found, "differences": between}
    return Trial(Design(methods, 0.05, labels), results, Path("trial"), against)


LEARNT = {("mae", "random init"): (0.1, 0.05, 0.15), ("simclr", "random init"): (0.1, 0.05, 0.15)}


@pytest.mark.parametrize(
    ("gap", "judge", "choice"),
    [
        ((0.08, 0.02, 0.14), "linear", "simclr"),
        ((0.02, -0.02, 0.06), "linear", None),
        ((-0.08, -0.14, -0.02), "linear", "mae"),
        ((0.08, 0.02, 0.14), "full", None),  # frozen features do not tell who is ahead fine-tuned
    ],
)
def test_a_measurement_overrules_the_table_where_it_is_clear(gap, judge, choice):
    facts = replace(decide(FACTS)[0], judge=judge)
    trial = trial_of({"mae": 0.4, "simclr": 0.4 + gap[0]}, {("simclr", "mae"): gap} | LEARNT)
    statements = measured_statements(trial, facts)
    assert [statement.choice for statement in statements] == ([choice] if choice else [])
    assert (choice is None) == ("does not decide on the method" in " ".join(remarks(trial, facts)))
    decided, said = decide(facts, statements)
    assert decided.method == (choice or "mae")
    assert set(statements) <= set(said)
    assert ("mask" in {s.topic for s in said}) == (choice != "simclr")  # what follows from the method follows
    if choice == "simclr":
        assert "Follow the measurement" in statements[0].text


def test_a_trial_that_taught_nothing_overrules_nothing():
    facts, _ = decide(FACTS)
    trial = trial_of({"mae": 0.4, "simclr": 0.48}, {("mae", "simclr"): (-0.08, -0.14, -0.02)})
    assert measured_statements(trial, facts) == []
    assert "not above random initialisation" in " ".join(remarks(trial, facts))


@pytest.mark.parametrize(("gap", "start"), [((0.2, 0.1, 0.3), "published"), ((-0.2, -0.3, -0.1), "scratch")])
def test_weights_at_hand_are_taken_or_left_as_measured(gap, start):
    for before in ("published", "scratch"):
        facts = replace(decide(FACTS)[0], start=before)
        trial = trial_of({"mae": 0.4, "w.pth": 0.4 + gap[0]}, {("w.pth", "mae"): gap} | LEARNT)
        (statement,) = measured_statements(trial, facts)
        assert statement.choice == start
        assert ("The table says otherwise" in statement.text) == (before != start)
        decided, _ = decide(facts, [statement])
        assert weights_at_hand(decided, (), trial.weights).name == ("w.pth" if start == "published" else "")


def test_a_trial_is_as_large_as_its_time():
    facts, _ = decide(FACTS)
    assert design_trial(3, facts).methods == ("mae",)
    assert design_trial(5, facts).methods == ("mae", "simclr")
    long = design_trial(60, replace(facts, method="dino", judge="full"))
    assert long.methods == ("dino", "mae", "simclr")
    assert long.judge == "finetune@10"
    assert 3600 * long.hours * 3 <= 60 * 60
    with pytest.raises(UserError, match=r"--minutes 0\.5 leaves no time to train.* give 3 or more"):
        design_trial(0.5, facts)
