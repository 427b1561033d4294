"""Activation checkpointing: a block keeps its input only and is computed again on the way back. Chen et al. 2016.

It costs about one more forward pass and saves most of the memory of activations. It is laid around blocks from outside,
so that encoders and decoders need not know of it: what a block's own hooks do is not done twice.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

BLOCKS = "blocks"  # how timm and our decoders call their sequence of transformer blocks


def recompute(module: nn.Module) -> int:
    """From now on the blocks inside `module` are computed again in the backward pass; returns how many there are.

    Losses and gradients are the same, those of dropout and drop path too: chance is replayed. Names of parameters and
    what is saved do not change.
    """
    found = [block for name, part in module.named_modules() if _is_sequence(name, part) for block in part.children()]
    for block in found:
        if "forward" not in vars(block):
            block.forward = partial(_again, block)
    return len(found)


def _is_sequence(name: str, part: nn.Module) -> bool:
    return name.rsplit(".", 1)[-1] == BLOCKS and isinstance(part, nn.ModuleList | nn.Sequential)


def _again(block: nn.Module, *inputs: Any, **options: Any) -> Any:
    forward = partial(type(block).forward, block)  # looked up late: `lowering.py` gives blocks another class
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, **options)
