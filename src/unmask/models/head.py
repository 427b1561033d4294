"""The contract of dense heads: an encoder's feature maps in, logits per class and position out. Parts are in
`heads/`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """`__init__(dims, num_classes)` gets the channels of the maps, from fine to coarse or from early to late; of heads
    for volumes also `unit`, the sides of a patch. Those for points get maps that were read out at each point."""

    taps: ClassVar[str]  # "last", "four" of the encoder's maps; "input" and four; "pyramid": four of strides 4 to 32
    axes: ClassVar[tuple[int, ...]] = (2,)  # of the maps that it is for: images have two, volumes three, points one
    norm: ClassVar[bool]  # whether the encoder's last norm is applied to them
    auxiliary_weight: ClassVar[float] = 0.0  # of the loss on the output of `auxiliary`

    @abstractmethod
    def forward(self, maps: Sequence[Float[Tensor, "b _ ..."]]) -> Float[Tensor, "b k ..."]:
        """Logits at the head's own stride; the caller resizes them."""

    def auxiliary(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k _ _"]:
        """Logits of a second, shallow head for training; only where `auxiliary_weight` is above 0."""
        raise NotImplementedError(f"{type(self).__name__} has no auxiliary head")


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with as many groups as possible, up to 32, of at least eight channels: with fewer, a map of one cell
    would leave nothing to normalise over."""
    return nn.GroupNorm(max(n for n in range(1, 33) if channels % n == 0 and (n == 1 or channels >= 8 * n)), channels)
