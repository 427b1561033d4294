"""The contract of targets: values to predict for each unit of an input, and the way back to pixels."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.masking.grid import Grid
from unmask.masking.mask import Mask


class Target(nn.Module, ABC):
    """Parts in `targets/` define `dim` and the two methods. Anything that a target learned from the data is kept in
    buffers: they belong to the objective's state, so checkpoints contain them."""

    grid: Grid  # its units are the targets' units; an input may have more or fewer of them
    dim: int  # values per unit
    per_pixel = True  # a unit's values are its pixels, so that their mean means something
    drawable = True  # predictions can be turned into pixels
    undrawn = ""  # where they cannot: what they are, "it predicts ..."
    only = ""  # what alone it is for, for people, where that is not any grid of pixels
    raw = False  # takes raw samples instead of normalised ones, as encoders do
    ids: int | None = None  # whole numbers per unit, if they are what is wanted and `dim` scores of them predicted
    loss_words: str | None = None  # what reports call its loss, where it defines `compare`
    scalars: Mapping[str, str] = MappingProxyType({})  # what reports call the other numbers of `losses`

    @abstractmethod
    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Shaped[Tensor, "b n p"]:
        """Targets of all units of a normalised input (or raw, see `raw`) of any size of whole units."""

    def words(self, usual: Mapping[str, str]) -> Mapping[str, str]:
        """The words of a method that takes the target's own loss, if it has one."""
        return usual if self.loss_words is None else {**usual, "loss": self.loss_words, **self.scalars}

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Shaped[Tensor, "b m q"]) -> Float[Tensor, ""]:
        """The loss of predictions: their mean squared error, unless a target says otherwise."""
        return (prediction - wanted).square().mean()

    def losses(self, prediction: Float[Tensor, "b m p"], wanted: Shaped[Tensor, "b m q"]) -> dict[str, Tensor]:
        """The loss by `compare` as "loss", and what else is worth logging of it, without a gradient: `scalars`."""
        return {"loss": self.compare(prediction, wanted)}

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        """As `Objective.after_step`: a target with a teacher moves it."""

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """Turns predictions for hidden units back into pixels of `x`; `leak=True` may use true values of hidden
        units. Of drawable targets."""
        raise NotImplementedError(f"{type(self).__name__} cannot be drawn: it predicts {self.undrawn}")

    def fit(self, inputs: Iterable[Float[Tensor, "b c *size"]]) -> None:
        """Called once before training with a few batches of normalised inputs; most targets need no fitting.

        The same inputs must leave the same buffers: a run that is killed before its first checkpoint fits again.
        """


class UnitTarget(Target):
    """A target that depends on its own unit only, so that nothing is computed for visible units.

    Parts define `of` instead of `forward`.
    """

    @abstractmethod
    def of(self, units: Float[Tensor, "b m q"]) -> Shaped[Tensor, "b m p"]:
        """Targets of units of a normalised input, as `Grid.cut` gives them."""

    def forward(self, x: Float[Tensor, "b c *size"]) -> Shaped[Tensor, "b n p"]:
        return self.of(self.grid.covering(x.shape[2:]).cut(x))
