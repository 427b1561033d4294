"""dBOT's rounds: who teaches whom, what the stages are given, and what is refused."""

import json

import pytest
import torch
from support.methods import small_encoder, small_method, teacher_file, views_of
from support.small import SMALL
from support.small_training import losses
from torch.nn.functional import layer_norm, smooth_l1_loss

import unmask
from unmask.errors import UserError
from unmask.masking.grid import take
from unmask.masking.mask import hide_top
from unmask.methods.dbot import DBOT
from unmask.registry import build
from unmask.runs.run import Run
from unmask.weights.frozen_teacher import FrozenTeacher
from unmask.weights.open import open_weights

OPTIONS = {"steps": 6, "save_every": 1, "log_every": 1, "workers": 0, **SMALL}


def test_the_loss_is_smooth_l1_to_the_teachers_normalised_features_of_hidden_patches():
    method = small_method("dbot(rounds=1)")
    (x,), mask = views_of(method)["views"], hide_top(torch.rand(4, 16), 0.75)
    wanted = FrozenTeacher(str(teacher_file()), method.encoder)(x, method.encoder.grid)
    wanted = take(layer_norm(wanted, wanted.shape[-1:]), mask.hidden)
    with torch.no_grad():
        loss = method({"views": [x], "mask": mask})["loss"]
        guess = method.decoder(method.encoder(x, mask), mask, method.encoder.grid)
    torch.testing.assert_close(loss, smooth_l1_loss(guess, wanted))


def test_rounds_are_stages_with_equal_shares_and_the_same_options():
    two = DBOT.stages({})
    assert [(stage.method, stage.share, stage.option, stage.alike) for stage in two] == [
        ("dbot(rounds=1)", 0.5, "teacher", True)
    ]
    three = DBOT.stages({"rounds": 3, "teacher": "clip.pth", "mask": "block"})
    assert [stage.method for stage in three] == [
        "dbot(rounds=1, teacher='clip.pth', mask='block')",
        "dbot(rounds=2, mask='block')",  # without its teacher until the first has run
    ]
    assert "clip.pth" in three[0].says
    assert "round 1" in three[1].says
    assert DBOT.stages({"rounds": 1}) == ()
    assert DBOT.stages({"rounds": 10**9}) == ()  # refused where it is built


@pytest.mark.parametrize("text", ["dbot(rounds=0)", "dbot(rounds=17)", "dbot(rounds=1.5)", "dbot(rounds='two')"])
def test_rounds_that_cannot_be_are_refused(text, photos, tmp_path):
    with pytest.raises(UserError, match="rounds"):
        unmask.pretrain(photos, out=tmp_path / "run", method=text, **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_the_last_round_alone_says_that_its_teacher_comes_first():
    method = build("method", "dbot(decoder='full(dim=16, depth=1, heads=2)')", encoder=small_encoder())
    with pytest.raises(UserError, match=r"has to be trained before.*dbot\(rounds=1\)"):
        method.before_step(0)


def test_random_weights_are_always_the_same_and_take_no_random_numbers_from_the_student():
    torch.manual_seed(1)
    first = FrozenTeacher("random", small_encoder())
    torch.manual_seed(2)
    before = torch.get_rng_state()
    with torch.device("meta"):
        student = small_encoder()
    torch.set_rng_state(before)
    second = FrozenTeacher("random", student)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.sha256 == second.sha256
    assert "none: nobody trained them" in first.note
    student = small_encoder().net.state_dict()
    assert any(not torch.equal(value, student[key]) for key, value in first.encoder.net.state_dict().items())


@pytest.mark.slow
def test_a_run_of_two_rounds_learns_from_the_encoder_of_the_first(photos, tmp_path, capsys):
    run = unmask.pretrain(photos, out=tmp_path / "run", method="dbot", mask="random(ratio=0.5)", lr=2e-3, **OPTIONS)
    printed = capsys.readouterr().out
    assert "round 1 of 2, taught by random weights" in printed
    stage = Run(run.path / "stages" / "1-dbot")
    assert (len(losses(stage.path)), len(losses(run.path))) == (3, 3)
    for key in ("mask", "decoder"):
        assert getattr(stage.config.method, key) == getattr(run.config.method, key)
    assert stage.config.method.mask == "random(ratio=0.5)"
    assert stage.config.training.lr == run.config.training.lr == 2e-3
    taught = run.objective().target.teacher
    for key, value in stage.encoder().net.state_dict().items():
        assert torch.equal(taught.encoder.net.state_dict()[key], value)
    assert [facts["source"] for facts in stage.config.record.teachers] == ["random"]
    assert "random" in (stage.path / "report.html").read_text()
    assert "Not drawn" in (run.path / "report.html").read_text()
    assert json.loads((run.path / "config.json").read_text())["method"]["handed"] == {"teacher": "stages/1-dbot"}
    assert open_weights(run.path).licence is None
    student = run.objective().encoder.net.state_dict()
    assert any(not torch.equal(value, taught.encoder.net.state_dict()[key]) for key, value in student.items())


@pytest.mark.slow
def test_a_run_whose_second_round_was_stopped_goes_on_to_the_same_bits(photos, tmp_path):
    options = {"method": "dbot", "keep_every": 1, **OPTIONS}
    run = unmask.pretrain(photos, out=tmp_path / "run", **options)
    whole, state = losses(run.path), run.objective().state_dict()
    for file in [*run.path.glob("*.ckpt"), run.path / "summary.json"]:
        if file.name != "step_00000002.ckpt":
            file.unlink()
    again = unmask.pretrain(photos, out=run.path, **options)
    assert losses(run.path) == whole
    assert all(torch.equal(value, state[key]) for key, value in again.objective().state_dict().items())
