"""The part of `scale.py` that is really run, on a CPU: bytes that DDP and FSDP2 hand over in a step, and losses."""

import os
import socket
from typing import Any

import torch
from torch import multiprocessing
from torch.utils._python_dispatch import TorchDispatchMode

STEPS, BATCH = 3, 16


class Handed(TorchDispatchMode):
    """Bytes by kind of collective that were handed over, as each sees them: what is gathered, or what is summed."""

    def __init__(self):
        super().__init__()
        self.bytes: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            name = func.__name__.split(".")[0].strip("_")
            sizes = [t.nbytes for t in torch.utils._pytree.tree_leaves(args) if isinstance(t, torch.Tensor)]
            self.bytes[name] = self.bytes.get(name, 0) + max(sizes, default=0)
        return func(*args, **(kwargs or {}))


def measure(world: int) -> dict[str, Any]:
    """A small MAE in `world` processes with gloo: losses of a few steps and bytes of one, by strategy. One process is
    this one."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    if world == 1:
        return _run(0, world, port)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    processes = [context.Process(target=_run, args=(rank, world, port, there)) for rank in range(world)]
    for process in processes:
        process.start()
    found = here.recv()
    for process in processes:
        process.join()
    return found


def _run(rank: int, world: int, port: int, there: Any = None) -> dict[str, Any]:
    os.environ |= {"TORCHELASTIC_RUN_ID": "scale", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    os.environ |= {"LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
    torch.set_num_threads(1)
    found = {"processes": world} | {strategy: _steps(rank, world, strategy) for strategy in ("ddp", "fsdp2")}
    if rank == 0 and there is not None:
        there.send(found)
    return found


def _steps(rank: int, world: int, strategy: str) -> dict[str, Any]:
    from unmask.masking.mask import Rows
    from unmask.methods.mae import MAE
    from unmask.models.encoder import create_encoder
    from unmask.runtime.distributed.data_parallel import make_devices
    from unmask.runtime.settings import RuntimeSettings
    from unmask.training.optimizer import make_optimizer

    devices = make_devices(RuntimeSettings(strategy=strategy))
    torch.manual_seed(0)
    encoder = create_encoder("vit_tiny_patch16_224(depth=4)", image_size=(64, 64), patch_size=8)
    parts = {"decoder": "full(dim=128, depth=2, heads=4)", "mask": "random", "target": "pixels"}
    objective = MAE(encoder, **parts)
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    model = devices.setup(objective)
    optimizer = make_optimizer(objective)
    losses, count = [], BATCH // world
    for step in range(STEPS):
        images = torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(step)) * 255
        rows = Rows(step, rank * count, count, BATCH)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3
        with Handed() as handed:  # that of the last step is kept
            loss = model({"views": [images[rank * count :][:count]], "rows": rows})["loss"]
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(devices.mean(loss.detach())))
    return {"trained": trained, "losses": losses, "handed_bytes": handed.bytes, "gradient_bytes": 4 * trained}
