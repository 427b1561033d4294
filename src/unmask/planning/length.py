"""Chooses the length of training: epochs, hours or steps, and warm-up."""

import dataclasses
import inspect
import math

from unmask.errors import UserError, many
from unmask.planning.plan import Plan
from unmask.registry import find, parse
from unmask.runtime.machine import Machine
from unmask.training.log import clock
from unmask.training.settings import TrainingSettings

PAPER_EPOCHS, PAPER_WARMUP = 1600, 0.05  # He et al. 2021, table 8: 40 warm-up epochs of 800
BUDGET, BUDGET_EPOCHS = "budget", 300  # of recipes/budget.py; EMAE's 300 epochs beat MAE's 1600 on ViT-B
COPIES = 4  # lasting ones of the weights, unless --keep-every asks for whole checkpoints
AFTERWARDS = 5  # seconds: drawing and the report, with what they import
CHECKPOINT, DISK = 4, 150e6  # times the weights, with moments and a copy; bytes per second, hashed and read again
DECODER_WARMUP = 500  # steps at most; a tenth of a short run
HOURS = {"cpu": 0.4, "mps": 2.0, "cuda": 8.0}  # length of a run when no budget is given


def plan_length(
    plan: Plan, count: int, seconds_per_step: float, machine: Machine, spent: float
) -> tuple[int, float | None]:
    """Optimizer steps and, for `--hours`, the remaining seconds; fills in epochs, warm-up and the intervals.

    count: images per epoch; spent: seconds since the command began.
    """
    settings, batch = plan.settings, plan.settings["batch"]
    per_epoch, seconds = count / batch, None
    if settings["steps"]:
        steps = settings["steps"]
        plan.reasons.setdefault("steps", "asked for")
    elif settings["epochs"]:
        steps = max(1, round(settings["epochs"] * per_epoch))
        plan.reasons.setdefault("epochs", "asked for")
    elif settings["hours"]:
        seconds = settings["hours"] * 3600 - spent - finishing(settings["hours"])
        if seconds < seconds_per_step:
            least = (spent + 10 * seconds_per_step + 1.5 * AFTERWARDS) / 3000
            raise UserError(
                f"--hours {settings['hours']:g} ({clock(settings['hours'] * 3600)}) leaves no time to train: the start"
                f" took {spent:.0f} s, images and report will take {finishing(settings['hours']):.0f} s; give"
                f" --hours {least:.2g} or more"
            )
        steps = max(1, int(0.97 * seconds / seconds_per_step))
        plan.reasons["hours"] = f"asked for; room for {many(steps, 'step')} at the measured speed"
    else:
        most = plan.share * HOURS[machine.device] * 3600 / seconds_per_step
        cheap = settings.get("recipe") == BUDGET
        wanted = plan.share * max((BUDGET_EPOCHS if cheap else PAPER_EPOCHS) * per_epoch, 2000)
        epochs = max(1, round(min(most, wanted) / per_epoch))
        steps = max(1, round(epochs * per_epoch))
        why = (
            f"about {plan.share * HOURS[machine.device]:.2g} hours here"
            if most < wanted
            else f"recipe {BUDGET}"
            if cheap
            else "MAE's longest schedule"
        )
        plan.choose("epochs", epochs, f"{why}; more helps: --epochs, or --hours for a time")
    length = steps / per_epoch
    warmup = min(40.0, PAPER_WARMUP * length)
    plan.choose("warmup", round(warmup, 3), "epochs; 5 % of the run, at most 40, as in MAE")
    _plan_decoder_warmup(plan, steps)
    plan.choose("log_every", max(1, min(100, steps // 200)), "steps")
    plan.choose(
        "save_every", max(1, min(2000, int(120 / seconds_per_step))), "steps; about two minutes at the most are lost"
    )
    plan.choose("keep_every", max(1, math.ceil(steps / COPIES)), f"steps; {COPIES} lasting copies of the weights")
    if settings["probe"]:
        plan.choose("probe_every", max(1.0, round(length / 5)), "epochs; five probes")
    return steps, seconds


def finishing(hours: float, weights: int = 0) -> float:
    """Seconds of so many hours that are kept for what follows training: the last checkpoint, images and the report.

    weights: bytes of the model's weights, where they are known.
    """
    seconds = 3600 * hours
    return min(0.25 * seconds, AFTERWARDS + min(0.02 * seconds, 30) + CHECKPOINT * weights / DISK)


def in_time(training: TrainingSettings, weights: int, passed: float, begun: bool) -> TrainingSettings:
    """With the seconds that are left for the loop, where there is a time budget: it is that of the whole command.

    weights: bytes of the model's; passed: seconds since the command began; begun: whether an earlier command trained,
    whose seconds the checkpoint knows.
    """
    if training.hours is None or training.seconds is None:
        return training
    left = training.seconds if begun else 3600 * training.hours - finishing(training.hours, weights)
    return dataclasses.replace(training, seconds=left - passed)


def _plan_decoder_warmup(plan: Plan, steps: int) -> None:
    """First steps that train only a new decoder, before its gradients may change a trained encoder."""
    takes = inspect.signature(find("method", parse(plan.settings["method"])[0])).parameters
    if plan.settings.get("decoder_warmup") is None and not (plan.new_decoder and "decoder_warmup" in takes):
        return
    fresh = (
        "the weights bring no decoder for this: the fresh one learns alone first, so that it does not spoil the encoder"
    )
    plan.choose("decoder_warmup", min(DECODER_WARMUP, steps // 10), f"steps; {fresh}")
    refuse_warmup(plan.settings["decoder_warmup"], steps)


def refuse_warmup(decoder_warmup: int, steps: int) -> None:
    """Raises UserError if the encoder would never be trained."""
    if decoder_warmup >= steps:
        raise UserError(f"--decoder-warmup {decoder_warmup} leaves none of {many(steps, 'step')} for the encoder")
