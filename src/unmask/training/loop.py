"""The one training loop: every method and every task runs through `fit`."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from unmask.errors import Diverged, Interrupted, Unsaved
from unmask.files import is_full
from unmask.masking.mask import Rows
from unmask.runtime.distributed.ranks import Ranks
from unmask.seeds import mix
from unmask.training import loss_guard, rollback
from unmask.training.checkpoint import Keeping
from unmask.training.log import Log
from unmask.training.loss_guard import Guard
from unmask.training.objective import Batch, Objective
from unmask.training.optimizer import make_optimizer, set_rate, update
from unmask.training.resume import find, keep, unpack
from unmask.training.schedule import learning_rate
from unmask.training.settings import Fit
from unmask.training.signals import StopRequest
from unmask.training.timing import Timed, steps_in_time

MASKS = 0x3A5C  # sets the seeds of masks apart from others


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
    it saw, mostly nothing; `{"stop": True}` ends training, `{"score": x}` says how good the weights are, to keep the
    best; it may put the objective in eval mode. With `out=None` nothing is saved, for the many short runs of a study.
    Nothing in a step waits for the device: what it computed is read where the loop records or saves. Raises Interrupted
    (state saved) on a signal, Diverged (good state saved) when going back did not help, Unsaved on a full disk.
    """
    ranks, model = Ranks(), fabric.setup_module(objective)
    made = make_optimizer(objective, config.optimizer, config.weight_decay, config.betas, config.fused)
    optimizer: Any = fabric.setup_optimizers(made)
    state = {"step": 0, "steps": config.steps, "seconds": 0.0, "waited": 0.0, "best": None}
    state |= loss_guard.fresh() | rollback.fresh()
    keeping = Keeping(out, last=config.keep_last, every=config.save_every, lasting=config.keep_every)
    aside: list[tuple[str, str, str]] = []
    if (saved := find(keeping, ranks, lambda *told: aside.append(told))) is not None:
        state |= unpack(saved, objective, optimizer)
    log.start(state["step"], state["steps"], state["rolled"])
    for event, file, reason in aside:
        text = f"{file} was set aside: {event} ({reason}); going on from step {state['step']}"
        log.event(state["step"], event, text, file=file, reason=reason)
    judge, parts = Guard(state, config.spike, fabric), (keeping, objective, optimizer, log, ranks)
    objective.train()
    stream, started, resumed = open_stream(loader, state, config), time.monotonic(), state["seconds"]

    with StopRequest() as stop:
        while state["step"] < state["steps"]:
            step = state["step"]
            torch.manual_seed(mix(config.seed, step, fabric.global_rank))  # of drops; masks have their own seeds
            lr = learning_rate(step, steps=state["steps"], warmup=config.warmup, peak=config.lr, floor=config.floor)
            set_rate(optimizer, lr)
            objective.before_step(step)
            outputs = backward(model, optimizer, stream, config, fabric, step)
            good = judge.judge(outputs, step + 1, lr)
            update(optimizer, good)
            objective.after_step((step + 1) / state["steps"], good)
            optimizer.zero_grad()
            step = state["step"] = step + 1
            state["seconds"] = resumed + time.monotonic() - started

            done = step >= state["steps"]
            if step % config.log_every == 0 or done:
                state["seconds"], state["waited"] = ranks.most(state["seconds"], state["waited"])
                log.left_out(judge.read())
                if judge.last and rollback.went_wrong(state, config.patience, done):
                    saved = rollback.go_back(state, keeping, config.rollbacks, judge.last)
                    if saved is None:
                        give_up(state, *parts)
                        raise Diverged(rollback.remedy(step, judge.last, state, out))
                    unpack(saved, objective, optimizer)
                    judge.begin()
                    keep(state, *parts, rotate=False)
                    log.rolled_back(state, rollback.told(state, config.rollbacks))
                    stream = open_stream(loader, state, config)
                    continue
                log.step(step, lr, judge.means(), state["seconds"], state["skipped"], state["waited"])
                state["waited"] = 0.0
                log.steps = state["steps"] = steps_in_time(state, config.seconds, config.begins, config.costs)
            seen = look(watch, step, state["steps"], log)
            if seen.pop("stop", False):
                log.steps, state["steps"], done = step, step, True
            best = better(seen.pop("score", None), state)
            if seen:
                log.note(step, seen)
            objective.train()
            asked = ranks.agree(stop.signum or 0)
            if out is not None and (done or asked or best or keeping.due(step)):
                log.left_out(judge.read())
                keeping.owed = bool(state["bad_in_row"]) and not (done or asked)  # what is kept shall be good
                failed = None if keeping.owed else keep(state, *parts, best=best)
                if failed and (done or asked):
                    raise Unsaved(unsaved(failed, step, out))
            if asked and not done:
                kept = f"saved in {out}" if out is not None else "nothing of this training is kept"
                raise Interrupted(f"stopped by signal {asked} after step {step}; {kept}", asked)
    ranks.settle()
    return state["step"]


