"""Weights in and out: strict, so that nothing is silently left at random."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unmask.checkpoint import write_atomically
from unmask.errors import UserError

ENCODER = "encoder.safetensors"


def save_encoder(net: nn.Module, path: Path, facts: dict[str, str]) -> None:
    """A plain timm state dict, as `timm.create_model(..., checkpoint_path=path)` opens it; `facts` go in its header."""
    save_state(net, path, facts)


def save_state(module: nn.Module, path: Path, facts: dict[str, str]) -> None:
    """The state dict of any module as safetensors."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_atomically(path, lambda part: save_file(state, part, metadata=facts))


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file; no code in the file is run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} holds no weights that can be read ({type(error).__name__}); give .safetensors or .pth"
        ) from error
    for key in ("model", "state_dict", "objective"):
        content = content[key] if isinstance(content.get(key), dict) else content
    return content


def load_strictly(module: nn.Module, state: dict[str, Any], source: str) -> None:
    """Loads all of `state` into all of `module`, or raises UserError that lists both sides."""
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    shapes = [f"{k}: {tuple(state[k].shape)} in the file, {tuple(own[k].shape)} in the model"
              for k in own if k in state and state[k].shape != own[k].shape]  # fmt: skip
    if missing or extra or shapes:
        lines = [f"the weights of {source} do not fit this model."]
        for title, names in (("only in the model", missing), ("only in the file", extra), ("other shapes", shapes)):
            if names:
                lines.append(f"  {title} ({len(names)}): {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}")
        raise UserError("\n".join(lines) + "\n  Give the model, patch and image size that the weights were made with.")
    module.load_state_dict(state)
