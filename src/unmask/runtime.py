"""What this machine is, and the settings that make it fast; chosen once, at the start, and said in the plan."""

import ctypes
import os
import sys
import time
from dataclasses import dataclass

import psutil
import torch

from unmask.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = {"bf16": "bf16-mixed", "32": "32-true"}  # ours -> Fabric's


@dataclass(frozen=True)
class Machine:
    device: str  # "cpu", "cuda" or "mps"
    name: str  # of the processor or GPU
    cores: int
    memory: int  # bytes free for training, on the device
    precision: str  # "bf16" or "32"
    why_precision: str


def machine(device: str = "auto", precision: str = "auto") -> Machine:
    """Looks at the hardware. Raises UserError for a device or precision that is not there."""
    device = _device(device)
    if precision not in ("auto", *PRECISIONS):
        raise UserError(f"no precision {precision!r}; there are auto, {', '.join(PRECISIONS)}")
    why = "asked for"
    if precision == "auto":
        precision, why = _precision(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device == "cuda":
        name, memory = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0]
    else:
        name, memory = f"{cores} CPU cores" if device == "cpu" else "Apple GPU", psutil.virtual_memory().available
    return Machine(device, name, cores, memory, precision, why)


def tune(device: str) -> None:
    """Process-wide settings without effect on results beyond rounding.

    CPU: timm's attention as plain matrix products (torch's fused one has a slow bf16 backward on CPUs: measured 4 to 7
    times slower at 50 to 200 tokens), and freed memory kept for the next step instead of being returned (Linux, glibc).
    """
    import timm.layers

    timm.layers.set_fused_attn(device != "cpu")  # pyright: ignore[reportPrivateImportUsage]
    if device == "cpu" and sys.platform == "linux":
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(-4, 0)  # M_MMAP_MAX: no mmap for large blocks, so they are reused
            libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never give the heap's top back
        except (OSError, AttributeError):  # musl and others have no mallopt; only speed is lost
            pass
    if device == "cuda":
        torch.set_float32_matmul_precision("high")


def _device(device: str) -> str:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if device not in there:
        raise UserError(f"no device {device!r}; there are {', '.join(DEVICES)}")
    if not there[device]:
        have = ", ".join(name for name, found in there.items() if found)
        raise UserError(f"this machine (or this torch) has no {device}; it has: {have}")
    return device


def _precision(device: str) -> tuple[str, str]:
    if device == "cuda":
        good = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "this GPU computes in bf16") if good else ("32", "this GPU has no bf16")
    if device == "mps":
        return "32", "bf16 is not reliable on this device"
    ratio = _bf16_gain()
    return ("bf16" if ratio > 1.3 else "32"), f"bf16 matrix products are {ratio:.1f} times as fast as fp32 here"


def _bf16_gain(size: int = 768, rounds: int = 5) -> float:
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size).to(dtype)
        a @ a
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        seconds[dtype] = min(times)
    return seconds[torch.float32] / seconds[torch.bfloat16]
