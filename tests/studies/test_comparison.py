"""What a comparison says: intervals over seeds and images, who leads, budgets in steps, what is paired with what."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.configuring import config_of

from unmask.cli.options.compare import Compare
from unmask.errors import UserError
from unmask.evaluation.intervals import (
    paired_difference,
    repeated,
    repeated_difference,
    spread_of_differences,
    spread_within,
    wilson,
)
from unmask.models.classifier import AttentivePool
from unmask.report.palette import make_figure
from unmask.runtime.command_line import command_line
from unmask.studies.comparison.figures import _side_by_side, _ticks
from unmask.studies.comparison.findings import Findings
from unmask.studies.comparison.judging import _place, packed, unpacked
from unmask.studies.comparison.settings import METHOD, PIXELS, RANDOM, Budget, Contestant, shares
from unmask.studies.comparison.study import _refuse_twin
from unmask.studies.engine import Piece, Records, Work, opened_once, run_pieces

NUM = 400  # test images
CONTESTANTS = [Contestant(name, METHOD) for name in ("mae", "dino", "byol")]
CONTESTANTS += [Contestant(RANDOM, RANDOM), Contestant(PIXELS, PIXELS)]


def answers(accuracy, seed=0):
    """As many right answers as asked for, the same images first, then some at random."""
    right = np.zeros(NUM, dtype=bool)
    right[: round(accuracy * NUM)] = True
    swapped = np.random.default_rng(seed).permutation(NUM)[:8]
    right[swapped] = ~right[swapped]
    return right


def judged(judge, right):
    """The record of one encoder, judged once."""
    result = {"judge": judge, "seconds": 1.0, "setting": "", "pooling": "mean", "correct": packed(right)}
    return {"results": [result]}


def findings_of(accuracies, judge="knn", seeds=1):
    lines = {}
    for name, accuracy in accuracies.items():
        for seed in range(1 if name == PIXELS else seeds):
            lines["frozen", name, seed, "1", 0] = judged(judge, answers(accuracy, seed))
    return Findings.of(CONTESTANTS, lines)


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_answers_survive_packing(correct):
    assert unpacked(packed(np.array(correct))).tolist() == correct


def test_one_repetition_has_the_interval_of_its_images():
    right, other = answers(0.6), answers(0.5, 1)
    assert repeated(right[None]) == pytest.approx((right.mean(), *wilson(int(right.sum()), NUM)))
    assert repeated_difference(right[None], other[None]) == pytest.approx(paired_difference(right, other))


def test_seeds_that_differ_widen_the_interval_and_those_that_agree_do_not():
    same = np.stack([answers(0.6)] * 3)
    apart = np.stack([answers(a) for a in (0.5, 0.6, 0.7)])
    widths = [high - low for _, low, high in (repeated(same[:1]), repeated(same), repeated(apart))]
    assert widths[1] == pytest.approx(widths[0])
    assert widths[2] > 3 * widths[1]


def test_few_seeds_take_the_spread_of_all_methods():
    lines = {}
    accuracies = {"mae": (0.70, 0.80), "byol": (0.60, 0.68), "dino": (0.50, 0.62)}
    for name, own in accuracies.items():
        for seed, accuracy in enumerate(own):
            lines["frozen", name, seed, "1", 0] = judged("knn", answers(accuracy))
    findings = Findings.of(CONTESTANTS, lines)
    gap, matrices = findings.difference("mae", "dino", "knn"), {}
    for name, own in accuracies.items():
        matrices[name] = np.stack([answers(accuracy) for accuracy in own])
    mean, low, high = repeated_difference(matrices["mae"], matrices["dino"])
    assert gap.mean == pytest.approx(mean)
    assert high - low > 2 * (gap.high - gap.low)  # four degrees of freedom tell more than one
    spread = spread_of_differences(np.array([matrix.mean(axis=1) for matrix in matrices.values()]))
    assert (gap.low, gap.high) == repeated_difference(matrices["mae"], matrices["dino"], spread=spread)[1:]
    within = spread_within(np.array([matrix.mean(axis=1) for matrix in matrices.values()]))
    accuracy = findings.accuracy("mae", "knn")
    assert (accuracy.mean, accuracy.low, accuracy.high) == repeated(matrices["mae"], spread=within)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Trainings whose accuracy varies, judged on images whose difficulty varies: both chances are in the interval."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        quality = 0.6 + 0.05 * rng.standard_normal(3)
        difficulty = 0.3 * rng.standard_normal(NUM)
        right = rng.random((3, NUM)) < (quality[:, None] + difficulty).clip(0, 1)
        _, low, high = repeated(right)
        covered += low <= 0.5927 <= high  # the mean of clipped qualities over many draws
    assert covered >= 186  # 95 % but for chance


def test_the_sentence_names_who_leads_and_who_cannot_be_told_apart():
    said = findings_of({"mae": 0.5, "dino": 0.75, "byol": 0.74, RANDOM: 0.3, PIXELS: 0.3}).sentence()
    assert "is ahead of mae by 2" in said
    assert "cannot be told apart from byol" in said
    assert "random" not in said
    assert "raw pixels" not in said


def test_a_method_that_learnt_nothing_and_strong_raw_pixels_are_said():
    said = findings_of({"mae": 0.31, "dino": 0.75, RANDOM: 0.3, PIXELS: 0.74}).sentence()
    assert "Not above random initialisation by any judge: mae." in said
    assert "No method is above raw pixels by kNN" in said


def test_a_leader_among_many_needs_a_larger_lead():
    """The best of several was chosen by its result, so that its intervals are wider than a plain pair's."""
    few = findings_of({"mae": 0.5, "dino": 0.6})
    many = findings_of({"mae": 0.5, "dino": 0.6, "byol": 0.5})
    assert few.difference("dino", "mae", "knn").high == many.difference("dino", "mae", "knn").high
    assert few.leading("knn") != many.leading("knn").replace("mae", "mae")
    lead = [text.split("(")[-1].split(" to")[0] for text in (few.leading("knn"), many.leading("knn"))]
    assert float(lead[1]) < float(lead[0])


