"""Weights in bf16 with fp32 masters: the blocks compute in bf16, and small updates are not lost to its rounding.

bf16 keeps 8 bits of a number, so adding a small update to a bf16 weight often changes nothing. Therefore every lowered
weight has a master in fp32, which the optimizer updates (`optim.py`) and the weight is a rounded copy of, as in mixed
precision training (Micikevicius et al. 2018, section 3.1, https://arxiv.org/abs/1710.03740). A module's state dict
holds the masters: checkpoints, exports and everything else that reads one sees the fp32 model under its usual names.

What stays in fp32: embeddings and their positions, the norms and the head behind the blocks, targets and loss. Inside
the blocks, a norm takes its statistics in fp32 whatever its input.
"""

from typing import Any

import torch
from torch import Tensor, nn

from unmask.runtime.blocks import stacked

LOW = torch.bfloat16


def lower(objective: nn.Module) -> int:
    """Brings the trained blocks of all stacks to bf16, in place; returns how many weights that were.

    A block with a frozen parameter stays as it is, and so does one that is lowered already.
    """
    count = 0
    for last, block in list(stacked(objective)):
        if isinstance(block, Lowered) or not all(p.requires_grad for p in block.parameters()):
            continue
        for parameter in block.parameters():
            if master(parameter) is None:  # else it is shared with a block that was lowered
                full = parameter.detach().float().clone()
                parameter.data = full.to(LOW)
                parameter.master = full  # type: ignore[attr-defined]
                count += parameter.numel()
        kind = type(block)
        block.__class__ = type(f"Lowered{kind.__name__}", (Lowered, kind), {})
        assert isinstance(block, Lowered)
        block.last = last
        block.register_state_dict_post_hook(_give_masters)
        block.register_load_state_dict_pre_hook(_take_masters)
    return count


def master(parameter: Tensor) -> Tensor | None:
    """The fp32 master of a lowered weight, on the weight's device; None for any other."""
    full = getattr(parameter, "master", None)
    if full is not None and full.device != parameter.device:
        full = parameter.master = full.to(parameter.device)  # type: ignore[attr-defined]
    return full


class Lowered(nn.Module):
    """Mixed into the class of a block whose weights are bf16: tokens come in and go on in bf16, the last block's leave
    in fp32. Outside training all leave in fp32, since anything may want to read them."""

    last: bool

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The first arguments are tokens; tables given by name, such as rotary positions, are not rounded."""
        args = tuple(a.to(LOW) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
        with torch.autocast(args[0].device.type, enabled=False):  # would bring norms back to fp32 on some devices
            y = super().forward(*args, **kwargs)
        return y if self.training and not self.last else y.float()


def _give_masters(block: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name, parameter in block.named_parameters():
        full = master(parameter)
        state[prefix + name] = parameter.detach().float() if full is None else full  # a copied block has lost them


def _take_masters(block: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """The weights themselves are filled afterwards by torch, rounded from the same values."""
    for name, parameter in block.named_parameters():
        full = master(parameter)
        if full is not None and (prefix + name) in state:
            full.copy_(state[prefix + name])
