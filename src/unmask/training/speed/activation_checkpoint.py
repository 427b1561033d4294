"""Activation checkpointing: a block keeps only its input and is recomputed in the backward pass. Chen et al. 2016.

It costs about one more forward pass and saves most of the memory of activations. A block's own hooks run once.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from unmask.runtime.blocks import stacked

Forward = Callable[..., Any]  # of a block: tokens and what else it takes in, tokens out


def wrap(block: nn.Module, around: Callable[..., Any]) -> None:
    """Makes calls of `block` go to `around(forward, *args, **kwargs)`, where `forward` is its previous forward.

    Copies made by `copy.deepcopy` are wrapped too, each around its own weights.
    """
    block.forward = partial(around, block.forward)


def recompute(module: nn.Module) -> int:
    """Makes the blocks inside `module` recompute their activations in the backward pass; returns their number.

    Losses and gradients stay the same, also with dropout and drop path: random numbers are replayed.
    """
    blocks = [block for _, block in stacked(module)]
    for block in blocks:
        wrap(block, _checkpointed)
    return len(blocks)


def _checkpointed(forward: Forward, *args: Any, **kwargs: Any) -> Any:
    return (
        checkpoint(forward, *args, use_reentrant=False, **kwargs)
        if torch.is_grad_enabled()
        else forward(*args, **kwargs)
    )
