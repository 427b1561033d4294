"""Activation checkpointing: a block keeps only its input and is computed again in the backward pass. Chen et al. 2016.

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
    """From now on calling `block` calls `around(forward, *args, **kwargs)`, where `forward` is what it did before.

    Copies made by `copy.deepcopy` are wrapped too, each around its own weights.
    """
    block.forward = partial(around, block.forward)


def recompute(module: nn.Module) -> int:
    """From now on the blocks inside `module` are computed again in the backward pass; returns how many there are.

    Losses and gradients are the same, with dropout and drop path too: the random numbers are replayed.
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
