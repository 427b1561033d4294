"""Which checkpoints of a run are kept: the newest, the best, and lasting ones; and which one a run resumes from."""

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unmask.errors import UserError
from unmask.files import is_full, write_atomically
from unmask.training.checkpoint import (
    ASIDE,
    BEST,
    LAST,
    LEFT,
    MOMENTS,
    Damaged,
    before_last,
    candidates,
    facts_in,
    facts_of,
    lasting,
    read_newest,
    read_state,
    undamaged,
    verify,
    write_state,
)


class Keeping:
    """Saves the state of a run and finds the state to resume from. With `out=None` nothing is kept."""

    def __init__(self, out: Path | None, *, last: int, every: int, lasting: int, copies: int = 0):
        """last: number of newest checkpoints to keep; every: steps between saves; lasting: steps between lasting
        checkpoints, 0 for none; copies: so many lasting ones instead, spread over the run, of the weights alone."""
        self.out, self.last, self.every, self.lasting, self.copies = out, last, every, lasting, copies
        self.owed = False  # a save that is waiting for a good step
        self.kept = {path.name for path in out.glob("step_*.ckpt")} if out is not None else set()  # lasting ones

    def due(self, step: int, steps: int) -> bool:
        """True if the state after this step of so many should be saved."""
        return self.out is not None and (self.owed or step % self.every == 0 or self.lasting_due(step, steps))

    def lasting_due(self, step: int, steps: int) -> bool:
        """True if the state after this step should be kept for good. The number of steps may change underway, to end in
        time: copies are counted, so that there are as many as promised."""
        if not self.copies:
            return bool(self.lasting) and step % self.lasting == 0
        share = self.copies * min(step, steps) // steps
        again = share > self.copies * (step - 1) // steps and lasting(step) in self.kept  # went back from beyond
        return share > len(self.kept) or again

    def saved(self, step: int, steps: int) -> None:
        """To be called in every process once a state is saved, so that all agree on what is due."""
        self.owed = False
        if self.lasting_due(step, steps):
            self.kept.add(lasting(step))

    def find(self, say: Callable[[str, str, str], Any]) -> dict[str, Any] | None:
        """The newest good state. Damaged files are set aside; so are those saved after `last.ckpt`, if a user put an
        older one in its place, since the run must not resume from them. `say(event, file, reason)` is called for
        each."""
        if self.out is None:
            return None
        for rest in self.out.glob(".*.part"):  # of a process that was killed while writing
            rest.unlink()
        damaged: list[tuple[Path, str]] = []
        newest = read_newest(self.out, lambda path, reason: damaged.append((path, reason)))
        for path, reason in damaged:
            os.replace(path, path.with_name(path.name + ASIDE))
            say("damaged", path.name, reason)
        if newest is None:
            return None
        saves = facts_in(newest[0]).saves
        for path in [path for path in candidates(self.out) if facts_in(path).saves > saves]:
            os.replace(path, path.with_name(path.name + LEFT))
            say("left", path.name, f"saved after what was put in place of {LAST}")
        self.kept = {path.name for path in self.out.glob("step_*.ckpt")}
        self._keep_for_good(newest[0], newest[1])
        return newest[1]

    def good(self, before: float = math.inf) -> dict[str, Any] | None:
        """The newest state that is undamaged and was saved after a step that counted. before: prefer a state from
        before this step; the one of this step is returned only if there is no other."""
        if self.out is None:
            return None
        facts = {path: facts_in(path) for path in candidates(self.out)}
        paths = [path for path, fact in facts.items() if fact.good]
        if before < math.inf:
            paths.sort(key=lambda path: (facts[path].step == before, -facts[path].step, -facts[path].saves))
        with contextlib.suppress(UserError):
            states = (state for _, state in undamaged(paths, lambda path, reason: None, read_state))
            return next((s for s in states if not s.get("bad_in_row") and s["step"] <= before), None)
        return None

    def save(self, state: dict[str, Any], *, rotate: bool = True, best: bool = False) -> str | None:
        """Writes `last.ckpt` after renaming the previous one. If that fails, returns the reason: nothing is lost then,
        and the next save tries again. best: also keep a copy as the best so far."""
        assert self.out is not None
        try:
            write_state(self.out / LAST, state, facts_of(state), self._rotate if rotate else lambda: None)
            if best:
                self._copy(BEST)
            if self.lasting_due(state["step"], state["steps"]):
                self._copy_for_good(state)
        except OSError as error:
            if not is_full(error):
                raise
            return f"{error.strerror or error}"
        return None

    def _keep_for_good(self, path: Path, state: dict[str, Any]) -> None:
        """Makes up for a lasting copy that a process did not come to make: it was killed right after `last.ckpt`."""
        step, steps = state["step"], state["steps"]
        if path.name == LAST and self.lasting_due(step, steps) and lasting(step) not in self.kept:
            with contextlib.suppress(OSError):
                self._copy_for_good(state)
                self.kept.add(lasting(step))

    def _copy_for_good(self, state: dict[str, Any]) -> None:
        """A lasting checkpoint of what `last.ckpt` holds: all of it, or the weights alone."""
        assert self.out is not None
        if not self.copies:
            return self._copy(lasting(state["step"]))
        weights = {name: value for name, value in state.items() if name != MOMENTS}
        write_state(self.out / lasting(state["step"]), weights, facts_of(state))

    def tidy(self) -> None:
        """What a finished run has no use for: the checkpoints before the last, if that one is undamaged."""
        assert self.out is not None
        with contextlib.suppress(Damaged, OSError):
            verify(self.out / LAST)
            for number in range(1, self.last):
                (self.out / before_last(number)).unlink(missing_ok=True)

    def _rotate(self) -> None:
        """Gives `last.ckpt` a second name; it keeps its first until the new checkpoint replaces it."""
        assert self.out is not None
        if not (self.out / LAST).exists():
            return
        for number in range(self.last - 1, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self.out / before_last(number - 1), self.out / before_last(number))
        if self.last > 1:
            self._copy(before_last(1))

    def _copy(self, name: str) -> None:
        """A hard link to `last.ckpt`, or a copy if the file system has no hard links."""
        assert self.out is not None
        content = self.out / LAST

        def link(part: Path) -> None:
            part.unlink(missing_ok=True)
            try:
                os.link(content, part)
            except OSError:
                part.write_bytes(content.read_bytes())

        write_atomically(self.out / name, link)
