"""Optimizers and their parameter groups, as MAE's recipes have them. He et al. 2021, tables 8 to 11.

AdamW over bf16 weights updates fp32 masters: see `speed/bf16_weights.py`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from unmask.errors import UserError, closest
from unmask.training.lars import Lars
from unmask.training.objective import Objective
from unmask.training.settings import OPTIMIZERS
from unmask.training.speed.bf16_weights import master

MOMENTUM = 0.9  # of sgd and lars


def make_optimizer(
    objective: Objective,
    name: str = "adamw",
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    fused: bool = True,
) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters; its learning rate is set at every step.

    fused: one pass over the weights, where the device supports it. Raises UserError for a name that is not in
    OPTIMIZERS, and for bf16 weights with an optimizer other than AdamW.
    """
    parameters = groups(objective, weight_decay)
    low = any(master(p) is not None for group in parameters for p in group["params"])
    if name == "adamw":
        kind = MasterAdamW if low else torch.optim.AdamW
        return kind(parameters, lr=0.0, betas=betas, eps=1e-8, fused=fused and _can_fuse(objective))
    if low:
        raise UserError(f"--precision bf16-weights needs --optimizer adamw, which keeps fp32 masters; got {name}")
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, momentum=MOMENTUM)
    if name == "lars":
        return Lars(parameters, momentum=MOMENTUM)
    raise UserError(f"no optimizer {name!r}{closest(name, OPTIMIZERS)} There are: {', '.join(OPTIMIZERS)}")


class MasterAdamW(torch.optim.AdamW):
    """AdamW that updates the fp32 masters of bf16 weights, then rounds them into the weights. Its moments are fp32.

    The parameter groups hold the weights, whose gradients are clipped and cleared as usual; a second AdamW updates the
    masters. The masters are saved with the model (`bf16_weights.py`), the moments here; both exactly.
    """

    def __init__(self, params: list[dict[str, Any]], **options: Any):
        super().__init__(params, **options)
        self.weights = [p for group in self.param_groups for p in group["params"]]
        self.masters = [p if (full := master(p)) is None else full for p in self.weights]
        own = iter(self.masters)
        self.inner = torch.optim.AdamW([g | {"params": [next(own) for _ in g["params"]]} for g in params], **options)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update; gradients come in the weights' own dtype."""
        for group, inner in zip(self.param_groups, self.inner.param_groups):
            inner["lr"], inner["weight_decay"] = group["lr"], group["weight_decay"]
        vars(self.inner)["found_inf"] = getattr(self, "found_inf", None)  # see `update`
        for pairs in _portions([pair for pair in zip(self.weights, self.masters) if pair[0].grad is not None]):
            gradients = [weight.grad for weight, _ in pairs if weight.grad is not None]  # all have one
            for (_, full), gradient in zip(pairs, gradients):
                full.grad = gradient.to(full.dtype)
            self.inner.step()
            for (weight, full), gradient in zip(pairs, gradients):
                full.grad = gradient if weight is full else None
            if rounded := [(weight, full) for weight, full in pairs if weight is not full]:
                weights, masters = [weight for weight, _ in rounded], [full for _, full in rounded]
                torch._foreach_copy_(weights, masters)  # one kernel for all of them on a GPU
        self._share_moments()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """By the inner optimizer, since torch rounds moments to the dtype of the weights."""
        super().load_state_dict(state_dict | {"state": {}})
        self.inner.load_state_dict(state_dict)
        self._share_moments()

    def _share_moments(self) -> None:
        for weight, full in zip(self.weights, self.masters):
            if full in self.inner.state:
                self.state[weight] = self.inner.state[full]


Pair = tuple[torch.Tensor, torch.Tensor]  # a weight and its master, which is the weight itself if that is fp32


def _portions(pairs: list[Pair], most: int = 16_000_000) -> Iterator[list[Pair]]:
    """Splits a list into portions of limited size: fp32 copies of gradients exist for one portion at a time."""
    portion, size = [], 0
    for weight, full in pairs:
        if portion and size + weight.numel() > most:
            yield portion
            portion, size = [], 0
        portion.append((weight, full))
        size += weight.numel()
    if portion:
        yield portion


def groups(objective: Objective, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups by `objective.treatment`: those with weight decay first, each with its factor `scale`."""
    parameters: dict[tuple[bool, float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            scale, decays = objective.treatment(name, parameter)
            parameters.setdefault((not decays, scale, parameter.ndim < 2), []).append(parameter)
    if not parameters:
        raise UserError("nothing is left to train: all parameters are frozen")
    return [
        {"params": parameters[key], "weight_decay": 0.0 if key[0] else weight_decay, "scale": key[1]}
        for key in sorted(parameters)
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of this step times each group's `scale`. Rates that are tensors, as captured graphs need them, are
    filled in place."""
    for group in optimizer.param_groups:
        scaled = rate * group.get("scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def set_weight_decay(optimizer: torch.optim.Optimizer, weight_decay: float) -> None:
    """Sets the weight decay of this step, for the groups that have any."""
    for group in optimizer.param_groups:
        if group["weight_decay"]:
            group["weight_decay"] = weight_decay


def clip_each(parameters: Iterable[torch.nn.Parameter], most: float) -> torch.Tensor:
    """Scales the gradient of every tensor to a norm of at most `most`, each by itself, as DINO does (Caron et al.
    2021); returns the norm of all of them before. The host waits for nothing."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([gradient.norm() for gradient in gradients])
    factors = (most / (norms + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, list(factors.unbind()))
    return norms.norm()


def update(optimizer: Any, good: torch.Tensor) -> None:
    """One step, skipped if `good`, a 0-dim bool on the device, is False: weights, moments and counts then stay.

    A fused optimizer decides that on the device, as it does for gradient scalers; for others the host must read `good`
    and waits for the device.
    """
    if skips_on_device(optimizer):
        optimizer.found_inf = (~good).float()
        optimizer.step()
    elif bool(good):
        optimizer.step()


def skips_on_device(optimizer: Any) -> bool:
    """True if an optimizer reads `found_inf`: the fused AdamW, and any with the attribute `skips_on_device`."""
    fused = isinstance(optimizer, torch.optim.Adam) and optimizer.defaults.get("fused")
    return bool(fused or getattr(optimizer, "skips_on_device", False))


def _can_fuse(module: torch.nn.Module) -> bool:
    return next(module.parameters()).device.type in ("cpu", "cuda", "mps")