def backward(
    model: Any, optimizer: Any, stream: Iterator[Batch], config: Fit, fabric: Fabric, step: int = 0
) -> dict[str, torch.Tensor]:
    """Forward and backward of one optimizer step; returns the means over its micro-batches and the gradient norm."""
    total: dict[str, torch.Tensor] = {}
    for micro in range(config.accumulate):
        batch = fabric.to_device(next(stream))
        count, place = len(batch["views"][0]), micro * fabric.world_size + fabric.global_rank
        whole = count * config.accumulate * fabric.world_size
        batch["rows"] = Rows(mix(config.seed, step, MASKS), place * count, count, whole)
        with fabric.no_backward_sync(model, enabled=micro < config.accumulate - 1):
            outputs = model(batch)
            fabric.backward(outputs["loss"] / config.accumulate)
        for name, value in outputs.items():
            total[name] = total.get(name, 0) + value.detach().float() / config.accumulate
    if config.clip:
        norm = fabric.clip_gradients(model, optimizer, max_norm=config.clip, error_if_nonfinite=False)
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    norm: Any = torch.as_tensor(norm)
    return total | {"grad_norm": norm.full_tensor() if hasattr(norm, "full_tensor") else norm}  # of shards: one sum


def open_stream(loader: Callable[[int], Iterator[Batch]], state: dict[str, Any], config: Fit) -> Iterator[Batch]:
    """Micro-batches from where the run is, timed."""
    return Timed(loader(rollback.position(state, config.accumulate)), state)


def look(watch: Callable[[int, int], dict[str, Any]], step: int, steps: int, log: Log) -> dict[str, Any]:
    """What `watch` saw. An image that finds no room on the disk does not end a run."""
    try:
        return dict(watch(step, steps))
    except OSError as error:
        if not is_full(error):
            raise
        log.event(
            step, "unwritten", f"step {step}: {error.filename or 'a file'} could not be written: {error.strerror}"
        )
        return {}


def better(score: float | None, state: dict[str, Any]) -> dict[str, Any] | None:
    """Step and score of the weights, if they are better than all before."""
    if score is None or (state["best"] and score <= state["best"]["score"]):
        return None
    return {"step": state["step"], "score": score}


def give_up(state: dict[str, Any], keeping: Keeping, objective: Objective, optimizer: Any, *rest: Any) -> None:
    """Leaves good weights behind: those of the newest good checkpoint, or where there is none, saves what there is."""
    saved = keeping.good()
    if saved is None or saved["saves"] < state["saves"]:  # then the newest on the disk is none of the good ones
        state = state if saved is None else state | unpack(saved, objective, optimizer) | {"saves": state["saves"]}
        keep(state, keeping, objective, optimizer, *rest, rotate=False)
    else:
        unpack(saved, objective, optimizer)


def unsaved(reason: str, step: int, out: Path) -> str:
    """What to do when the last state of a run cannot be kept."""
    return (
        f"the state after step {step} could not be saved in {out}: {reason}. The checkpoint before it is untouched:"
        " make room or give back the right to write, and the same command continues from there"
    )
