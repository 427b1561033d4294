"""Reads and writes weights: strictly, so that nothing silently stays random, and without running code from a file."""

import contextlib
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from unmask.data.limits import Bomb, require_modest_pickle
from unmask.errors import UserError
from unmask.files import Json, parse_json, write_atomically
from unmask.weights.copies import Checkpoint, unwrapped
from unmask.weights.reading import PLAIN, Reading

ENCODER = "encoder.safetensors"
# Classes of harmless records that training programs save beside the tensors. They are not imported: an empty stand-in
# takes their place. Anything else in a pickle that is no tensor or plain value is refused.
RECORDS = ("argparse.Namespace", "omegaconf.", "mmengine.", "lightning.", "lightning_fabric.", "pytorch_lightning.")
RECORDS += ("pathlib.", "numpy.", "_codecs.encode", "typing.Any", "collections.defaultdict", "datetime.")
RECORDS += tuple(
    f"builtins.{name}" for name in ("int", "float", "str", "bool", "bytes", "list", "dict", "set", "tuple")
)


class Record:
    """A stand-in for saved objects of classes that we do not need; it accepts any arguments and keeps nothing."""

    def __new__(cls, *args: object, **kwargs: object) -> "Record":
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object): ...

    def __setstate__(self, state: object) -> None: ...


def save_encoder(net: nn.Module, path: Path, facts: dict[str, str]) -> None:
    """A plain timm state dict, as `timm.create_model(..., checkpoint_path=path)` opens it; `facts` go in its header."""
    save_state(net, path, facts)


def save_state(module: nn.Module, path: Path, facts: dict[str, str]) -> None:
    """The state dict of any module as safetensors."""
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}

    def write(part: Path) -> None:
        save_file(state, part, metadata=facts)
        _sort_facts(part)

    write_atomically(path, write)


def _sort_facts(path: Path) -> None:
    """safetensors writes the facts of its header in an order that changes from call to call; the same weights shall be
    the same bytes."""
    with open(path, "rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = parse_json(file.read(size))
        facts = header.pop("__metadata__", {})
        content = {"__metadata__": dict(sorted(facts.items()))} | header if facts else header
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:  # always, unless it escapes what we do not
            file.seek(8)
            file.write(text.ljust(size))


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file; no code in the file is run."""
    return read_weights(path)[0]


def require_finite(state: dict[str, Tensor], where: object) -> None:
    """Raises UserError for weights that hold NaN or infinity: whatever they are used for comes out as NaN."""
    bad = [name for name, value in state.items() if value.is_floating_point() and not _is_finite(value)]
    if bad:
        raise UserError(
            f"{where} holds values that are not finite (NaN or infinity) in {len(bad)} of its {len(state)} tensors, the"
            f" first of them {bad[0]}: nothing can be computed with it; take an earlier checkpoint, or fetch it again"
        )


def _is_finite(value: Tensor) -> bool:
    return bool(value.sum(dtype=torch.float32).isfinite()) or bool(value.isfinite().all())  # a sum may overflow


def read_weights(path: Path) -> tuple[dict[str, Tensor], Json]:
    """Tensors by name, and what else the file says: a safetensors header, or plain values beside the state."""
    checkpoint = read_checkpoint(path)
    return checkpoint.state, checkpoint.header


def read_checkpoint(path: Path, reading: Reading = PLAIN) -> Checkpoint:
    """One network of a file; see `copies.py` for which.

    Raises UserError for what cannot be read, and for a pickle that asks for anything but tensors and plain records.
    """
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: 0 bytes. Was its download cut off?")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                state, header = {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
        except Exception as error:
            raise _unreadable(path, error) from error
        checkpoint = unwrapped(state, reading, str(path))
        return replace(checkpoint, header=header)
    content = _unpickle(path)
    checkpoint = unwrapped(content, reading, str(path))
    if not checkpoint.state:
        what = "a whole pickled model" if isinstance(content, nn.Module) else f"a {type(content).__name__}"
        raise UserError(f"{path} holds {what} without tensors by name; give a state dict: .safetensors or .pth")
    return checkpoint


def _unpickle(path: Path) -> Any:
    names: list[str] = []
    try:
        require_modest_pickle(path)
    except Bomb as error:
        raise UserError(f"{path} is refused: {error}. Ask its maker for .safetensors") from error
    with contextlib.suppress(Exception):  # not a zip file: an old torch file, or none at all, which load says
        names = get_unsafe_globals_in_checkpoint(path)
    bad = [name for name in names if not name.startswith(RECORDS)]
    if any(name.startswith("ultralytics.") for name in bad):
        raise UserError(
            f"{path} is a model of ultralytics, pickled whole: opening it would run ultralytics' code. Its networks are"
            " convolutional, and unmask reads ViTs and Hiera; there is nothing to take over"
        )
    if bad:
        raise UserError(
            f"{path} is refused: opening it would call {', '.join(bad[:3])}, which can run any code. Ask its maker for"
            " .safetensors, or for a .pth that holds tensors only"
        )
    stand_ins: list[Any] = [(type("Record", (Record,), {}), name) for name in {*names, "argparse.Namespace"}]
    try:
        with safe_globals(stand_ins), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if "Unsupported" in str(error) or "WeightsUnpickler" in str(error):
            raise UserError(
                f"{path} is refused: it holds more than tensors and plain values, and opening that could run code."
                " Ask its maker for .safetensors, or for a .pth that holds tensors only"
            ) from error
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} holds no weights that can be read ({type(error).__name__}); give .safetensors or .pth. Is it complete?"
    )


def is_run(config: Json) -> bool:
    """Whether a config.json is that of a pretraining run; one with "settings" on top an old run's, which none opens."""
    return {"data", "model", "method", "training"} <= config.keys() or ("settings" in config and "task" not in config)
