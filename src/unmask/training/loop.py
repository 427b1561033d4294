"""The one training loop: every method and every task runs through `fit`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from unmask.errors import Diverged, Interrupted, Unsaved
from unmask.files import is_full
from unmask.masking.mask import Rows
from unmask.runtime.distributed.data_parallel import Devices, Wrapped
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.signals import StopRequest, name_of
from unmask.seeds import mix
from unmask.training import rollback
from unmask.training.keeping import Keeping
from unmask.training.log import Log
from unmask.training.loss_guard import Guard, LeftOut
from unmask.training.objective import Batch, Comparing, Objective
from unmask.training.optimizer import clip_each, make_optimizer, set_rate, set_weight_decay, update
from unmask.training.resume import Snapshots
from unmask.training.schedule import learning_rate
from unmask.training.settings import Fit
from unmask.training.speed.grad_cache import backward_in_two_passes
from unmask.training.state import RunState
from unmask.training.timing import Timed, steps_in_time

MASKS = 0x3A5C  # keeps the seeds of masks distinct from others


Loader = Callable[[int], Iterator[Batch]]


def fit(
    objective: Objective,
    loader: Loader,
    config: Fit,
    out: Path | None,
    devices: Devices,
    log: Log,
    watch: Callable[[int, int], dict[str, float]] = lambda step, steps: {},
) -> int:
    """Trains `objective` from where `out` left off to the end; returns the number of optimizer steps made.

    `loader(n)` yields micro-batches from the n-th on. `watch(step, steps)` is called after every step and returns its
    measurements, usually none; `{"stop": True}` ends training, `{"score": x}` rates the weights so that the best are
    kept; it may put the objective in eval mode. With `out=None` nothing is saved, for the many short runs of a study.
    No step waits for the device: results are read where the loop records or saves. Raises Interrupted (state saved) on
    a signal, Diverged (good state saved) when rollbacks did not help, Unsaved on a full disk.
    """
    ranks, model = Ranks(), devices.setup(objective)
    optimizer = make_optimizer(objective, config.optimizer, config.weight_decay, config.betas, config.fused)
    keeping = keeping_of(config, out)
    snapshots = Snapshots(keeping, objective, optimizer, log, ranks)
    state = snapshots.resume(RunState(steps=config.steps))
    guard = Guard(state, config.spike, devices)
    objective.train()
    stream, started, resumed = open_stream(loader, state, config), time.monotonic(), state.seconds
    ending = 0.0  # seconds of the longest look so far: the last one comes after the last step

    with StopRequest() as stop:
        while state.step < state.steps:
            lr = make_step(model, objective, optimizer, stream, guard, config, state, devices)
            seconds = resumed + time.monotonic() - started
            state = replace(state, step=state.step + 1, seconds=seconds, waited=stream.waited)
            log.at(state.step)

            if state.step % config.log_every == 0 or state.step >= state.steps:
                seconds, waited, ending = ranks.most(state.seconds, state.waited, ending)
                state = read(guard, state, log, seconds, waited)
                if guard.last and rollback.went_wrong(state, config.patience, state.step >= state.steps):
                    state = recover(state, guard.last, snapshots, config.rollbacks, log)
                    guard.begin(state)
                    stream = open_stream(loader, state, config)
                    continue
                state = record(state, guard, lr, config, log, ending)
                stream.waited = 0.0
            before = time.monotonic()
            state, best = look(watch, state, log)
            ending = max(ending, time.monotonic() - before)
            objective.train()
            signum, finished = ranks.agree(stop.signum or 0), state.step >= state.steps
            if out is not None and (finished or signum or best or keeping.due(state.step, state.steps)):
                state = read(guard, state, log, state.seconds, state.waited)
                state = save(state, snapshots, best, last=bool(finished or signum))
            if signum and not finished:
                outcome = f"saved in {out}" if out is not None else "nothing of this training is kept"
                raise Interrupted(f"stopped by {name_of(signum)} after step {state.step}; {outcome}", signum)
    if config.tidy and ranks.first and out is not None:
        keeping.tidy()
    ranks.settle()
    return state.step


def keeping_of(config: Fit, out: Path | None) -> Keeping:
    """Which checkpoints are kept."""
    copies, every = config.lasting_copies, config.keep_every
    return Keeping(out, last=config.keep_last, every=config.save_every, lasting=every, copies=copies)


def make_step(
    model: Wrapped,
    objective: Objective,
    optimizer: Optimizer,
    stream: Iterator[Batch],
    guard: Guard,
    config: Fit,
    state: RunState,
    devices: Devices,
) -> float:
    """One optimizer step, skipped on the device if its loss is bad; returns its learning rate."""
    step = state.step
    torch.manual_seed(mix(config.seed, step, devices.rank))  # for dropout; masks have their own seeds
    lr = learning_rate(step, steps=state.steps, warmup=config.warmup, peak=config.lr, floor=config.floor)
    set_rate(optimizer, lr)
    schedule(objective, optimizer, step / state.steps, config.fixed_weight_decay)
    objective.before_step(step)
    outputs = backward(model, objective, optimizer, stream, config, devices, step, state.steps)
    good = guard.judge(outputs, step + 1, lr)
    update(optimizer, good)
    objective.after_step((step + 1) / state.steps, good)
    optimizer.zero_grad()
    return lr


def schedule(objective: Objective, optimizer: Optimizer, progress: float, fixed_decay: bool = False) -> None:
    """Applies the numbers that change during training. progress: from 0 to 1; fixed_decay: weight decay stays."""
    objective.progress, objective.scheduled = progress, objective.schedules(progress)
    if "weight_decay" in objective.scheduled and not fixed_decay:
        set_weight_decay(optimizer, objective.scheduled["weight_decay"])


def backward(
    model: Wrapped,
    objective: Objective,
    optimizer: Optimizer,
    stream: Iterator[Batch],
    config: Fit,
    devices: Devices,
    step: int = 0,
    steps: int = 1,
) -> dict[str, torch.Tensor]:
    """Forward and backward of one optimizer step; returns the means over its micro-batches and the gradient norm."""
    batches = (placed(devices.move(next(stream)), micro, config, devices, step) for micro in range(config.accumulate))
    if config.accumulate > 1 and isinstance(objective, Comparing):
        total = backward_in_two_passes(model, list(batches), devices, mix(config.seed, step, devices.rank))
    else:
        total = backward_in_parts(model, batches, config.accumulate)
    objective.before_update(step, step / steps)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if config.clip and objective.clip_each:
        norm = clip_each(parameters, config.clip)
    elif config.clip:
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    norm: Any = torch.as_tensor(norm)
    return total | {"grad_norm": norm.full_tensor() if hasattr(norm, "full_tensor") else norm}  # of shards: one sum


def placed(batch: Batch, micro: int, config: Fit, devices: Devices, step: int) -> Batch:
    """A micro-batch with its position in the batch of the step."""
    count, index = len(batch["views"][0]), micro * devices.world + devices.rank
    whole = count * config.accumulate * devices.world
    return batch | {"rows": Rows(mix(config.seed, step, MASKS), index * count, count, whole)}


def backward_in_parts(model: Wrapped, batches: Iterator[Batch], parts: int) -> dict[str, torch.Tensor]:
    """Adds up the gradients of micro-batches, of which only one is in memory at a time; returns mean scalars."""
    total: dict[str, torch.Tensor] = {}
    for micro, batch in enumerate(batches):
        with model.accumulating(micro < parts - 1):
            outputs = model(batch)
            (outputs["loss"] / parts).backward()
        for name, value in outputs.items():
            total[name] = total.get(name, 0) + value.detach().float() / parts
    return total


def open_stream(loader: Loader, state: RunState, config: Fit) -> Timed:
    """Micro-batches from the run's current position on, timed."""
    return Timed(loader(rollback.position(state, config.accumulate)), state.waited)


