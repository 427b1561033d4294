"""MAE's decoder: self-attention over visible tokens and mask tokens, every hidden unit predicted. He et al. 2021.

What it does is written in `models/decoder.py`, since others vary it.
"""

from unmask.models.decoder import SelfAttention

__all__ = ["Full"]


class Full(SelfAttention):
    """With MAE's width, depth and heads for every encoder size, unless others are asked for."""
