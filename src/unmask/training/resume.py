"""Converts a run to one dictionary and back: weights, moments and the plain values of its state.

Only this file collects the parts of a model for saving and restores them.
"""

import dataclasses
from dataclasses import replace
from typing import Any

from unmask.errors import UserError
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.distributed.sharded_state import cut_moments, cut_weights, is_cut, whole_moments, whole_weights
from unmask.training.checkpoint import MOMENTS
from unmask.training.keeping import Keeping
from unmask.training.log import Log
from unmask.training.objective import Objective
from unmask.training.rollback import got_past
from unmask.training.state import RunState, state_of


class Snapshots:
    """Saves a model in training with its state and restores it; to be called in every process at the same point."""

    def __init__(self, keeping: Keeping, objective: Objective, optimizer: Any, log: Log, ranks: Ranks):
        self.keeping, self.objective, self.optimizer, self.log, self.ranks = keeping, objective, optimizer, log, ranks

    def resume(self, fresh: RunState) -> RunState:
        """Restores weights and moments of the newest good checkpoint and returns its state, otherwise `fresh`; reports
        files set aside as damaged.

        Raises UserError if processes do not see the same files.
        """
        aside: list[tuple[str, str, str]] = []
        saved = self.keeping.find(lambda *what: aside.append(what)) if self.ranks.first else None
        self.ranks.wait()
        if not self.ranks.first:
            saved = self.keeping.find(lambda *_: None)
        self.keeping.kept = self.ranks.share(self.keeping.kept)
        if len(set(self.ranks.everybodys(saved["step"] if saved else None))) > 1:
            raise UserError(
                f"not all machines see the same checkpoints in {self.keeping.out}; --out must be storage they share"
            )
        if saved is not None:
            self.restore(saved)
        state = fresh if saved is None else state_of(saved)
        self.log.start(state.step, state.steps, state.rolled)
        if saved is not None and MOMENTS not in saved:
            text = f"going on from step {state.step} with a copy of the weights alone: the optimizer starts anew"
            self.log.event(state.step, "no_moments", text)
        for event, file, reason in aside:
            text = f"{file} was set aside: {event} ({reason}); going on from step {state.step}"
            self.log.event(state.step, event, text, file=file, reason=reason)
        return state

    def restore(self, saved: dict[str, Any]) -> None:
        """Restores weights and moments in place, on their devices; a copy of the weights alone has no moments."""
        moments = saved.get(MOMENTS)
        if is_cut(self.objective):
            cut_weights(self.objective, saved["objective"])
        else:
            self.objective.load_state_dict(saved["objective"])
        if moments is None:
            self.optimizer.state.clear()
        elif is_cut(self.objective):
            cut_moments(self.objective, self.optimizer, moments)
        else:
            self.optimizer.load_state_dict(moments)

    def keep(
        self, state: RunState, *, rotate: bool = True, best: dict[str, float] | None = None
    ) -> tuple[RunState, str | None]:
        """Saves the run; returns its state and, after reporting it, the reason if that failed. Training can continue
        either way.

        rotate: keep the previous checkpoint too. best: step and score if the weights are the best so far; recorded only
        once they are saved.
        """
        if self.keeping.out is None:
            return state, None
        state = replace(got_past(state), saves=state.saves + 1)  # counted even if it fails: numbers are unique
        saved, failed = replace(state, best=best or state.best), None
        content = self._weights() | dataclasses.asdict(saved)
        self.ranks.wait()  # other processes may still be reading the file about to be renamed
        if self.ranks.first:
            failed = self.keeping.save(content, rotate=rotate, best=best is not None)
        failed = self.ranks.share(failed)
        if not failed:
            self.keeping.saved(saved.step, saved.steps)
            return saved, None
        text = (
            f"step {state.step}: the checkpoint could not be written ({failed}). The one before is untouched;"
            " training goes on, and the next save tries again"
        )
        self.log.event(state.step, "unsaved", text, reason=failed)
        return state, failed

    def give_up(self, state: RunState) -> None:
        """Leaves good weights behind: those of the newest good checkpoint, or the current ones if there is none."""
        saved = self.keeping.good()
        if saved is not None:
            self.restore(saved)
        if saved is None or saved["saves"] < state.saves:  # then the newest file on the disk is not a good one
            state = state if saved is None else replace(state_of(saved), saves=state.saves)
            self.keep(state, rotate=False)

    def _weights(self) -> dict[str, Any]:
        """Weights and moments; those of a sharded model are gathered in the first process only."""
        if is_cut(self.objective):
            moments = whole_moments(self.objective, self.optimizer)
            return {"objective": whole_weights(self.objective), "optimizer": moments}
        return {"objective": self.objective.state_dict(), "optimizer": self.optimizer.state_dict()}
