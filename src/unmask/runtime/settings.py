"""How a run uses the machine. "auto", or None for threads: `machine.choices` decides on each machine."""

from dataclasses import dataclass, fields

from unmask.errors import UserError, closest

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("bf16", "bf16-weights", "32")
CHOICES = {  # allowed values of each setting; "auto" leaves it to `choices`
    "matmul": ("auto", "default", "onednn", "tf32"),
    "attention": ("auto", "by-length", "sdpa", "matmul"),
    "allocator": ("auto", "keep", "system"),
    "fused": ("auto", "on", "off"),
    "compile": ("auto", "on", "graphs", "off"),
    "channels_last": ("auto", "on", "off"),
}


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


def check_names(settings: RuntimeSettings) -> None:
    """Raises UserError for a device, a precision or a choice that does not exist on any machine."""
    if settings.device not in DEVICES:
        raise UserError(
            f"no device {settings.device!r}{closest(settings.device, DEVICES)} There are: {', '.join(DEVICES)}"
        )
    precision = settings.precision
    if precision not in ("auto", *PRECISIONS):
        fewer = any(bits in precision for bits in "48")  # fp8, int8, fp4
        near = (
            "; the fewest bits that unmask trains with are those of bf16." if fewer else closest(precision, PRECISIONS)
        )
        raise UserError(f"no --precision {precision!r}{near} There are: auto, {', '.join(PRECISIONS)}")
    for name, allowed in CHOICES.items():
        value = getattr(settings, name)
        if value not in allowed:
            flag = name.replace("_", "-")
            raise UserError(f"no --{flag} {value!r}{closest(str(value), allowed)} There are: {', '.join(allowed)}")
