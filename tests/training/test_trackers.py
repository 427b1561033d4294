"""Records in TensorBoard, Weights & Biases and MLflow: those of metrics.jsonl, each once, also after a resume."""

import importlib.util
import inspect
import io
import sys
import types

import pytest
from rich.console import Console

import unmask
from unmask.cli.options.pretrain import Pretrain
from unmask.errors import UserError
from unmask.registry import build, names
from unmask.training.log import METRICS, Log, read
from unmask.training.state import RunState
from unmask.training.trackers import IDS, Tracker, scalars

SETTINGS = {"lr": 0.1, "betas": (0.9, 0.95), "model": "vit", "deterministic": False, "open": None}


def train(out, trackers, first, records):
    """One process: records of (step, loss), begun or resumed after `first` steps. Returns what was said."""
    said = io.StringIO()
    log = Log(out, Console(file=said, width=200), batch=4, samples=8, trackers=trackers, settings=SETTINGS)
    log.start(first, 6)
    for step, loss in records:
        log.step(step, 0.1, {"loss": loss}, float(step), skipped=0)
    log.event(records[-1][0], "unsaved", "no room")
    log.close()
    return said.getvalue()


def in_tensorboard(out, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return events, [(event.step, round(event.value, 3)) for event in events.Scalars(tag)]


def test_tensorboard_has_every_record_once_after_a_resume_and_the_settings(tmp_path):
    train(tmp_path, [build("tracker", "tensorboard")], 0, [(2, 0.5), (4, 0.4)])
    train(tmp_path, [build("tracker", "tensorboard")], 2, [(4, 0.3), (6, 0.2)])  # killed after 4, saved at 2
    events, losses = in_tensorboard(tmp_path, "loss")
    assert losses == [(2, 0.5), (4, 0.3), (6, 0.2)]
    recorded = [(r["step"], r["loss"]) for r in read(tmp_path / METRICS) if "loss" in r]
    assert losses == recorded
    numbers = {name for r in read(tmp_path / METRICS) if "loss" in r for name, v in r.items() if name != "step"}
    assert numbers <= {*events.Tags()["scalars"]}
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert all(name.encode() in content for name in ("lr", "betas", "[0.9, 0.95]", "vit"))
    assert b"open" not in content


def test_tensorboard_forgets_what_a_training_went_back_from(tmp_path):
    log = Log(tmp_path, Console(file=io.StringIO()), batch=4, samples=8, trackers=[build("tracker", "tensorboard")])
    log.start(0, 6)
    for step, loss in ((1, 0.5), (2, 9.0), (3, 9.0)):
        log.step(step, 0.1, {"loss": loss}, float(step), skipped=0)
    log.rolled_back(RunState(steps=6, step=1, seconds=3.0), "back")
    log.step(2, 0.1, {"loss": 0.4}, 4.0, skipped=0)
    log.close()
    assert in_tensorboard(tmp_path, "loss")[1] == [(1, 0.5), (2, 0.4)]


class FakeWandb(types.ModuleType):
    """What is used of wandb, and nothing else; drops steps that it has had, as W&B does."""

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.rows = [], {}

    def init(self, *, project, entity, name, id, resume, dir, config, mode):
        self.begun.append({"project": project, "id": id, "resume": resume, "config": config, "mode": mode})
        return self

    id = "abc123"

    def log(self, data, step):
        if step > max(self.rows, default=0):
            self.rows[step] = data

    def finish(self):
        pass


def test_wandb_goes_on_with_the_same_run_offline_or_not(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(tmp_path, [build("tracker", "wandb(project='cats', offline=True)")], 0, [(2, 0.5), (4, 0.4)])
    train(tmp_path, [build("tracker", "wandb(project='cats')")], 2, [(4, 0.4), (6, 0.2)])
    first, second = fake.begun
    assert first == {"project": "cats", "id": None, "resume": "allow", "config": scalars(SETTINGS), "mode": "offline"}
    assert (second["id"], second["mode"]) == ("abc123", None)
    assert {step: row["loss"] for step, row in fake.rows.items()} == {2: 0.5, 4: 0.4, 6: 0.2}


def test_wandb_itself_takes_what_the_fake_takes(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    assert (
        inspect.signature(FakeWandb.init).parameters.keys() - {"self"}
        <= inspect.signature(wandb.init).parameters.keys()
    )
    monkeypatch.setenv("WANDB_SILENT", "true")
    for first, records in ((0, [(2, 0.5), (4, 0.4)]), (2, [(4, 0.4), (6, 0.2)])):
        said = train(tmp_path, [build("tracker", "wandb(offline=True)")], first, records)
        assert "no more records" not in said
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    assert len({path.name.split("-")[-1] for path in (tmp_path / "wandb").glob("offline-run-*")}) == 1  # one id


def test_mlflow_has_every_record_once_and_the_settings(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    for first, records in ((0, [(2, 0.5), (4, 0.4)]), (2, [(4, 0.4), (6, 0.2)])):
        said = train(tmp_path, [build("tracker", "mlflow")], first, records)
        assert "no more records" not in said
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("unmask").experiment_id])
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [
        (2, 0.5),
        (4, 0.4),
        (6, 0.2),
    ]
    assert run.data.params["betas"] == "[0.9, 0.95]"
    assert run.info.status == "FINISHED"


class Failing(Tracker):
    def begin(self, out, settings, step):
        pass

    def write(self, step, values):
        raise ConnectionError("the network is gone")

    def close(self):
        pass


def test_a_tool_that_fails_does_not_end_a_training_and_one_that_refuses_does(tmp_path):
    said = train(tmp_path, [Failing()], 0, [(2, 0.5), (4, 0.4)])
    assert said.count("Failing gets no more records (the network is gone)") == 1
    assert [r["step"] for r in read(tmp_path / METRICS) if "loss" in r] == [2, 4]
    refusing = Failing()
    refusing.begin = refusing.write
    with pytest.raises(UserError, match="--log-to Failing: "):
        train(tmp_path, [refusing], 0, [(2, 0.5)])


def test_what_is_wrong_or_not_installed_is_refused_at_once(monkeypatch):
    assert Pretrain("x", log_to="tensorboard").log_to == ("tensorboard",)
    with pytest.raises(UserError, match="no tracker 'tensorbord', did you mean 'tensorboard'"):
        Pretrain("x", log_to="tensorbord")
    with pytest.raises(UserError, match="wandb has no option 'projekt', did you mean 'project'"):
        Pretrain("x", log_to="tensorboard,wandb(projekt='a,b')")
    find = importlib.util.find_spec
    missing = {"wandb", "mlflow", "tensorboard"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in missing else find(name, *a))
    for name in names("tracker"):
        with pytest.raises(
            UserError, match=rf"--log-to {name} needs a package that is not installed: .*install {name}$"
        ):
            Pretrain("x", log_to=(name,))


@pytest.mark.slow
def test_pretraining_writes_to_tensorboard_and_a_repeated_command_adds_nothing(photos, tmp_path):
    from support.small import SMALL

    for _ in range(2):
        unmask.pretrain(photos, out=tmp_path / "run", steps=3, log_every=1, log_to="tensorboard", **SMALL)
    losses = [(r["step"], round(r["loss"], 3)) for r in read(tmp_path / "run" / METRICS) if "loss" in r]
    assert in_tensorboard(tmp_path / "run", "loss")[1] == losses
    assert len(losses) == 3
    assert not (tmp_path / "run" / IDS).exists()
