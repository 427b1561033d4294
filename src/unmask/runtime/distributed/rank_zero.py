"""Evaluating a model while several processes train it: the first process evaluates, the others wait for its result."""

from collections.abc import Callable
from typing import Any

from torch import nn

from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.distributed.sharded_state import whole_weights


class Looking:
    """A `watch` for the loop, called in every process after every step; `watch` itself runs in the first alone.

    If the model is sharded, a whole copy of it is updated first.
    """

    def __init__(
        self,
        watch: Callable[[int, int], dict[str, float]],
        due: Callable[[int, int], bool],  # whether `watch` acts after a step; the same in every process
        model: nn.Module,  # in training
        shown: nn.Module,  # what `watch` looks at: the same, or a whole copy
        ranks: Ranks,
    ):
        self.watch, self.due, self.model, self.shown, self.ranks = watch, due, model, shown, ranks

    def __call__(self, step: int, steps: int) -> dict[str, float]:
        if not self.due(step, steps):
            return {}
        self.refresh()
        measurements, failed = {}, None
        if self.ranks.first:
            try:
                measurements = self.watch(step, steps)
            except OSError as error:  # a full disk does not end the loop, in any process
                failed = error
        measurements, failed = self.ranks.share((measurements, failed))
        if failed is not None:
            raise failed
        return measurements

    def first(self, action: Callable[[], Any]) -> None:
        """Runs something else in the first process while the others wait."""
        if self.ranks.first:
            action()
        self.ranks.wait()

    def refresh(self) -> None:
        """Gathers the shards into the whole copy, if there is one."""
        if self.shown is self.model:
            return
        whole = whole_weights(self.model)
        if self.ranks.first:
            self.shown.load_state_dict(whole)
