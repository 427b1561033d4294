"""Prepares a model for fast training, following the settings of a run. Names and values of weights do not change."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unmask.models.ema import Teacher
from unmask.models.layers.lean_mlp import make_lean
from unmask.runtime.blocks import stacked
from unmask.runtime.machine import by_length
from unmask.runtime.settings import RuntimeSettings
from unmask.training.objective import Objective
from unmask.training.speed.activation_checkpoint import Forward, recompute, wrap
from unmask.training.speed.bf16_weights import lower

FUSED = "fused_attn"  # attribute of timm's attentions, and of ours
Trained = TypeVar("Trained", bound=Objective)
Backend = str | Callable[..., Any]  # of torch.compile
MOST_VARIANTS = 256  # of a block that may be compiled: drop rates, image sizes and mask ratios differ


def ready(objective: Trained, settings: RuntimeSettings, backend: Backend = "inductor") -> Trained:
    """Changes the objective in place and returns it: attention backend, memory format, bf16 weights, activation
    checkpointing, compiled blocks. The package's docstring gives the order of wrapping, with reasons.

    Settings that are "auto" change nothing. backend: of torch.compile.
    """
    _set_attention(objective, settings.attention)
    embed = getattr(getattr(objective.encoder, "net", None), "patch_embed", None)
    if settings.channels_last == "on" and embed is not None:
        embed.to(memory_format=torch.channels_last)
        embed.register_forward_pre_hook(_channels_last)
    if settings.precision == "bf16-weights":
        lower(objective)
    again, compiled = settings.checkpoint_activations == "on", settings.compile in ("on", "graphs")
    if again:
        recompute(objective)
    if compiled:
        _compile(objective, settings.compile == "graphs", backend)
    elif not again:
        for _, block in stacked(objective):
            make_lean(block)
    return objective


def _set_attention(objective: nn.Module, how: str) -> None:
    """Sets the backend of every attention, or lets each choose by sequence length. A block that computes attention
    itself, like the last one of MAE's decoder, never calls its attention module, so blocks choose too. An attention
    that is called chooses again, since its sequence may be one of the block's windows."""
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


def _compile(objective: nn.Module, graphs: bool, backend: Backend) -> None:
    """Compiles block by block: blocks of one kind share the code compiled for the first. Shapes never change in
    training, as CUDA graphs require."""
    import torch._dynamo.config as dynamo

    dynamo.cache_size_limit = max(dynamo.cache_size_limit, MOST_VARIANTS)
    options: dict[str, Any] = {"dynamic": False, "backend": backend}
    if graphs:
        options["mode"] = "reduce-overhead"
        objective.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())
    compiled = torch.compile(_call, **options)
    taught = {id(b) for m in objective.modules() if isinstance(m, Teacher) for _, b in stacked(m)}
    for _, block in stacked(objective):
        wrap(block, partial(_compiled_in_training, block, compiled, id(block) in taught))


def _call(forward: Forward, *args: Any, **kwargs: Any) -> Any:
    return forward(*args, **kwargs)


def _compiled_in_training(
    block: nn.Module, compiled: Any, teaches: bool, forward: Forward, *args: Any, **kwargs: Any
) -> Any:
    """Probes and figures are rare and have other sizes: compiling for each would take longer than running them. A
    teacher is never in training mode: it is compiled where it runs without gradients, which is the training step."""
    return compiled(forward, *args, **kwargs) if block.training or teaches else forward(*args, **kwargs)
