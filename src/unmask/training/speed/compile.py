"""Makes a model ready for fast training, as the settings of a run say. Neither names nor numbers of weights change."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unmask.runtime.blocks import stacked
from unmask.runtime.machine import by_length
from unmask.runtime.settings import RuntimeSettings
from unmask.training.objective import Objective
from unmask.training.speed.activation_checkpoint import lean
from unmask.training.speed.bf16_weights import lower

FUSED = "fused_attn"  # the name that timm's attentions share, and ours
MOST_VARIANTS = 64  # of a block that may be compiled: blocks with different drop rates differ


def ready(objective: Objective, settings: RuntimeSettings, backend: str = "inductor") -> Objective:
    """Returns the objective itself, changed in place: attention backend, memory format, bf16 weights, compiled blocks.
    Settings that are "auto" leave things as they are.

    backend: of torch.compile.
    """
    for twin in objective.twins.values():
        ready(twin, settings, backend)
    _attend(objective, settings.attention)
    embed = getattr(getattr(objective.encoder, "net", None), "patch_embed", None)
    if settings.channels_last == "on" and embed is not None:
        embed.to(memory_format=torch.channels_last)
        embed.register_forward_pre_hook(_channels_last)
    if settings.precision == "bf16-weights":
        lower(objective)
    if settings.compile in ("on", "graphs"):
        _compile(objective, settings.compile == "graphs", backend)
    else:
        lean(objective)
    return objective


def _attend(objective: nn.Module, how: str) -> None:
    """Sets the backend of every attention, or lets each choose for what it is given. A block that does its attention's
    work itself, as MAE's last one, never calls it: so blocks choose too, and an attention that is called has the last
    word, since its sequence may be a window of the block's."""
    attentions = [module for module in objective.modules() if hasattr(module, FUSED)]
    if how in ("sdpa", "matmul"):
        for module in attentions:
            setattr(module, FUSED, how == "sdpa")
    elif how == "by-length":
        for _, block in stacked(objective):
            block.register_forward_pre_hook(_choose)
        for module in attentions:
            module.register_forward_pre_hook(_choose)


def _choose(module: nn.Module, args: tuple[Any, ...]) -> None:
    x = args[0]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    for inner in (module, getattr(module, "attn", None)):
        if hasattr(inner, FUSED):
            setattr(inner, FUSED, by_length(x.shape[1], dtype))


def _channels_last(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    x = args[0]
    four = isinstance(x, Tensor) and x.ndim == 4
    return (x.contiguous(memory_format=torch.channels_last), *args[1:]) if four else args


def _compile(objective: nn.Module, graphs: bool, backend: str) -> None:
    """Block by block: blocks of one kind share the code that is compiled for the first. Shapes never change in
    training, and CUDA graphs need that."""
    import torch._dynamo.config as dynamo

    dynamo.cache_size_limit = max(dynamo.cache_size_limit, MOST_VARIANTS)
    options: dict[str, Any] = {"dynamic": False, "backend": backend}
    if graphs:
        options["mode"] = "reduce-overhead"
        objective.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())
    for _, block in stacked(objective):
        block.compile(**options)
        block._compiled_call_impl = partial(_in_training, block, block._compiled_call_impl)


def _in_training(block: nn.Module, compiled: Any, *args: Any, **kwargs: Any) -> Any:
    """Images, probes and tests come in other sizes, and seldom: compiling for each would take longer than they do."""
    return (compiled if block.training else block._call_impl)(*args, **kwargs)
