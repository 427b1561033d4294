"""Several trainings in a row: planned with shares of the budget, gone on with after a stop, made once, used again."""

import dataclasses
import json
import shutil

import pytest
import torch
from support.configuring import config_of
from support.small import SMALL
from support.small_training import Crash, losses

import unmask
from unmask.cli.commands import pretrain as command
from unmask.errors import UserError
from unmask.planning.inspect_data import look_at
from unmask.planning.stages.divide import budgets, stages_of
from unmask.planning.stages.run import fit_in_stages
from unmask.planning.stages.same import key_of
from unmask.planning.stages.trainings import Training, taking_over, trainings_of
from unmask.runs.config import Config
from unmask.runs.run import Run
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.progress import make_console
from unmask.training.objective import Objective, Stage

THIRDS = '''
"""MAE, then something that starts from its encoder, then something that is given the folder of that one. A toy."""
import json
from pathlib import Path
import torch
from torch import nn
from unmask.training.objective import Objective, Stage
__all__ = ["Thirds"]
class Thirds(Objective):
    def __init__(self, encoder, offset=0.0, of=None):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.dim, 1)
        self.offset = offset + (0.0 if of is None else json.loads((Path(of) / "summary.json").read_text())["steps"])
    @classmethod
    def stages(cls, options):
        if options.get("alone"):
            return ()
        return (Stage("mae", 0.25, "an encoder that knows pixels"),
                Stage("simmim", 0.5, "one that knows more", option="of"))
    def forward(self, batch):
        (x,) = batch["views"]
        return {"loss": (self.head(self.encoder(x).pooled) - self.offset).square().mean()}
'''
OPTIONS = {key: value for key, value in SMALL.items() if key != "decoder"} | {"steps": 8, "log_every": 1}


@pytest.fixture
def thirds(tmp_path):
    (tmp_path / "thirds.py").write_text(THIRDS)
    return str(tmp_path / "thirds.py")


class Three(Objective):
    @classmethod
    def stages(cls, options):
        return (Stage("mae", options.get("first", 0.2), ""), Stage("simmim", 0.3, ""))


def test_each_training_gets_its_share_of_whatever_budget_is_given():
    stages = Three.stages({})
    assert [part["steps"].value for part in budgets({"steps": 100}, stages)] == [20, 30, 50]
    assert [part["steps"].value for part in budgets({"steps": 3}, stages)] == [1, 1, 1]
    assert [part["steps"].value for part in budgets({"steps": 7}, stages)] == [1, 2, 4]
    assert [part["hours"].value for part in budgets({"hours": 2.0}, stages)] == pytest.approx([0.4, 0.6, 1.0])
    assert [part["epochs"].value for part in budgets({"epochs": 10}, stages)] == pytest.approx([2.0, 3.0, 5.0])
    assert budgets({"epochs": None}, stages) == [{}, {}, {}]
    assert budgets({"steps": 1}, ()) == [{}]
    with pytest.raises(UserError, match=r"steps 2 is too small for 3 trainings in a row \(mae, simmim come first\)"):
        budgets({"steps": 2}, stages)


def test_weights_and_parts_from_outside_count_for_what_is_the_same_also_inside_of_other_parts(tmp_path):
    (tmp_path / "teacher (1).pth").write_bytes(b"one")
    inside = f"mix(a=pixels, b=features(of='{tmp_path}/teacher (1).pth'))"
    config = config_of(target=inside)
    before = key_of([config])
    assert before == key_of([config])
    (tmp_path / "teacher (1).pth").write_bytes(b"another")
    assert key_of([config]) != before
    assert key_of([config_of(target="mix(a=pixels, b='./coarse.py(side=2)')")]) is None


@pytest.mark.parametrize("share", [0.7, 0.0, -0.1])
def test_shares_that_leave_nothing_are_refused(share, monkeypatch):
    monkeypatch.setattr("unmask.planning.stages.divide.find", lambda kind, name: Three)
    with pytest.raises(UserError, match="leave some of the budget"):
        stages_of(f"three(first={share})")


@pytest.mark.slow
def test_a_run_is_made_in_stages_that_hand_on_what_they_made(photos, thirds, tmp_path, capsys):
    out = tmp_path / "run"
    unmask.pretrain(photos, out=out, method=thirds, mask=None, dry_run=True, **OPTIONS)
    printed = capsys.readouterr().out
    assert "Training 1 of 3, mae: an encoder that knows pixels" in printed
    assert "25% of the 8 asked for" in printed
    assert "for 3 trainings in a row" in printed
    assert not out.exists()
    run = unmask.pretrain(photos, out=out, method=thirds, **OPTIONS)
    stages = [Run(out / "stages" / name) for name in ("1-mae", "2-simmim")]
    assert [len(losses(stage.path)) for stage in (*stages, run)] == [2, 4, 2]
    assert all((stage.path / "report.html").exists() for stage in stages)
    assert stages[1].config.method.handed == {"init": str(stages[0].path)}
    assert run.config.method.handed == {"of": str(stages[1].path)}
    with_parts = Run(out, parts=(thirds,))
    assert with_parts.objective().offset == 4  # steps of the stage, whose folder it was given
    page = (out / "report.html").read_text()
    assert all(f'href="stages/{stage.path.name}/report.html"' in page for stage in stages)
    shutil.move(out, tmp_path / "moved")
    assert Run(tmp_path / "moved", parts=(thirds,)).config.method.handed == {
        "of": str(tmp_path / "moved/stages/2-simmim")
    }
    assert json.loads((tmp_path / "moved/config.json").read_text())["method"]["handed"] == {"of": "stages/2-simmim"}