def test_the_leader_is_found_on_the_seeds_that_all_have():
    lines = {}
    for name, seed, accuracy in (("mae", 0, 0.6), ("mae", 1, 0.9), ("dino", 0, 0.7)):
        lines["frozen", name, seed, "1", 0] = judged("knn", answers(accuracy))
    findings = Findings.of(CONTESTANTS, lines)
    assert [ranked.contestant for ranked in findings.ranked("knn")] == ["dino", "mae"]
    assert "dino (69.5" in findings.leading("knn")
    lines["frozen", "byol", 2, "1", 0] = lines["frozen", "mae", 0, "1", 0]
    assert "no seed in common with" in Findings.of(CONTESTANTS, lines).leading("knn")


def test_what_has_no_seed_meets_every_seed_of_the_others():
    gap = findings_of({"mae": 0.5, PIXELS: 0.3}, seeds=3).difference("mae", PIXELS, "knn")
    assert gap.pairs == 3
    assert gap.sign == 1


def test_a_diverged_training_is_left_out_and_said():
    lines = {("train", "mae", 0, "", 0): {"diverged": "too many"}}
    findings = Findings.of(CONTESTANTS, lines)
    assert findings.diverged == ["mae, seed 0"]
    assert findings.sentence() == "Nothing is judged yet."
    json.dumps(findings.to_json())


def test_budgets_pay_for_the_same_images_time_or_flops():
    assert Budget(images=1000).steps(batch=10, seconds=1.0, flops=1e9) == 100
    assert Budget(hours=1).steps(batch=10, seconds=2.0, flops=1e9) == 1800
    assert Budget(flops=1e12).steps(batch=10, seconds=1.0, flops=1e9) == 100


def test_points_double_up_to_the_whole():
    assert shares(3) == [0.25, 0.5, 1.0]
    contestant = Contestant("beit", METHOD, flops=2.0, before=0.2)
    assert contestant.spent(1.0) == contestant.total_flops


def test_two_methods_of_one_name_are_refused():
    with pytest.raises(UserError, match=r"names mae twice.*mae\(\.\.\.\)"):
        Compare("photos", methods=("mae", "dino", "mae"), images=64)
    for twin in ("mae()", "mae( )", " mae"):
        with pytest.raises(UserError, match=r"names mae and .*the same training"):
            Compare("photos", methods=("mae", twin), images=64)
    with pytest.raises(UserError, match="the same training"):
        Compare("photos", methods=("mae(mask=block)", "mae(mask='block')"), images=64)
    Compare("photos", methods=("mae", "mae(mask=block)"), images=64)


def test_a_method_in_other_words_is_refused_once_its_parts_are_chosen():
    def contestant(name, **options):
        return Contestant(name, METHOD, config_of(method=name, **options))

    mae = contestant("mae", mask="random(ratio=0.75)", target="pixels")
    with pytest.raises(UserError, match=r"names mae and mae\(symmetric=False\): .* the same training"):
        _refuse_twin([mae, contestant("mae(symmetric=False)", mask="random", target="pixels(normalize=True)")])
    _refuse_twin([mae, contestant("mae", mask="random(ratio=0.5)", target="pixels")])
    _refuse_twin([mae, contestant("mae(symmetric=True)", mask="random", target="pixels")])
    _refuse_twin([mae, contestant("simmim", mask="random", target="pixels", decoder=None)])


