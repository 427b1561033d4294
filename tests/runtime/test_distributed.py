"""Several processes train as one: the same losses however a batch is divided, one checkpoint, one message, one stop."""

import os
import shutil
import signal
import socket
import time

import pytest
import torch
from support import forked
from support.grouped import STEPS, objective, together, trace, train
from support.small import SMALL
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from unmask.errors import Interrupted, UserError
from unmask.files import read_json
from unmask.runtime.blocks import stacked
from unmask.runtime.distributed.data_parallel import Devices
from unmask.runtime.distributed.gather import gather
from unmask.runtime.distributed.launcher import Launch, check_asked, launch, slurm_meeting_point
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.settings import RuntimeSettings
from unmask.training.log import read

TOLERANCE = 2e-5  # relative; fp32 sums in another order


def four(photos, out):
    """In each of four processes: whole runs with copies and with shards, and one of each that a signal ends."""
    from unmask.runtime.distributed.data_parallel import make_devices

    train(photos, out / "ddp", "ddp")
    train(photos, out / "fsdp2", "fsdp2")
    train(photos, out / "late", "ddp", decoder_warmup=3)
    ended = []
    for strategy in ("ddp", "fsdp2"):

        def hit(step, steps):
            if step == 3 and launch().rank == 2:  # one process alone hears of it
                os.kill(os.getpid(), signal.SIGUSR1)
            return {}

        try:
            train(photos, out / f"cut_{strategy}", strategy, watch=hit)
        except Interrupted as error:
            ended.append(error.exit_code)
    make_devices(RuntimeSettings(strategy="ddp"))
    ranks = Ranks()
    shared = ranks.share(f"rank {ranks.rank}"), ranks.most(float(ranks.rank), -1.0), ranks.everybodys(ranks.rank)
    return ended, shared, gathered(ranks.rank, ranks.world)


def gathered(rank, world):
    """A loss in which every row meets every other: its value and the gradient of this process's rows."""
    torch.manual_seed(5)
    rows = torch.randn(8, 3, dtype=torch.float64)
    mine = rows.view(world, -1, 3)[rank].clone().requires_grad_()
    everyone = gather(mine)
    loss = (mine @ everyone.T).logsumexp(dim=1).mean()  # of my rows; the mean over processes is that of all rows
    loss.backward()
    return loss.item(), (mine.grad / world).tolist()


def two(photos, out):
    """In each of two processes: what four left behind goes on, with the other strategy, and in other parts."""
    train(photos, out / "ddp_of_fsdp2", "ddp", accumulate=2)
    train(photos, out / "fsdp2_of_ddp", "fsdp2", accumulate=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    from PIL import Image
    from support.photos import photo

    out = tmp_path_factory.mktemp("runs")
    (photos := out / "photos").mkdir()
    for seed in range(24):
        Image.fromarray(photo(seed)).save(photos / f"{seed:03d}.png")
    found = together(4, four, photos, out)
    for name, start in {"ddp_of_fsdp2": "fsdp2", "fsdp2_of_ddp": "ddp", "one_of_fsdp2": "fsdp2"}.items():
        shutil.copytree(out / f"cut_{start}", out / name)
    together(2, two, photos, out)
    train(photos, out / "one_of_fsdp2", "auto", accumulate=2)
    train(photos, out / "one", "auto")
    train(photos, out / "parts", "auto", accumulate=4)
    train(photos, out / "one_late", "auto", decoder_warmup=3)
    return out, found


def same(found, wanted):
    assert len(found) == len(wanted) == STEPS
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=TOLERANCE, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "as_one"),
    [("parts", "one"), ("ddp", "one"), ("fsdp2", "one"), ("late", "one_late")]
    + [("ddp_of_fsdp2", "one"), ("fsdp2_of_ddp", "one"), ("one_of_fsdp2", "one")],
)
def test_losses_and_gradient_norms_are_those_of_one_process(runs, name, as_one):
    same(trace(runs[0] / name), trace(runs[0] / as_one))


