"""MAE's decoder, as small as the plan takes it for encoders under 384 wide: 2 blocks of width 128."""

from functools import partialmethod

from unmask.models.decoder import SelfAttention

__all__ = ["Slim"]


class Slim(SelfAttention):
    __init__ = partialmethod(SelfAttention.__init__, dim=128, depth=2, heads=4)  # pyright: ignore[reportAssignmentType]
