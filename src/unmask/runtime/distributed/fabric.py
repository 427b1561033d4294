"""Training on several devices: Lightning Fabric, set up from the settings and from how the process was launched.

Alone: one device. Started by torchrun or srun: DDP (each device has the whole model, gradients are averaged; Li et al.
2020) or FSDP2 (weights, gradients and moments are sharded over devices and gathered block by block; Zhao et al. 2023).
No processes are started here; Fabric reads the launcher's environment.
"""

import inspect
import logging
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.plugins.precision import MixedPrecision, Precision
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.strategies.model_parallel import ModelParallelStrategy
from torch import nn

from unmask.errors import UserError
from unmask.runtime.blocks import stacked
from unmask.runtime.distributed.launcher import Launch, launch
from unmask.runtime.machine import autocast_dtype
from unmask.runtime.settings import RuntimeSettings

TIMEOUT = timedelta(minutes=10)  # of a training step: longer waits go over `ranks`
ENVIRONMENTS = {"alone": LightningEnvironment, "torchrun": TorchElasticEnvironment, "srun": SLURMEnvironment}


def make_fabric(settings: RuntimeSettings, *, alone: bool = False, idle: bool = False) -> Fabric:
    """Lightning Fabric over the devices of this launch; it prints nothing.

    alone: only this process, whatever was launched, e.g. to time a few steps. idle: some parameters get no gradient in
    some steps.
    """
    for name in ("lightning.fabric", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    launched, device = launch(), settings.device
    precision = precision_plugin(settings)
    if launched.world == 1 or alone:
        devices = [launched.rank % launched.here] if device == "cuda" else 1
        return Fabric(accelerator=device, devices=devices, plugins=[LightningEnvironment(), precision])
    if device == "mps":
        raise UserError("an Apple GPU trains alone; start unmask without torchrun, or with --device cpu")
    fabric = Fabric(
        accelerator=device,
        devices=launched.here,
        num_nodes=launched.nodes,
        strategy=_strategy(settings.strategy, launched.world, idle),
        plugins=[_environment(launched.how), precision],
    )
    _connect(launched, device)
    fabric.launch()
    return fabric


def meet(device: str) -> None:
    """Connects the processes of one training, if there are several. device: the option, which may be "auto"."""
    if launch().world > 1 and not dist.is_initialized():
        if device == "auto":  # not touching a GPU before each process has its own
            device = "cuda" if torch.cuda.is_available() else "cpu"
        make_fabric(RuntimeSettings(device=device, precision="32"))


def shard(model: nn.Module, mesh: Any) -> nn.Module:
    """Shards every repeated block separately, and the rest of the model together."""
    from torch.distributed.fsdp import fully_shard

    for _, block in stacked(model):
        fully_shard(block, mesh=mesh["data_parallel"])
    return fully_shard(model, mesh=mesh["data_parallel"])  # pyright: ignore[reportReturnType]


def precision_plugin(settings: RuntimeSettings) -> Precision:
    """How Fabric computes in the precision of the settings."""
    if autocast_dtype(settings.precision) is None:
        return Precision()
    return Autocast("bf16-mixed", settings.device)


class Autocast(MixedPrecision):
    """Lightning's mixed precision without rounding images: Lightning converts all inputs to bf16, and so the targets,
    although bf16 cannot represent pixel values deeper than 8 bits."""

    def convert_input(self, data: Any) -> Any:
        return data


def _connect(launched: Launch, device: str) -> None:
    """Lightning would connect processes itself, but torchrun keeps one store across all restarts of a job, which then
    holds addresses of dead processes: each restart gets its own prefix."""
    if launched.how != "torchrun" or dist.is_initialized():
        return
    store, rank, world = next(dist.rendezvous("env://", rank=launched.rank, world_size=launched.world))  # pyright: ignore[reportPrivateImportUsage]
    own = dist.PrefixStore(f"unmask/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)  # pyright: ignore[reportPrivateImportUsage]
    on: dict[str, Any] = {"device_id": torch.device(device, launched.rank % launched.here)} if device == "cuda" else {}
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=own, rank=rank, world_size=world, timeout=TIMEOUT, **on)


def _strategy(strategy: str, world: int, idle: bool) -> Any:
    if strategy == "fsdp2":
        return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1, timeout=TIMEOUT)
    parameters = inspect.signature(nn.parallel.DistributedDataParallel).parameters  # its name changed in torch 2.15
    buffers: dict[str, Any] = {
        "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers": False
    }
    return DDPStrategy(timeout=TIMEOUT, find_unused_parameters=idle, **buffers)


def _environment(how: str) -> Any:
    try:
        return SLURMEnvironment(auto_requeue=False) if how == "srun" else ENVIRONMENTS[how]()
    except RuntimeError as error:  # SLURM without --ntasks-per-node
        raise UserError(f"srun: {error}") from error
