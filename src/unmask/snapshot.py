"""A run as one dictionary and back: weights, moments and the plain values of its state.

The only place that takes the parts of a model together to save them, and puts them back.
"""

from typing import Any

import torch
from lightning.fabric import Fabric

from unmask.keeping import Keeping
from unmask.log import Log
from unmask.objective import Objective
from unmask.recovery import got_past

PARTS = ("objective", "optimizer")


def pack(state: dict[str, Any], objective: Objective, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {"objective": objective.state_dict(), "optimizer": optimizer.state_dict(), **state}


def unpack(saved: dict[str, Any], objective: Objective, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts weights and moments in place, on the device where they were; returns the plain values."""
    objective.load_state_dict(saved["objective"])
    optimizer.load_state_dict(saved["optimizer"])
    return {name: value for name, value in saved.items() if name not in PARTS}


def keep(
    state: dict[str, Any],
    keeping: Keeping,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    log: Log,
    fabric: Fabric,
    **how: bool,  # as `Keeping.save` takes it
) -> str | None:
    """Saves the run; returns why that did not work, after saying so, or None. Training can go on either way."""
    if keeping.out is None:
        return None
    got_past(state)
    state["saves"] += 1  # also where it fails, so that no two files have the same number
    content, failed = pack(state, objective, optimizer), None
    if fabric.is_global_zero:
        failed = keeping.save(content, **how)
    if failed:
        text = (
            f"step {state['step']}: the checkpoint could not be written ({failed}). The one before is untouched;"
            " training goes on, and the next save tries again"
        )
        log.event(state["step"], "unsaved", text, reason=failed)
    return failed
