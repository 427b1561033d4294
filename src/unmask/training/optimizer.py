"""Optimizers and the warm-up cosine schedule, as MAE's recipes have them. He et al. 2021, tables 8 to 11.

AdamW over bf16 weights updates fp32 masters: see `lowering.py`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from timm.optim.lars import Lars
from torch.optim.adamw import adamw

from unmask.errors import UserError, closest
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
    """The optimizer over all trained parameters; its learning rate is set at every step.

    fused: one pass over the weights, where the device has that. Raises UserError for a name that is not one of
    OPTIMIZERS, and for bf16 weights with another one than AdamW.
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
    if name == "lars":  # trust ratios for matrices only, as in MAE's linear evaluation (You et al. 2017)
        for group in parameters:
            group["always_adapt"] = group["params"][0].ndim > 1
        return Lars(parameters, lr=0.0, momentum=MOMENTUM, trust_coeff=0.001)  # pyright: ignore[reportArgumentType]
    raise UserError(f"no optimizer {name!r}{closest(name, OPTIMIZERS)} There are: {', '.join(OPTIMIZERS)}")


class MasterAdamW(torch.optim.AdamW):
    """AdamW that updates the fp32 masters of bf16 weights, then rounds them into the weights. Its moments are fp32.

    The masters are saved with the model (`lowering.py`), the moments here; both are exact.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update; gradients come in the weights' own dtype."""
        for group in self.param_groups:
            for part in _portions([p for p in group["params"] if p.grad is not None]):
                self._update(part, group)

    def _update(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        masters = [p if (full := master(p)) is None else full for p in parameters]
        for parameter, full in zip(parameters, masters):
            if parameter not in self.state:
                zeros = {name: torch.zeros_like(full) for name in ("exp_avg", "exp_avg_sq")}
                self.state[parameter] = zeros | {"step": torch.zeros((), device=full.device)}
        states = [self.state[p] for p in parameters]
        adamw(
            masters,
            [p.grad.to(full.dtype) for p, full in zip(parameters, masters)],  # type: ignore[union-attr]
            *([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq")),
            max_exp_avg_sqs=[],
            state_steps=[state["step"] for state in states],
            fused=group["fused"],
            found_inf=getattr(self, "found_inf", None),  # see `update`
            foreach=False,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        low = [(p, full) for p, full in zip(parameters, masters) if p is not full]
        if low:
            pairs = [p for p, _ in low], [full for _, full in low]
            torch._foreach_copy_(*pairs)  # pyright: ignore[reportPrivateImportUsage]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Torch's would round the moments to the dtype of the weights."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, parameters):
            for name, value in state_dict["state"].get(number, {}).items():
                self.state[parameter][name] = value.to(device=parameter.device, dtype=torch.float32, copy=True)


def _portions(parameters: list[torch.Tensor], most: int = 16_000_000) -> Iterator[list[torch.Tensor]]:
    """Lists of at most so many numbers: the fp32 copies of the gradients are there for one of them at a time."""
    part, size = [], 0
    for parameter in parameters:
        if part and size + parameter.numel() > most:
            yield part
            part, size = [], 0
        part.append(parameter)
        size += parameter.numel()
    if part:
        yield part


def groups(objective: Objective, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups by what `objective.treatment` says: those that decay first, each with its factor `scale`."""
    found: dict[tuple[bool, float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            scale, decays = objective.treatment(name, parameter)
            found.setdefault((not decays, scale, parameter.ndim < 2), []).append(parameter)
    if not found:
        raise UserError("nothing is left to train: all parameters are frozen")
    return [
        {"params": found[key], "weight_decay": 0.0 if key[0] else weight_decay, "scale": key[1]}
        for key in sorted(found)
    ]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of this step, times each group's own `scale`. Rates that are tensors, as captured graphs need them, are
    filled in place."""
    for group in optimizer.param_groups:
        scaled = rate * group.get("scale", 1.0)
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def update(optimizer: Any, good: torch.Tensor) -> None:
    """One step, left out where `good`, a 0-dim bool on the device, is False: weights, moments and counts then stay.

    A fused optimizer decides that on the device, as it does for gradient scalers; for others the host must look, and so
    waits for the device.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # Fabric wraps it
    if skips_on_device(inner):
        inner.found_inf = (~good).float()
        optimizer.step()
    elif bool(good):
        optimizer.step()


def skips_on_device(optimizer: Any) -> bool:
    """Whether an optimizer reads `found_inf`: the fused AdamW does, and one that says so by `skips_on_device`."""
    fused = isinstance(optimizer, torch.optim.Adam) and optimizer.defaults.get("fused")
    return bool(fused or getattr(optimizer, "skips_on_device", False))


def _can_fuse(module: torch.nn.Module) -> bool:
    return next(module.parameters()).device.type in ("cpu", "cuda", "mps")
