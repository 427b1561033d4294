"""A run as one dictionary and back: weights, moments and the plain values of its state.

The only place that takes the parts of a model together to save them, and puts them back.
"""

from collections.abc import Callable
from typing import Any

import torch

from unmask.errors import UserError
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.distributed.sharded_state import cut_moments, cut_weights, is_cut, whole_moments, whole_weights
from unmask.training.checkpoint import Keeping
from unmask.training.log import Log
from unmask.training.objective import Objective
from unmask.training.rollback import got_past

PARTS = ("objective", "optimizer")


def pack(state: dict[str, Any], objective: Objective, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint holds; of a model cut into shards all in the first process, and only there."""
    if is_cut(objective):
        return {
            "objective": whole_weights(objective),
            "optimizer": whole_moments(objective, _inner(optimizer)),
            **state,
        }
    return {"objective": objective.state_dict(), "optimizer": optimizer.state_dict(), **state}


def unpack(saved: dict[str, Any], objective: Objective, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Puts weights and moments in place, on the device where they were; returns the plain values."""
    if is_cut(objective):
        cut_weights(objective, saved["objective"])
        cut_moments(objective, _inner(optimizer), saved["optimizer"])
    else:
        objective.load_state_dict(saved["objective"])
        optimizer.load_state_dict(saved["optimizer"])
    return {name: value for name, value in saved.items() if name not in PARTS}


def find(keeping: Keeping, ranks: Ranks, say: Callable[[str, str, str], Any]) -> dict[str, Any] | None:
    """The newest good state, in every process; the first one sets aside what is damaged or left, and says so.

    Raises UserError where processes do not see the same files.
    """
    saved = keeping.find(say) if ranks.first else None
    ranks.wait()
    if not ranks.first:
        saved = keeping.find(lambda *_: None)
    if len(set(ranks.everybodys(saved["step"] if saved else None))) > 1:
        raise UserError(f"not all machines see the same checkpoints in {keeping.out}; --out must be storage they share")
    return saved


def keep(
    state: dict[str, Any],
    keeping: Keeping,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    log: Log,
    ranks: Ranks,
    *,
    rotate: bool = True,
    best: dict[str, Any] | None = None,
) -> str | None:
    """Saves the run; returns why that did not work, after saying so, or None. Training can go on either way.

    rotate: the checkpoint before stays too. best: step and score, where the weights are the best so far; they are
    called so only when they are saved.
    """
    if keeping.out is None:
        return None
    got_past(state)
    state["saves"] += 1  # also where it fails, so that no two files have the same number
    known, state["best"] = state["best"], best or state["best"]
    content, failed = pack(state, objective, optimizer), None
    ranks.wait()  # others may still read what is about to move
    if ranks.first:
        failed = keeping.save(content, rotate=rotate, best=best is not None)
    failed = ranks.share(failed)
    keeping.owed = keeping.owed and failed is not None
    if failed:
        state["best"] = known
        text = (
            f"step {state['step']}: the checkpoint could not be written ({failed}). The one before is untouched;"
            " training goes on, and the next save tries again"
        )
        log.event(state["step"], "unsaved", text, reason=failed)
    return failed


def _inner(optimizer: Any) -> torch.optim.Optimizer:
    """Torch's own, which Fabric wraps."""
    return getattr(optimizer, "optimizer", optimizer)
