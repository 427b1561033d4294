"""The contract of projection heads: features of a sample in, the vector that a loss compares out. Thrown away later."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Projection(nn.Module, ABC):
    """Parts in `projections/` define `out_dim` and `forward`; they take the width of the features as `in_dim`."""

    out_dim: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]: ...

    def last_layer(self) -> list[nn.Parameter]:
        """Parameters that some methods hold still at first (DINO). None by default."""
        return []
