"""How a run uses the machine. "auto", or None for threads: `machine.choices` decides on each machine."""

from dataclasses import dataclass, fields


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


def runtime_of(options: object) -> RuntimeSettings:
    """The runtime settings among a command's options; others are ignored."""
    names = [field.name for field in fields(RuntimeSettings) if hasattr(options, field.name)]
    return RuntimeSettings(**{name: getattr(options, name) for name in names})