def read(guard: Guard, state: RunState, log: Log, seconds: float, waited: float) -> RunState:
    """The state, updated from the device; reports skipped steps. seconds, waited: of the slowest process."""
    state, left_out = guard.read(replace(state, seconds=seconds, waited=waited))
    log.left_out(left_out)
    return state


def record(state: RunState, guard: Guard, lr: float, config: Fit, log: Log, ending: float) -> RunState:
    """Logs the means since the last record, and adjusts the number of steps to the remaining time. ending: seconds of
    it that follow the last step."""
    state, means = guard.means(state)
    log.step(state.step, lr, means, state.seconds, state.skipped, state.waited)
    budget = None if config.seconds is None else config.seconds - ending
    log.steps = steps_in_time(state, budget, config.begins, config.costs)
    return replace(state, waited=0.0, steps=log.steps)


def recover(state: RunState, why: LeftOut, snapshots: Snapshots, most: int, log: Log) -> RunState:
    """Restores the weights and state of a good checkpoint, at most `most` times. Raises Diverged if that did not help,
    with the last good weights saved."""
    earlier, saved = rollback.go_back(state, snapshots.keeping, most, why)
    if earlier is None or saved is None:
        snapshots.give_up(state)
        wrong = rollback.wrecked(snapshots.objective)
        raise Diverged(rollback.remedy(state.step, why, state, snapshots.keeping.out, wrong))
    snapshots.restore(saved)
    earlier, _ = snapshots.keep(earlier, rotate=False)
    log.rolled_back(earlier, rollback.told(earlier, most))
    return earlier


def look(
    watch: Callable[[int, int], dict[str, float]], state: RunState, log: Log
) -> tuple[RunState, dict[str, float] | None]:
    """Calls `watch`, which may end training; returns the state, and step and score of the weights if they are the best
    so far. A figure that does not fit on the disk does not end a run."""
    try:
        measurements = dict(watch(state.step, state.steps))
    except OSError as error:
        if not is_full(error):
            raise
        text = f"step {state.step}: {error.filename or 'a file'} could not be written: {error.strerror}"
        log.event(state.step, "unwritten", text)
        return state, None
    if measurements.pop("stop", False):
        log.steps = state.step
        state = replace(state, steps=state.step)
    score = measurements.pop("score", None)
    log.note(state.step, measurements)
    if score is None or (state.best and score <= state.best["score"]):
        return state, None
    return state, {"step": state.step, "score": score}


def save(state: RunState, snapshots: Snapshots, best: dict[str, float] | None, last: bool) -> RunState:
    """Saves the run if its state is good. last: this is the final save, so the state is saved in any case; raises
    Unsaved."""
    keeping = snapshots.keeping
    keeping.owed = bool(state.bad_in_row) and not last  # what is kept shall be good
    if keeping.owed:
        return state
    state, failed = snapshots.keep(state, best=best)
    if failed and last:
        raise Unsaved(
            f"the state after step {state.step} could not be saved in {keeping.out}: {failed}. The checkpoint before it"
            " is untouched: make room or give back the right to write, and the same command continues from there"
        )
    return state
