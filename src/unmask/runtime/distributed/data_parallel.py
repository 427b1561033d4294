"""Training on several devices: torch's DDP, FSDP2 and autocast, set up from the settings and from how we were launched.

Alone: one device. Started by torchrun or srun: DDP (each device has the whole model, gradients are averaged; Li et al.
2020) or FSDP2 (weights, gradients and moments are sharded over devices and gathered block by block; Zhao et al. 2023).
No processes are started here.
"""

import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.runtime.blocks import stacked
from unmask.runtime.distributed.launcher import Launch, launch, slurm_meeting_point
from unmask.runtime.machine import autocast_dtype
from unmask.runtime.settings import RuntimeSettings

TIMEOUT = timedelta(minutes=10)  # of a training step: longer waits go over `ranks`


class Devices:
    """The device of this process, and those that train with it. Make it with `make_devices`."""

    def __init__(self, settings: RuntimeSettings, launched: Launch, alone: bool, idle: bool):
        """launched: which of how many processes this is; see `make_devices`."""
        self.rank, self.world, self.idle = (0, 1, idle) if alone else (launched.rank, launched.world, idle)
        self.dtype, self.strategy = autocast_dtype(settings.precision), settings.strategy
        own = 0 if torch.cuda.device_count() == 1 else launched.local  # srun may show each process its own GPU only
        index = {"cuda": f":{own}", "mps": ":0"}.get(settings.device, "")
        self.device = torch.device(settings.device + index)

    def setup(self, module: nn.Module) -> "Wrapped":
        """`module` on this device, to be called in training: under autocast, with gradients averaged over processes.
        Make the optimizer afterwards: FSDP2 exchanges the parameters for shards of them."""
        module = module.to(self.device)
        if self.world > 1:
            module = self._sharded(module) if self.strategy == "fsdp2" else self._copied(module)
        return Wrapped(module, self)

    def _copied(self, module: nn.Module) -> nn.Module:
        on_gpu = self.device.type == "cuda"
        parameters = inspect.signature(nn.parallel.DistributedDataParallel).parameters  # a name changed in torch 2.15
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"
        options: dict[str, Any] = {buffers: False, "find_unused_parameters": self.idle}
        with torch.cuda.stream(torch.cuda.Stream()) if on_gpu else nullcontext():  # as torch's notes on CUDA ask
            return nn.parallel.DistributedDataParallel(module, [self.device] if on_gpu else None, **options)

    def _sharded(self, module: nn.Module) -> nn.Module:
        """Shards every repeated block separately, and the rest of the model together."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.world,))
        for _, block in stacked(module):
            fully_shard(block, mesh=mesh)
        return fully_shard(module, mesh=mesh)  # pyright: ignore[reportReturnType]

    def autocast(self) -> AbstractContextManager:
        """The precision to compute in."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def move(self, batch: Any) -> Any:
        """A batch on this device: tensors and what else has a `to`, also inside of dicts, lists and tuples."""
        if isinstance(batch, Tensor):
            return batch.to(self.device, non_blocking=self.device.type == "cuda")
        if isinstance(batch, Mapping):
            return {name: self.move(value) for name, value in batch.items()}
        if isinstance(batch, list | tuple):
            parts = [self.move(value) for value in batch]
            return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
        return batch.to(self.device) if hasattr(batch, "to") else batch

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over all processes, written into it; the host waits for no GPU."""
        if self.world > 1:
            dist.all_reduce(values)
            values.div_(self.world)
        return values


class Wrapped(nn.Module):
    """A module called in the precision of its devices; a dict of tensors comes back, of mixed precision in fp32. Inputs
    stay as they are: images deeper than 8 bits are numbers that bf16 does not have."""

    def __init__(self, module: nn.Module, devices: Devices):
        super().__init__()
        self.module, self.devices = module, devices

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        with self.devices.autocast():
            outputs = self.module(batch)
        if self.devices.dtype is None:
            return outputs
        return {name: value.float() if value.is_floating_point() else value for name, value in outputs.items()}

    @contextmanager
    def accumulating(self, enabled: bool = True) -> Iterator[None]:
        """Gradients of this backward pass stay here: a later one of the same step exchanges their sum."""
        if not enabled or self.devices.world == 1:
            yield
        elif isinstance(self.module, nn.parallel.DistributedDataParallel):
            with self.module.no_sync():
                yield
        else:
            sharded: Any = self.module
            sharded.set_requires_gradient_sync(False)
            try:
                yield
            finally:
                sharded.set_requires_gradient_sync(True)


def make_devices(settings: RuntimeSettings, *, alone: bool = False, idle: bool = False) -> Devices:
    """The devices of this launch, connected.

    alone: only this process, whatever was launched, e.g. to time a few steps. idle: some parameters get no gradient in
    some steps.
    """
    launched = launch()
    if launched.world > 1 and not alone:
        if settings.device == "mps":
            raise UserError("an Apple GPU trains alone; start unmask without torchrun, or with --device cpu")
        devices = Devices(settings, launched, alone=False, idle=idle)
        _connect(launched, devices.device)
        return devices
    return Devices(settings, launched, alone=True, idle=idle)


def meet(device: str) -> None:
    """Connects the processes of one training, if there are several. device: the option, which may be "auto"."""
    if launch().world > 1 and not dist.is_initialized():
        if device == "auto":  # not touching a GPU before each process has its own
            device = "cuda" if torch.cuda.is_available() else "cpu"
        make_devices(RuntimeSettings(device=device, precision="32"))


def _connect(launched: Launch, device: torch.device) -> None:
    """Joins the process group, once. torchrun keeps one store across all restarts of a job, which then holds addresses
    of dead processes: each restart gets its own prefix."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_initialized():
        return
    if launched.how == "srun":
        address, port = slurm_meeting_point()
        os.environ.setdefault("MASTER_ADDR", address)
        os.environ.setdefault("MASTER_PORT", str(port))
    store, rank, world = next(dist.rendezvous("env://", rank=launched.rank, world_size=launched.world))  # pyright: ignore[reportPrivateImportUsage]
    own = dist.PrefixStore(f"unmask/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)  # pyright: ignore[reportPrivateImportUsage]
    on: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=own, rank=rank, world_size=world, timeout=TIMEOUT, **on)
