"""The one training loop: every method and every task runs through `fit`."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from unmask import checkpoint
from unmask.errors import Diverged, Interrupted, UserError, closest
from unmask.log import Log
from unmask.objective import Batch, Objective
from unmask.optim import OPTIMIZERS, learning_rate, make_optimizer
from unmask.seeds import mix
from unmask.stop import StopRequest


@dataclass(frozen=True, kw_only=True)
class Fit:
    steps: int  # optimizer steps in all
    batch: int  # samples per optimizer step, over all devices
    lr: float  # peak learning rate
    warmup: int = 0  # steps
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    optimizer: str = "adamw"  # or sgd, lars
    fused: bool = True  # the optimizer in one pass over the weights
    floor: float = 0.0  # learning rate at the end of the cosine
    clip: float | None = None  # gradient norm; None: off, as in MAE
    accumulate: int = 1  # micro-batches per optimizer step
    seed: int = 0
    seconds: float | None = None  # time budget; the number of steps follows the speed, to end in time
    log_every: int = 10  # steps
    save_every: int = 1000  # steps between writing last.ckpt
    keep_every: int = 0  # steps between lasting copies; 0: none
    patience: int = 10  # non-finite steps in a row that end the run

    def __post_init__(self):
        for name in ("steps", "batch", "accumulate", "log_every", "save_every", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.lr <= 0 or not math.isfinite(self.lr):
            raise UserError(f"the learning rate must be a positive number, got {self.lr}")
        if self.optimizer not in OPTIMIZERS:
            near = closest(self.optimizer, OPTIMIZERS)
            raise UserError(f"no optimizer {self.optimizer!r}{near} There are: {', '.join(OPTIMIZERS)}")


def fit(
    objective: Objective,
    loader: Callable[[int], Iterator[Batch]],
    config: Fit,
    out: Path | None,
    fabric: Fabric,
    log: Log,
    watch: Callable[[int, int], dict[str, Any]] = lambda step, steps: {},
) -> int:
    """Trains `objective` from where `out` left off to the end; returns the number of optimizer steps made.

    `loader(n)` yields micro-batches from the n-th on. `watch(step, steps)` is called after every step and returns what
    it saw, mostly nothing; `{"stop": True}` ends training; it may put the objective in eval mode. With `out=None`
    nothing is saved, for the many short runs of a study. Raises Interrupted (state saved) on a signal and
    Diverged (state saved) on repeated non-finite steps.
    """
    made = make_optimizer(objective, config.optimizer, config.weight_decay, config.betas, config.fused)
    model, optimizer = fabric.setup(objective, made)
    state = {"objective": model, "optimizer": optimizer, "step": 0, "steps": config.steps, "seconds": 0.0}
    state |= {"bad_in_row": 0, "skipped": 0, "window": {}}
    if out is not None and (saved := checkpoint.read_last(out)) is not None:
        model.load_state_dict(saved.pop("objective"))
        optimizer.load_state_dict(saved.pop("optimizer"))
        state |= saved
    log.start(state["step"], state["steps"])
    objective.train()
    stream, started, resumed = loader(state["step"] * config.accumulate), time.monotonic(), state["seconds"]

    with StopRequest() as stop:
        while state["step"] < state["steps"]:
            step = state["step"]
            torch.manual_seed(mix(config.seed, step, fabric.global_rank))  # masks and drops depend on nothing else
            lr = learning_rate(step, steps=state["steps"], warmup=config.warmup, peak=config.lr, floor=config.floor)
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("scale", 1.0)
            objective.before_step(step)
            outputs = backward(model, optimizer, stream, config, fabric)
            if math.isfinite(float(outputs["grad_norm"]) + float(outputs["loss"])):
                optimizer.step()
                objective.after_step((step + 1) / state["steps"])
                state["bad_in_row"] = 0
                _remember(state["window"], outputs)
            else:  # the update is left out: weights and moments stay as they were
                state["bad_in_row"] += 1
                state["skipped"] += 1
                log.skipped(step + 1, lr, float(outputs["loss"]), float(outputs["grad_norm"]))
            optimizer.zero_grad()
            step = state["step"] = step + 1
            state["seconds"] = resumed + time.monotonic() - started

            done, diverged = step >= state["steps"], state["bad_in_row"] >= config.patience
            if step % config.log_every == 0 or done:
                log.step(step, lr, _drain(state["window"]), state["seconds"], state["skipped"])
                log.steps = state["steps"] = _in_time(state, config)
            seen = watch(step, state["steps"])
            if seen.pop("stop", False):
                log.steps, state["steps"], done = step, step, True
            if seen:
                log.note(step, seen)
            objective.train()
            keep = bool(config.keep_every) and step % config.keep_every == 0
            if out is not None and (done or diverged or keep or stop.signum or step % config.save_every == 0):
                checkpoint.save(out, state, keep, fabric.save)
            if diverged:
                raise Diverged(_remedy(step, lr, state["bad_in_row"], outputs, out))
            if stop.signum and not done:
                kept = f"saved in {out}" if out is not None else "nothing of this training is kept"
                raise Interrupted(f"stopped by signal {stop.signum} after step {step}; {kept}", stop.signum)
    return state["step"]


def backward(
    model: Any, optimizer: Any, stream: Iterator[Batch], config: Fit, fabric: Fabric
) -> dict[str, torch.Tensor]:
    """Forward and backward of one optimizer step; returns the means over its micro-batches and the gradient norm."""
    total: dict[str, torch.Tensor] = {}
    for micro in range(config.accumulate):
        batch = fabric.to_device(next(stream))
        with fabric.no_backward_sync(model, enabled=micro < config.accumulate - 1):
            outputs = model(batch)
            fabric.backward(outputs["loss"] / config.accumulate)
        for name, value in outputs.items():
            total[name] = total.get(name, 0) + value.detach().float() / config.accumulate
    if config.clip:
        norm = fabric.clip_gradients(model, optimizer, max_norm=config.clip, error_if_nonfinite=False)
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return total | {"grad_norm": torch.as_tensor(norm)}


def _remember(window: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> None:
    """Sums on the device; they are saved too, so that a resumed run logs the very same means."""
    for name, value in (values | {"count": torch.ones(())}).items():
        window[name] = window.get(name, 0) + value.detach()


def _drain(window: dict[str, torch.Tensor]) -> dict[str, float]:
    count = float(window.pop("count", 0.0))
    means = {name: float(value) / count for name, value in window.items()}
    window.clear()
    return means


def _in_time(state: dict[str, Any], config: Fit) -> int:
    """As many steps as fit into a time budget at the speed so far, fewer or more than planned; the cosine follows."""
    if config.seconds is None or state["step"] >= state["steps"]:
        return state["steps"]
    left = (config.seconds - state["seconds"]) * state["step"] / state["seconds"]
    return max(state["step"], state["step"] + int(left))


def _remedy(step: int, lr: float, times: int, outputs: dict[str, torch.Tensor], out: Path | None) -> str:
    loss, norm = float(outputs["loss"]), float(outputs["grad_norm"])
    where = f"step {step}, learning rate {lr:.3g}, loss {loss:.3g}, gradient norm {norm:.3g}"
    return (
        f"{times} steps in a row had a non-finite loss or gradient ({where}). They were left out, and the last good"
        f" weights are saved in {out}. Start again in a new folder with a lower rate, e.g. --init {out}"
        f" --lr {lr / 5 or 1e-4:.2g} --clip 1, and if that does not help with --precision 32; the data sheet in the run"
        " folder shows whether values are broken."
    )
