"""Optimizers and the warm-up cosine schedule, as MAE's recipes have them. He et al. 2021, tables 8 to 11."""

import math
from typing import Any

import torch
from timm.optim.lars import Lars

from unmask.errors import UserError, closest
from unmask.objective import Objective

OPTIMIZERS = ("adamw", "sgd", "lars")
MOMENTUM = 0.9  # of sgd and lars


def make_optimizer(
    objective: Objective, name: str = "adamw", weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.95)
) -> torch.optim.Optimizer:
    """The optimizer over all trained parameters; its learning rate is set at every step. AdamW is the fused one.

    Raises UserError for a name that is not one of OPTIMIZERS.
    """
    parameters = groups(objective, weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=0.0, betas=betas, eps=1e-8, fused=_can_fuse(objective))
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=0.0, momentum=MOMENTUM)
    if name == "lars":  # trust ratios for matrices only, as in MAE's linear evaluation (You et al. 2017)
        for group in parameters:
            group["always_adapt"] = group["params"][0].ndim > 1
        return Lars(parameters, lr=0.0, momentum=MOMENTUM, trust_coeff=0.001)  # pyright: ignore[reportArgumentType]
    raise UserError(f"no optimizer {name!r}{closest(name, OPTIMIZERS)} There are: {', '.join(OPTIMIZERS)}")


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


def learning_rate(step: int, *, steps: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    """Rate of step 0..steps-1: a line from exactly 0 to `peak` over `warmup` steps, then half a cosine to `floor`."""
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def peak_rate(batch: int, width: int) -> float:
    """A peak for AdamW on MAE when none is given. width: of the encoder.

    2.4e-3 at batch 4096 (1.5e-4 per 256, He et al. 2021, table 8); below that times the square root of the share, not
    the share: published small runs (batch 128: 5e-4; batch 256: 2e-4 to 2.4e-3) sit near the root. Encoders narrower
    than 384 bear more, and in short runs need it: 1e-3 at any batch.
    """
    return 1e-3 if width < 384 else 2.4e-3 * math.sqrt(batch / 4096)


def _can_fuse(module: torch.nn.Module) -> bool:
    return next(module.parameters()).device.type in ("cpu", "cuda", "mps")