def test_every_seed_and_draw_fine_tunes_with_a_seed_of_its_own():
    places = [_place(3, seed, draw) for seed in (3, 4, 5) for draw in range(4)]
    assert len(set(places)) == 12
    assert places[:2] == [3, 4]


def test_the_command_can_be_typed_again(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/lib/unmask/__main__.py", "compare", "my photos"])
    assert command_line() == "unmask compare 'my photos'"
    monkeypatch.setattr("sys.argv", ["/bin/unmask", "compare"])
    assert command_line() == "unmask compare"


def test_an_evaluator_that_is_named_twice_judges_once():
    assert Compare("photos", methods=("mae",), images=64, evaluators=("knn", "linear", "knn")).evaluators == (
        "knn",
        "linear",
    )


def test_records_go_on_after_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "r.jsonl"
    Records(path, ("a", "b")).add({"a": "x", "b": 1, "value": 2})
    with open(path, "a") as file:
        file.write('{"a": "y", ')
    again = Records(path, ("a", "b"))
    again.add({"a": "y", "b": 2, "value": 3})
    assert {key: line["value"] for key, line in Records(path, ("a", "b")).lines.items()} == {("x", 1): 2, ("y", 2): 3}


def test_only_what_is_missing_is_done_and_divergence_is_recorded(tmp_path, capsys):
    from rich.console import Console

    from unmask.errors import Diverged

    done = []

    def work(key, tell):
        done.append(key)
        if key == ("bad",):
            raise Diverged("too many bad steps")
        return {"value": len(key)}

    records = Records(tmp_path / "r.jsonl", ("name",))
    records.add({"name": "old", "value": 0})
    waves = [[Piece(("old",), "old"), Piece(("bad",), "bad")], [Piece(("new",), "new")]]
    run_pieces(Work(work), waves, records, Console(), lambda line: f"value {line['value']}")
    assert done == [("bad",), ("new",)]
    assert records.lines["bad",]["diverged"] == "too many bad steps"
    out = capsys.readouterr().out
    assert "1 of 3 trainings and fits are already done" in out
    assert "bad: diverged; left out" in out
    assert "new: value 1" in out


def test_the_cheap_attentive_pooling_is_multi_head_attention():
    torch.manual_seed(0)
    pool, x = AttentivePool(24, head_width=8), torch.randn(3, 7, 24)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tokens = pool.norm(x)
    expected = pool.attend(pool.query.expand(3, -1, -1), tokens, tokens, need_weights=False)[0][:, 0]
    torch.testing.assert_close(pool(x), expected)
    ours = torch.autograd.grad(pool(x).square().sum(), list(pool.parameters()), retain_graph=True)
    theirs = torch.autograd.grad(expected.square().sum(), list(pool.parameters()))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_process_opens_the_data_anew_for_a_study_with_other_settings():
    opened, places = [], [{"on": "a"}, {"on": "a"}, {"on": "b"}, {"on": "a"}]
    for place in places:  # equal, not the same: settings come from another process
        assert opened_once(place, lambda place=place: opened.append(place) or place) == place
    assert opened == [{"on": "a"}, {"on": "b"}, {"on": "a"}]


def test_budgets_are_said_without_loss():
    assert Budget(images=1234567.0).option == "--images 1234567"
    assert Budget(flops=1e15).option == "--flops 1e+15"


@pytest.mark.parametrize(("high", "count"), [(0.66, 1), (0.85, 1), (1.2, 2), (9.0, 4)])
def test_ticks_of_like_costs_do_not_lie_on_each_other(high, count):
    panel = make_figure(4.0, 3.0).subplots()
    panel.set_xscale("log")
    _ticks(panel, [0.64, high])
    assert len(panel.get_xticks()) == count


@pytest.mark.parametrize(("flops", "apart"), [((1.0, 1.0, 1.01), True), ((1.0, 2.0, 1.0), False), ((1.0,), False)])
def test_points_of_equal_compute_lie_beside_each_other_and_all_others_where_they_belong(flops, apart):
    contestants = [Contestant(str(i), METHOD, config=config_of(), flops=each) for i, each in enumerate(flops)]
    factors = _side_by_side(contestants)
    assert len(set(factors)) == (len(flops) if apart else 1)
    assert np.prod(factors) == pytest.approx(1)  # around their place
