"""Gathers and shards the weights and moments of a model under FSDP2.

With torch.distributed.checkpoint, which addresses both by name. Gathered, they are what one device would have: a
checkpoint does not depend on the devices it was trained on, and resumes on any number of them.
"""

from typing import Any

import torch
from torch import nn


def is_cut(model: nn.Module) -> bool:
    """True if the weights are shards; then all processes must call the functions below together."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The state dict on the CPU in the first process; empty in the others."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def whole_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state dict with indices instead of names, as torch has it; empty in the others."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: Any = get_optimizer_state_dict(model, optimizer, options=options)
    if not state:
        return {}
    numbers = {name: number for number, name in enumerate(_names(model, optimizer))}
    return {
        "state": {numbers[name]: values for name, values in state["state"].items()},
        "param_groups": [g | {"params": [numbers[name] for name in g["params"]]} for g in state["param_groups"]],
    }


def cut_weights(model: nn.Module, state: dict[str, Any]) -> None:
    """Loads a whole state dict, strictly; each process takes its shards."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(model, dict(state), options=StateDictOptions(full_state_dict=True))


def cut_moments(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Loads an optimizer's whole state dict; each process takes its shards."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    names = _names(model, optimizer)
    named = {
        "state": {names[number]: dict(values) for number, values in state["state"].items()},
        "param_groups": [group | {"params": [names[n] for n in group["params"]]} for group in state["param_groups"]],
    }
    set_optimizer_state_dict(model, optimizer, named, options=StateDictOptions(full_state_dict=True))


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the trainable parameters, in the optimizer's order."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
