"""How a run uses the machine. "auto", or None for threads: `machine.choices` decides on each machine."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RuntimeSettings:
    device: str = "cpu"  # or "cuda", "mps"
    precision: str = "32"  # or "bf16", "bf16-weights"
    matmul: str = "auto"
    attention: str = "auto"
    allocator: str = "auto"
    fused: str = "auto"
    compile: str = "auto"
    channels_last: str = "auto"
    threads: int | None = None
    strategy: str = "auto"  # over several devices: "ddp" or "fsdp2"
    checkpoint_activations: str = "auto"
    deterministic: bool = False  # bit-identical weights every time


def runtime_of(options: Mapping[str, Any]) -> RuntimeSettings:
    """The runtime settings among a command's options; others are ignored."""
    return RuntimeSettings(**{f.name: options[f.name] for f in fields(RuntimeSettings) if f.name in options})
