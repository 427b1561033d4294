"""What an MLP's activation function made is not kept for the way back: it is made again from its input.

The input is kept anyway, for the function's own gradient. What it made is as large, and only the gradient of the next
weight asks for it, so a transformer block keeps about a fifth less; making it again is one pass over it, and gives the
very same numbers. A case of recomputation (Chen et al. 2016, https://arxiv.org/abs/1604.06174) that costs next to
nothing, so it needs no option. Compiled blocks decide for themselves what they keep, and blocks that are computed again
as a whole keep nothing of it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from unmask.lowering import stacked

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
