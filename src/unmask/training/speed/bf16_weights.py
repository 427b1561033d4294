"""Weights in bf16 with fp32 masters: the blocks compute in bf16, and small updates are not lost to rounding.

bf16 has 8 significant bits, so adding a small update to a bf16 weight often changes nothing. Therefore every bf16
weight has an fp32 master, which the optimizer updates (`MasterAdamW`); the weight is a rounded copy of it, as in mixed
precision training (Micikevicius et al. 2018, section 3.1, https://arxiv.org/abs/1710.03740). A module's state dict
holds the masters, so that checkpoints and exports see the fp32 model under its usual names.

In fp32 stay: embeddings and positions, the norms and the head behind the blocks, targets and loss. Norms inside the
blocks compute their statistics in fp32 for any input.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unmask.runtime.blocks import stacked
from unmask.training.speed.activation_checkpoint import Forward, wrap

LOW = torch.bfloat16


def lower(objective: nn.Module) -> int:
    """Converts the trainable blocks of all stacks to bf16, in place; returns the number of weights converted.

    A block with a frozen parameter is not converted.
    """
    count = 0
    for last, block in list(stacked(objective)):
        if not all(p.requires_grad for p in block.parameters()):
            continue
        for parameter in block.parameters():
            if master(parameter) is None:  # otherwise it is shared with a block already converted
                full = parameter.detach().float().clone()
                parameter.data = full.to(LOW)
                vars(parameter)["master"] = full
                count += parameter.numel()
        wrap(block, partial(_in_bf16, block, last))
        block.register_state_dict_post_hook(_save_masters)
        block.register_load_state_dict_pre_hook(_load_masters)
    return count


def master(parameter: Tensor) -> Tensor | None:
    """The fp32 master of a bf16 weight, on the weight's device; None for any other parameter."""
    full = getattr(parameter, "master", None)
    if full is not None and full.device != parameter.device:
        full = vars(parameter)["master"] = full.to(parameter.device)
    return full


def _in_bf16(block: nn.Module, last: bool, forward: Forward, *args: Any, **kwargs: Any) -> Tensor:
    """Tokens go in and come out in bf16; the last block returns fp32. Outside training every block returns fp32, since
    any layer may be read. Only positional arguments are rounded: tables passed by keyword, such as rotary positions,
    are not."""
    args = tuple(a.to(LOW) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
    with torch.autocast(args[0].device.type, enabled=False):  # would bring norms back to fp32 on some devices
        y = forward(*args, **kwargs)
    return y if block.training and not last else y.float()


def _save_masters(block: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name, parameter in block.named_parameters():
        full = master(parameter)
        state[prefix + name] = parameter.detach().float() if full is None else full  # deepcopy drops the masters


def _load_masters(block: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """torch then fills the weights, rounded from the same values."""
    for name, parameter in block.named_parameters():
        full = master(parameter)
        if full is not None and (prefix + name) in state:
            full.copy_(state[prefix + name])