@pytest.mark.slow
def test_weights_are_those_of_one_process(runs):
    states = [torch.load(runs[0] / name / "last.ckpt", weights_only=True) for name in ("one", "ddp", "fsdp2")]
    for other in states[1:]:
        assert other["objective"].keys() == states[0]["objective"].keys()
        for name, values in states[0]["objective"].items():
            # where the true gradient is nothing, as of the bias of keys, AdamW makes steps of rounding errors
            torch.testing.assert_close(other["objective"][name], values, rtol=1e-3, atol=2e-4)
        assert other["optimizer"]["state"].keys() == states[0]["optimizer"]["state"].keys()


@pytest.mark.slow
def test_a_signal_to_one_ends_all_at_the_same_step_with_its_code(runs):
    for ended, _, _ in runs[1]:
        assert ended == [128 + signal.SIGUSR1] * 2
    for name in ("cut_ddp", "cut_fsdp2"):
        assert torch.load(runs[0] / name / "last.ckpt", weights_only=True)["step"] == 4  # known one step later


@pytest.mark.slow
def test_what_one_process_says_all_know(runs):
    for _, (said, most, everybody), _ in runs[1]:
        assert (said, most, everybody) == ("rank 0", (3.0, -1.0), [0, 1, 2, 3])


@pytest.mark.slow
def test_gathered_rows_have_the_gradient_of_one_process(runs):
    loss, gradient = gathered(0, 1)
    torch.testing.assert_close(sum(one[2][0] for one in runs[1]) / 4, loss)
    torch.testing.assert_close(torch.tensor([row for one in runs[1] for row in one[2][1]]), torch.tensor(gradient))


def begin(arguments, folder):
    """`unmask pretrain` as a worker; the second of the first generation is killed when there is a checkpoint."""
    import threading

    generation = os.environ["TORCHELASTIC_RESTART_COUNT"]
    if os.environ["RANK"] == "1" and generation == "0":

        def die():
            while not any(record["step"] >= 7 for record in read(folder / "run" / "metrics.jsonl")):
                time.sleep(0.02)
            (folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=die, daemon=True).start()
    forked._command(arguments, folder / f"said_{generation}_{os.environ['RANK']}")


