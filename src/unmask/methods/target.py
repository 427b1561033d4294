"""What every target is: values to predict for each unit of an input, and the way back to pixels."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn

from unmask.masking.grid import Grid
from unmask.masking.mask import Mask


class Target(nn.Module, ABC):
    """Parts in `targets/` fill in `dim` and the two methods. What a target has learned of the data it keeps in buffers:
    they are part of the objective's state, so that checkpoints carry them."""

    grid: Grid  # whose units are the targets'; an input may have more or fewer of them
    dim: int  # values per unit
    per_pixel = True  # a unit's values are its pixels, so that their mean means something

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n p"]:
        """Targets of all units of a normalised input of any size of whole units."""

    @abstractmethod
    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """Predictions of hidden units back to the pixels of `x`; `leak=True` may use what only hidden units know."""

    def fit(self, inputs: Iterable[Float[Tensor, "b c *size"]]) -> None:
        """Before training, once: looks at a few batches of normalised inputs; most targets need to know nothing.

        The same inputs must leave the same buffers: a run that is killed before its first checkpoint fits again.
        """


class UnitTarget(Target):
    """A target that sees no more of an input than the unit it belongs to: then only the hidden units need be looked at.

    Parts fill in `of` instead of `forward`.
    """

    @abstractmethod
    def of(self, units: Float[Tensor, "b m q"]) -> Float[Tensor, "b m p"]:
        """Targets of units of a normalised input, as `Grid.cut` gives them."""

    def forward(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b n p"]:
        return self.of(self.grid.covering(x.shape[2:]).cut(x))
