"""What a dense head is: feature maps of an encoder in, logits per class and place out. Parts in `heads/`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """`__init__(dims, num_classes)` is told the channels of the maps, from fine to coarse or from early to late."""

    taps: ClassVar[str]  # which maps: "last", "four" of the encoder's own, or "pyramid": four of strides 4 to 32
    norm: ClassVar[bool]  # whether the encoder's last norm has gone over them
    auxiliary_weight: ClassVar[float] = 0.0  # of the loss of what `auxiliary` returns

    @abstractmethod
    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k _ _"]:
        """Logits at whatever stride the head works; who calls brings them to the size that is wanted."""

    def auxiliary(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, "b k _ _"]:
        """Logits of a second, shallow head that helps to train; only where `auxiliary_weight` is above 0."""
        raise NotImplementedError(f"{type(self).__name__} has no auxiliary head")


def group_norm(channels: int) -> nn.GroupNorm:
    """In as many groups as there can be, up to 32, of eight channels or more: of a map of one cell, too few would be
    nothing to normalise over."""
    return nn.GroupNorm(max(n for n in range(1, 33) if channels % n == 0 and (n == 1 or channels >= 8 * n)), channels)
