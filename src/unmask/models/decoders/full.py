"""MAE's decoder: self-attention over visible tokens and mask tokens, every hidden unit predicted. He et al. 2021.

The computation is in `models/decoder.py`, since other decoders share it.
"""

from unmask.models.decoder import SelfAttention

__all__ = ["Full"]


class Full(SelfAttention):
    """MAE's width, depth and heads for every encoder size, unless given."""
