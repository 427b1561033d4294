"""Rollback: restores the last good state when training went wrong, and skips the batches seen since.

As PaLM's authors did by hand (Chowdhery et al. 2022, section 5.1): restart from a checkpoint before the spike and skip
the batches around it. Learning rate and all other settings stay the same.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from unmask.training.keeping import Keeping
from unmask.training.log import ROLLED_BACK
from unmask.training.loss_guard import LeftOut
from unmask.training.state import RunState, state_of

SANE = 1e4  # weights of trained networks stay far below
HIGH = 0.1  # a learning rate that nobody means
NOT_BACK = ("seconds", "waited", "steps", "skipped", "rolled", "tries", "saves")  # state that a rollback keeps


def position(state: RunState, accumulate: int) -> int:
    """Index of the next micro-batch."""
    return (state.step + state.skip) * accumulate


def went_wrong(state: RunState, patience: int, last: bool) -> bool:
    """True if so many steps in a row were skipped that the weights must be the cause; at the end of a run, three
    suffice."""
    return state.bad_in_row >= (min(patience, 3) if last else patience)


def go_back(
    state: RunState, keeping: Keeping, most: int, why: LeftOut
) -> tuple[RunState, dict[str, Any]] | tuple[None, None]:
    """An earlier good state and its checkpoint, further back if the last rollback did not help; None if there is none,
    or after `most` attempts that failed at the same point."""
    if state.tries >= most:
        return None, None
    saved = keeping.good(before=state.rolled[-1]["step"] if state.tries else state.step)
    if saved is None:
        return None, None
    earlier, next_batch = state_of(saved), state.step + state.skip
    event = {"step": earlier.step, "event": ROLLED_BACK, "from": state.step, "why": why.why, "bad": why.step}
    event |= {"bad_loss": str(why.loss), "limit": str(why.limit)}
    event["batches"] = [earlier.step + earlier.skip, next_batch]
    stays = {name: getattr(state, name) for name in NOT_BACK}
    stays |= {"rolled": (*state.rolled, event), "tries": state.tries + 1}
    return replace(earlier, skip=next_batch - earlier.step, **stays), saved


def got_past(state: RunState) -> RunState:
    """Called when a good state is saved: once past the point of failure, the count of attempts starts again."""
    return replace(state, tries=0) if state.rolled and state.step > state.rolled[-1]["from"] else state


def told(state: RunState, most: int) -> str:
    """Describes the last rollback in words."""
    event = state.rolled[-1]
    kind = "a loss far above the recent ones" if event["why"] == "spike" else "no finite loss or gradient"
    first, after = event["batches"]
    return (
        f"step {event['from']}: the last steps had {kind} (loss {float(event['bad_loss']):.3g}). Back to the good state"
        f" of step {event['step']}; batches {first} to {after - 1} are passed over, all settings stay. That was attempt"
        f" {state.tries} of {most}."
    )


def wrecked(objective: nn.Module) -> str | None:
    """What is wrong with weights that no step refused: not finite, or far larger than those of any trained network."""
    largest = max((float(p.detach().abs().max()) for p in objective.parameters() if p.numel()), default=0.0)
    if not math.isfinite(largest):
        return "are not finite"
    return f"are as large as {largest:.0e}" if largest > SANE else None


def remedy(step: int, why: LeftOut, state: RunState, out: Path | None, wrong: str | None) -> str:
    """What to do when rollbacks did not help or there is no state to return to. wrong: with the weights saved."""
    where = f"step {step}, learning rate {why.lr:.3g}, loss {why.loss:.3g}, gradient norm {why.norm:.3g}"
    kind = f"a loss above {why.limit:.3g}" if why.why == "spike" else "a non-finite loss or gradient"
    back = f" Going back {state.tries} times to a good state did not help." if state.tries else ""
    spike = " If this loss is as it should be: --spike off." if why.why == "spike" else ""
    if wrong is not None:
        return (
            f"{state.bad_in_row} steps in a row had {kind} ({where}).{back} The weights were wrecked before: those of"
            f" the last step that counted {wrong}, and nothing in {out} is worth keeping. Start again in a new folder"
            f" without --lr and --blr, so that a rate is chosen{', or with a far lower one' if why.lr < HIGH else ''};"
            " the data sheet in the run folder shows whether values are broken."
        )
    return (
        f"{state.bad_in_row} steps in a row had {kind} ({where}). They were left out, and the last good weights are"
        f" saved in {out}.{back} Start again in a new folder with a lower rate, e.g. --init {out}"
        f" --lr {why.lr / 5 or 1e-4:.2g} --clip 1, and if that does not help with --precision 32; the data sheet in the"
        f" run folder shows whether values are broken.{spike}"
    )
