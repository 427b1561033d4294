"""MAE's decoder, narrow and shallow: 4 blocks of width 256, for encoders up to ViT-S.

The size is that of small decoders as MAE-Lite argues for (Wang et al. 2022, https://arxiv.org/abs/2205.14443), whose
own for ViT-Ti is smaller still: full(dim=96, depth=1, heads=3), in the recipe mae_lite.
"""

from functools import partialmethod

from unmask.models.decoder import SelfAttention

__all__ = ["Narrow"]


class Narrow(SelfAttention):
    __init__ = partialmethod(SelfAttention.__init__, dim=256, depth=4, heads=8)  # pyright: ignore[reportAssignmentType]
