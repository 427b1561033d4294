"""An objective that also takes batches of other sizes, with the very tables it would have if it was built for them.

For every other size there is a twin, built at that size: its fixed position tables, grids and targets are exact by
construction, whatever the encoder, decoder or target. What is learned belongs to the objective alone: before each use a
twin is handed the objective's own parameters, so that gradients arrive there and nothing is kept twice.
"""

from torch import Tensor, nn

from unmask.errors import UserError
from unmask.training.objective import Batch, Objective

Size = tuple[int, ...]


def answer_by_size(objective: Objective, twins: dict[Size, Objective], fresh: Objective | None = None) -> None:
    """From now on `objective(batch)` works for batches of its own size and of those of `twins`.

    twins: size in pixels -> the same objective built for that size. fresh: the objective as built without weights,
    where it was given some: to see that they bring no table of their own. Names of parameters and what is saved do not
    change. Raises UserError for a model with tables that are learned, which belong to one size.
    """
    BySize(objective, twins, fresh)


class BySize:
    """Takes the place of an objective's `forward` and `before_step`."""

    def __init__(self, objective: Objective, twins: dict[Size, Objective], fresh: Objective | None):
        self.objective, self.twins = objective, twins
        self.ties = {size: _ties(objective, twin, fresh) for size, twin in twins.items()}
        objective.twins = twins
        self._forward, self._before_step = objective.forward, objective.before_step
        for name in ("forward", "before_step"):
            setattr(objective, name, getattr(self, name))
        for size in twins:
            self._hand_over(size)  # so that the twins' own first weights are freed

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        x = batch["views"][0]
        size = tuple(x.shape[2:])
        if size not in self.twins:
            return self._forward(batch)
        twin = self.twins[size].to(x.device)  # first: torch may be set to put new parameters in place of moved ones
        self._hand_over(size)
        return twin.train(self.objective.training)(batch)

    def before_step(self, step: int) -> None:
        self._before_step(step)
        for twin in self.twins.values():
            twin.before_step(step)

    def _hand_over(self, size: Size) -> None:
        for theirs, ours, name in self.ties[size]:
            setattr(theirs, name, getattr(ours, name))


def _ties(objective: Objective, twin: Objective, fresh: Objective | None) -> list[tuple[nn.Module, nn.Module, str]]:
    """Where the twin takes what the objective has: all but tables that depend on the size."""
    kept, found = objective.state_dict(), []
    learned = {name for name, p in objective.named_parameters() if p.requires_grad}
    for name in (*dict(objective.named_parameters()), *dict(objective.named_buffers())):
        owner, _, leaf = name.rpartition(".")
        ours, theirs = objective.get_submodule(owner), twin.get_submodule(owner)
        same = getattr(ours, leaf).shape == getattr(theirs, leaf).shape
        if name in learned and not same:
            raise UserError(
                f"--resolutions needs fixed or rotary position tables; {name} of this model is learned for one size"
            )
        if name in kept and not same and fresh is not None and not kept[name].equal(fresh.state_dict()[name]):
            raise UserError(
                f"--resolutions needs MAE's fixed position tables; the weights of --init bring a {name} of their own"
            )
        if name in kept and same:
            found.append((theirs, ours, leaf))
    return found
