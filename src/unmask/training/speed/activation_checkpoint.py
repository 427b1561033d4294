"""Activation checkpointing: a block keeps its input only and is computed again on the way back. Chen et al. 2016.

It costs about one more forward pass and saves most of the memory of activations. It is laid around blocks from outside,
so that encoders and decoders need not know of it: what a block's own hooks do is not done twice.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from unmask.runtime.blocks import stacked

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


ELEMENTWISE = (nn.GELU, nn.SiLU, nn.ReLU)  # without chance, and with nothing of their own to learn


def lean(module: nn.Module) -> int:
    """From now on the MLPs in the blocks inside `module` keep less; returns how many do."""
    found = 0
    for _, block in stacked(module):
        for part in [] if "forward" in vars(block) else block.modules():  # see recompute.py
            act, after = getattr(part, "act", None), getattr(part, "fc2", None)
            if isinstance(act, ELEMENTWISE) and isinstance(after, nn.Linear) and not hasattr(part, "again"):
                part.again = again = _Again()  # type: ignore[assignment]
                act.register_forward_hook(again.note)
                after.register_forward_pre_hook(again.begin)
                after.register_forward_hook(again.end, always_call=True)
                found += 1
    return found


class _Again:
    """Hooks on an activation function and on the layer behind it. What lies between them changes nothing, or else the
    layer gets another tensor, which is kept as usual."""

    def __init__(self):
        self.act: Callable[[Tensor], Tensor] | None = None
        self.given: Tensor | None = None
        self.made = 0  # where the values lie
        self.context: saved_tensors_hooks | None = None

    def note(self, act: nn.Module, args: tuple[Any, ...], made: Tensor) -> None:
        if torch.is_grad_enabled() and made.requires_grad:
            self.act, self.given, self.made = act.forward, args[0].detach(), made.untyped_storage().data_ptr()

    def begin(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        act, given, made, self.given = self.act, self.given, self.made, None
        if given is None or act is None:
            return

        def pack(kept: Tensor) -> Any:
            same = kept.untyped_storage().data_ptr() == made and kept.numel() == given.numel()
            return kept.shape if same and kept.dtype == given.dtype and kept.is_contiguous() else kept

        def unpack(kept: Any) -> Tensor:
            return kept if isinstance(kept, Tensor) else act(given).reshape(kept)

        self.context = saved_tensors_hooks(pack, unpack)
        self.context.__enter__()

    def end(self, *_: Any) -> None:
        if self.context is not None:
            self.context.__exit__()
            self.context = None
