"""A resolution schedule: small crops at first, the full size later.

Fewer patches make cheaper steps, and with fixed position tables nothing has to be relearned at the next size. As in
DailyMAE (Wu et al. 2024, arXiv 2404.00509) and FixRes (Touvron et al. 2019). Written `128:0.5,224`: half of the steps
at 128 pixels, the rest at 224. This file handles steps and shares only: encoders, decoders and targets take any size.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from unmask.errors import UserError

NONE = "none"
EXAMPLE = 'e.g. "128:0.5,224": half of the steps with crops of 128 pixels, the rest at 224'
EARLY, SMALLEST = 0.7, 6  # side of the first half's crops, as a share; patches along it, at the least


class Stage(NamedTuple):
    size: tuple[int, int]  # height, width in pixels
    share: float  # of the steps


def parse(text: str) -> list[Stage]:
    """The stages of `128:0.5,224`, in order; the last one has no share and takes the rest. Empty for "none"."""
    if text in (NONE, ""):
        return []
    stages = []
    try:
        *early, last = text.split(",")
        for part in early:
            size, share = part.split(":")
            stages.append(Stage(_size(size), float(share)))
        stages.append(Stage(_size(last), 1 - sum(stage.share for stage in stages)))
    except ValueError as error:
        raise UserError(f"cannot read resolutions {text!r}; write sizes with shares of the steps, {EXAMPLE}") from error
    if any(not 0 < stage.share <= 1 for stage in stages):
        raise UserError(f"the shares in resolutions {text!r} must be above 0 and leave some for the last, {EXAMPLE}")
    areas = [math.prod(stage.size) for stage in stages]
    if areas != sorted(set(areas)):
        raise UserError(f"resolutions must grow from stage to stage, got {text!r}")
    return stages


def early_and_full(image_size: tuple[int, int], patch: int) -> str:
    """A schedule for a size: half of the steps at about 0.7 of its side, which has half as many patches."""
    sides = [max(1, round(EARLY * side / patch)) * patch for side in image_size]
    if min(sides) < SMALLEST * patch or list(sides) == list(image_size):
        return NONE
    return f"{_text(tuple(sides))}:0.5,{_text(image_size)}"


def firsts(stages: list[Stage], steps: int) -> list[int]:
    """The first step of each stage, for a run of `steps`; a stage without steps begins with the next one."""
    share_done, begins = 0.0, []
    for stage in stages:
        begins.append(round(share_done * steps))
        share_done += stage.share
    return begins


def steps_within(work: float, begins: Sequence[int], costs: Sequence[float], step: int) -> int:
    """Number of steps after `step` that cost `work`; costs: of one step in each stage."""
    more = 0.0
    for stage, cost in enumerate(costs):
        begin, end = begins[stage], begins[stage + 1] if stage + 1 < len(begins) else math.inf
        room = max(0.0, end - max(begin, step))
        stage_steps = min(room, max(0.0, work) / cost)
        more, work = more + stage_steps, work - stage_steps * cost
    return int(more)


def work_until(step: int, begins: Sequence[int], costs: Sequence[float]) -> float:
    """Cost of the steps before `step`."""
    ends = [*begins[1:], math.inf]
    return sum(cost * max(0.0, min(step, end) - begin) for begin, end, cost in zip(begins, ends, costs))


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.strip().split("x")]
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError(text)
    return sides[0], sides[-1]


def _text(size: tuple[int, ...]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"