@pytest.mark.slow
def test_a_run_that_is_stopped_anywhere_goes_on_to_the_same_bits(photos, thirds, tmp_path, monkeypatch):
    whole = unmask.pretrain(photos, out=tmp_path / "a" / "run", method=thirds, save_every=1, **OPTIONS)
    out, calls = tmp_path / "b" / "run", []
    for stop in (0, 1, 3, 8):
        left, loop = [stop], command.fit

        def fit(objective, loader, config, folder, devices, log, watch, left=left, loop=loop):
            def stopping(step, steps):
                left[0] -= 1
                if left[0] < 0:
                    raise Crash
                return watch(step, steps)

            calls.append(folder.name)
            return loop(objective, loader, config, folder, devices, log, stopping)

        with monkeypatch.context() as patched:
            patched.setattr(command, "fit", fit)
            if stop < 8:
                with pytest.raises(Crash):
                    unmask.pretrain(photos, out=out, method=thirds, save_every=1, **OPTIONS)
            else:
                unmask.pretrain(photos, out=out, method=thirds, save_every=1, **OPTIONS)
    assert calls == ["1-mae", "1-mae", "1-mae", "2-simmim", "2-simmim", "run"]
    for place in ("", "stages/1-mae", "stages/2-simmim"):
        assert losses(out / place) == losses(whole.path / place)
    first, second = (Run(path, parts=(thirds,)).objective().state_dict() for path in (out, whole.path))
    assert all(torch.equal(first[key], second[key]) for key in second)


@pytest.mark.slow
def test_a_stage_is_used_again_by_a_run_beside_it_only_where_all_is_the_same(photos, thirds, tmp_path, capsys):
    unmask.pretrain(photos, out=tmp_path / "first", method=thirds, **OPTIONS)
    capsys.readouterr()
    second = unmask.pretrain(photos, out=tmp_path / "second", method=f"{thirds}(offset=1.0)", **OPTIONS)
    printed = capsys.readouterr().out
    assert f"mae: {tmp_path}/first/stages/1-mae was made of the same images" in printed
    assert f"simmim: {tmp_path}/first/stages/2-simmim was made of the same images" in printed
    assert losses(second.path / "stages/2-simmim") == losses(tmp_path / "first/stages/2-simmim")
    shutil.rmtree(tmp_path / "first")
    assert Run(second.path / "stages/1-mae").objective() is not None
    for changed in ({"seed": 1}, {"steps": 12}, {"model": "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"}):
        unmask.pretrain(photos, out=tmp_path / "third", method=thirds, **OPTIONS | changed)
        assert "used again" not in capsys.readouterr().out
        shutil.rmtree(tmp_path / "third")
    next(photos.iterdir()).unlink()
    unmask.pretrain(photos, out=tmp_path / "third", method=thirds, **OPTIONS)
    assert "used again" not in capsys.readouterr().out


def test_what_a_stage_learned_from_is_recorded_with_its_licence_by_the_training_after_it(tmp_path):
    teacher = {"source": "clip", "model": "m", "licence": "not for sale", "layout": "hf", "sha256": "0"}
    before = config_of()
    before = dataclasses.replace(before, record=dataclasses.replace(before.record, teachers=[teacher], licence="mine"))
    stage = Training(before, tmp_path / "stages" / "1-vqkd", Stage("vqkd", 0.2, option="tokenizer"))
    record = taking_over(config_of(), [stage]).record
    assert (record.teachers, record.licence) == ([teacher], "mine")
    assert taking_over(config_of(), []).record.teachers == []


@pytest.mark.slow
def test_a_study_trains_in_stages_from_a_configuration(photos, tmp_path, thirds):
    run = unmask.pretrain(photos, out=tmp_path / "run", method=thirds, **OPTIONS)
    config = run.config
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, handed=None))
    sheet, samples = look_at([str(photos)], make_console(), max_side=64)
    with unmask.registry.given([thirds]):
        trainings = trainings_of(config, sheet, samples, tmp_path / "cell" / "run", steps=20)
        assert [training.config.training.steps for training in trainings] == [5, 10, 5]
        spent = fit_in_stages(trainings, samples, make_devices(config.runtime))
        again = fit_in_stages(trainings, samples, make_devices(config.runtime))
    assert spent == again
    assert [part.steps for part in spent] == [5, 10, 5]
    assert [part.images for part in spent] == [40, 80, 40]
    assert all(part.flops > 0 for part in spent)
    assert Run(tmp_path / "cell" / "run", parts=(thirds,)).objective().offset == 10
    assert isinstance(Config.from_json(tmp_path / "cell/run/stages/1-mae/config.json"), Config)
