"""Several processes on one machine that know each other, as torchrun makes them, forked from a server."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from support import forked
from support.small import SMALL
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import Loader
from unmask.data.source import open_source
from unmask.data.transforms.kernels.crop import RandomCrop
from unmask.registry import build
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.distributed.launcher import launch
from unmask.runtime.progress import make_console
from unmask.runtime.settings import RuntimeSettings
from unmask.training.log import Log, Silent, read
from unmask.training.loop import fit
from unmask.training.objective import Objective
from unmask.training.settings import Fit

STEPS, BATCH = 8, 8


def together(world: int, job: Any, *args: Any, launcher: str = "torchrun") -> list[Any]:
    """What `job(*args)` returns in each of `world` processes, which have the environment that the launcher makes."""
    port = free_port()
    pipes = [forked.CONTEXT.Pipe() for _ in range(world)]
    processes = [
        forked.CONTEXT.Process(target=_in_group, args=(ENVIRONMENTS[launcher](rank, world, port), there, job, args))
        for rank, (_, there) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    found = [here.recv() if here.poll(240) else "no answer" for here, _ in pipes]
    for process in processes:
        process.join(20)
        process.kill()
    assert not any(isinstance(one, str) for one in found), found
    return found


def free_port() -> int:
    """A port that nobody listens at, of those at which the processes of an srun meet."""
    for port in range(15000 + os.getpid() % 5000, 25000):
        with socket.socket() as free, suppress(OSError):
            free.bind(("", port))
            return port
    raise OSError("no free port")


def torchrun_environment(rank: int, world: int, port: int) -> dict[str, Any]:
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": rank, "GROUP_RANK": 0}
    return places | {"TORCHELASTIC_RUN_ID": "test", "RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}


def srun_environment(rank: int, world: int, port: int) -> dict[str, Any]:
    """As of `srun` inside a batch script, on this machine, whose list names others too. Nothing says where to meet; the
    numbers of job and step lead to the port."""
    job = {"JOB_ID": 70000, "NTASKS": world, "NNODES": 1, "JOB_NODELIST": "elsewhere[01-03,7]", "NODELIST": "elsewhere"}
    step = {"STEP_ID": port - 15000, "STEP_NUM_TASKS": world, "STEP_NUM_NODES": 1, "STEP_TASKS_PER_NODE": world}
    task = {"STEP_NODELIST": "local[host,7-9]", "PROCID": rank, "LOCALID": rank, "NODEID": 0}
    return {f"SLURM_{name}": value for name, value in (job | step | task).items()}


ENVIRONMENTS = {"torchrun": torchrun_environment, "srun": srun_environment}


def _in_group(environment: dict[str, Any], there: Any, job: Any, args: tuple) -> None:
    os.environ |= {name: str(value) for name, value in environment.items()} | {"OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    try:
        there.send(job(*args))
    except BaseException as error:
        there.send(f"{type(error).__name__}: {error}")
        raise


def objective(seed: int = 0, **options: Any) -> Objective:
    from unmask.models.encoder import create_encoder

    torch.manual_seed(seed)
    model = SMALL["model"].replace("depth=1", "depth=2")
    encoder = create_encoder(model, image_size=(32, 32), patch_size=8)
    parts = {"decoder": "full(dim=32, depth=2, heads=2)", "mask": "block", "target": "pixels"}
    return build("method", "mae", encoder=encoder, **parts | options)


def train(photos: Path, out: Path, strategy: str, accumulate: int = 1, watch: Any = None, **options: Any) -> Objective:
    """The loop over photographs, in as many processes as we are."""
    launched, model = launch(), objective(**options)
    devices = make_devices(RuntimeSettings(strategy=strategy), idle="decoder_warmup" in options)
    out.mkdir(exist_ok=True)
    samples = Samples(open_source([str(photos)]), range(24), channels=3)
    shared = {"batch": BATCH // accumulate // launched.world, "rank": launched.rank, "world": launched.world}
    loader = Loader(samples=samples, view=RandomCrop((32, 32)), seed=3, **shared)
    config = Fit(steps=STEPS, batch=BATCH, lr=1e-3, clip=0.5, accumulate=accumulate, seed=3, log_every=1, save_every=3)
    log = Log(out, make_console(), BATCH, 24) if launched.rank == 0 else Silent()
    fit(model, loader, config, out, devices, log, *([watch] if watch else []))
    return model


def trace(out: Path) -> list[tuple[float, float]]:
    """Loss and gradient norm of every step."""
    return [(record["loss"], record["grad_norm"]) for record in read(out / "metrics.jsonl") if "loss" in record]
