"""Memory that a training step needs, computed beforehand: a process that runs out of main memory is killed without a
message, so trying it out is not an option."""

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from unmask.errors import many
from unmask.training.objective import Batch, Objective

Autocast = Callable[[], AbstractContextManager[Any]]
SAFE = 0.85  # share of the free memory to plan with: libraries take some, and other programs may need more
CERTAIN = 0.25  # below this share, measuring one sample is enough
GROWN = 1.9  # growth of the peak from n to 2 n samples that shows that activations dominate it


class TooLarge(Exception):
    """A step needs more memory than is free; the text says how much."""


def check_fits(objective: Objective, batch: Batch, size: int, autocast: Autocast) -> None:
    """Raises TooLarge if a step of `size` samples would not fit into the free memory of this machine.

    batch: samples like those of the step, any number. autocast: the precision of a step.
    """
    free = psutil.virtual_memory().available
    if size * _peak(objective, _first(batch, 1), autocast) + _moments(objective) < CERTAIN * free:
        return
    need = step_bytes(objective, batch, size, autocast)
    if need > SAFE * free:
        raise TooLarge(
            f"{many(size, 'image')} at a time need about {need / 2**20:,.0f} MB, {free / 2**20:,.0f} MB are free"
        )


def step_bytes(objective: Objective, batch: Batch, size: int, autocast: Autocast = nullcontext) -> int:
    """Bytes of a training step of `size` samples with AdamW: gradients, moments and the peak of activations. Weights
    exist already and are not counted. Measured with a few samples of `batch`: enough for activations, which grow with
    their number, to outweigh gradients, which do not."""
    few, before, peak, gradients = 1, 0, _peak(objective, _first(batch, 1), autocast), _moments(objective) // 2
    while few < size and (few == 1 or (peak < GROWN * before and peak < 4 * gradients)):
        few, before = min(2 * few, size), peak
        peak = _peak(objective, _first(batch, few), autocast)
    per_sample = (peak - before) / (few - few // 2) if few > 1 else 0
    return _moments(objective) + round(peak + (size - few) * per_sample)


def _moments(objective: Objective) -> int:
    return 2 * sum(4 * p.numel() for p in objective.parameters() if p.requires_grad)


def _peak(objective: Objective, batch: Batch, autocast: Autocast) -> int:
    norms = [m for m in objective.modules() if isinstance(m, _BatchNorm) and m.training]
    objective.zero_grad(set_to_none=True)
    for norm in norms:
        norm.eval()  # BatchNorm refuses to train on one sample; in eval mode it needs about as much memory
    with torch.random.fork_rng(), _Alive() as alive:
        with autocast():
            loss = objective(batch)["loss"]
        loss.backward()
    for norm in norms:
        norm.train()
    objective.zero_grad(set_to_none=True)
    return alive.peak


def _first(batch: Batch, count: int) -> Batch:
    """The first samples of a batch, repeated where it has too few."""
    views = [x[torch.arange(count, device=x.device) % len(x)] for x in batch["views"]]
    rest = {k: v for k, v in batch.items() if k not in ("views", "rows")}
    tensors = {k: v[:count] for k, v in rest.items() if isinstance(v, Tensor)}
    lists = {k: [v[i % len(v)] for i in range(count)] for k, v in rest.items() if isinstance(v, list)}
    return {"views": views} | tensors | lists


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors that operations create, for as long as they are referenced."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inside = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in inside:
                self._note(storage)
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def step_flops(objective: Objective, batch: Batch) -> float:
    """FLOPs per sample of forward and backward on a batch: matrix products and convolutions, two for each
    multiply-add. Elementwise work and the optimizer, a percent or so, are left out. Gradients are left as None.
    """
    with FlopCounterMode(display=False) as counter, torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        objective(batch)["loss"].backward()  # fused attention would hide its products from the counter
    objective.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(batch["views"][0])