@pytest.mark.slow
def test_one_killed_process_ends_all_with_one_message_and_the_restarted_job_goes_on(tmp_path, photos):
    out = tmp_path / "run"
    options = SMALL | {"steps": 60, "log_every": 1, "save_every": 5, "strategy": "ddp", "out": out}
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    agent = {"min_nodes": 1, "max_nodes": 1, "nproc_per_node": 2, "max_restarts": 1, "monitor_interval": 3}
    with socket.socket() as free:
        free.bind(("", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {"rdzv_backend": "static", "rdzv_endpoint": place, "rdzv_configs": {"rank": 0, "timeout": 300}}
    config = LaunchConfig(**agent, **shared, start_method="forkserver")
    elastic_launch(config, begin)(["pretrain", str(photos), *flags], tmp_path)
    said = {path.name: path.read_text() for path in tmp_path.glob("said_*")}
    assert [said[f"said_0_{rank}"].count("another process of this training ended") for rank in (0, 1)] == [1, 0]
    assert "Traceback" not in "".join(said.values())
    assert "Continuing after step" in said["said_1_0"]
    assert said["said_1_1"] == ""  # only the first speaks
    steps = [record["step"] for record in read(out / "metrics.jsonl") if "loss" in record]
    assert steps == list(range(1, 61))
    assert (out / "summary.json").exists()
    assert (tmp_path / "said_1_0").stat().st_ctime - (tmp_path / "killed").stat().st_ctime < 120


def test_a_launcher_is_recognised_and_others_are_asked_for(monkeypatch):
    assert launch() == Launch()
    with pytest.raises(UserError, match=r"torchrun --nproc-per-node 4 -m unmask pretrain"):
        check_asked(4, None, "pretrain ...")
    step = {
        "SLURM_STEP_ID": 0,
        "SLURM_STEP_NUM_TASKS": 8,
        "SLURM_STEP_NUM_NODES": 2,
        "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    }
    for name, value in (step | {"SLURM_PROCID": 5, "SLURM_LOCALID": 2}).items():
        monkeypatch.setenv(name, str(value))
    assert launch() == Launch(
        "srun", 5, 8, 4, local=2
    )  # as -m cyclic numbers them: the GPU is that of the local number
    assert launch().nodes == 2
    for count, own in ((4, "cuda:2"), (1, "cuda:0")):  # --gpus-per-task shows each process one GPU
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        settings = RuntimeSettings(device="cuda", precision="32")
        assert str(Devices(settings, launch(), alone=False, idle=False).device) == own
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "5,3")
    with pytest.raises(UserError, match="8 processes on 2 machines; each must get as many"):
        launch()
    monkeypatch.delenv("SLURM_STEP_ID")  # in the batch script of an allocation, but not under srun
    assert launch() == Launch()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node[01-03,7]", "node01"),
        ("node[7,01-03]", "node7"),
        ("gpu-a01,gpu-a02", "gpu-a01"),
        ("tux[1-3]-ib", "tux1-ib"),
    ]
    + [("a1,b[2-3]", "a1"), ("rack[1-2]n[01-16],x", "rack1n01"), ("n-[0009-0012]", "n-0009"), ("host.org", "host.org")],
)
def test_an_srun_meets_on_the_first_machine_of_its_list_at_a_port_of_its_own(monkeypatch, nodes, first):
    monkeypatch.setenv("SLURM_JOB_ID", "12345678")
    monkeypatch.setenv("SLURM_NODELIST", nodes)
    assert slurm_meeting_point()[0] == first
    monkeypatch.setenv("SLURM_STEP_NODELIST", "of-this-step[3-4]")  # a step may leave the job's first machine out
    ports = {slurm_meeting_point()}
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    ports.add(slurm_meeting_point())
    assert [address for address, _ in ports] == ["of-this-step3"] * 2
    assert all(15000 <= port < 25000 for _, port in ports)


def whole_command(arguments):
    """`unmask` in this process, as one of many; where the processes met."""
    from unmask.cli.main import run

    run([str(argument) for argument in arguments])
    return os.environ["MASTER_ADDR"], torch.distributed.get_world_size()


@pytest.mark.slow
def test_what_srun_started_trains_to_the_weights_of_torchrun(tmp_path, photos):
    options = SMALL | {"steps": 6, "workers": 0, "threads": 1, "strategy": "ddp"}
    flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", value)]
    for launcher, address in (("torchrun", "127.0.0.1"), ("srun", "localhost")):
        arguments = ["pretrain", photos, "--out", tmp_path / launcher, *flags]
        assert together(2, whole_command, arguments, launcher=launcher) == [(address, 2)] * 2
    states = [torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("torchrun", "srun")]
    assert states[0]["objective"].keys() == states[1]["objective"].keys()
    for name, values in states[0]["objective"].items():
        assert torch.equal(values, states[1]["objective"][name])
    assert trace(tmp_path / "torchrun") == trace(tmp_path / "srun")
    launches = [read_json(tmp_path / name / "config.json")["record"]["launch"] for name in ("torchrun", "srun")]
    assert [(one["how"], one["world"], one["here"]) for one in launches] == [("torchrun", 2, 2), ("srun", 2, 2)]


def test_other_verbs_refuse_to_run_many_times(monkeypatch, capsys):
    from unmask.cli.main import run
    from unmask.planning.loaders import divide

    values = {"TORCHELASTIC_RUN_ID": "x", "RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match="unmask evaluate runs as one process"):
        run(["evaluate", "run", "--on", "labelled"])
    with pytest.raises(UserError, match="a batch of 9 cannot be worked off in equal parts, one on each of 2 devices"):
        divide(9, 1)


def test_blocks_are_found_to_be_gathered_one_by_one():
    assert (
        len([*stacked(objective())]) == 4
    )  # two of the encoder, two of the decoder, of which the last is of another kind
