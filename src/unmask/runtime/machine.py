"""Describes this machine and chooses the settings that make it fast, once at the start; the plan shows them.

Anything that can differ between machines of one kind is measured, not assumed. Figures are in docs/performance.md.
"""

import ctypes
import platform
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import psutil
import torch
from torch.nn.functional import linear

from unmask.choice import Choice
from unmask.errors import UserError
from unmask.runtime.cores import num_cores
from unmask.runtime.openmp import waiting
from unmask.runtime.settings import RuntimeSettings, check_names

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None
EXACT = 2e-6  # relative error of a product; fp32 has 2e-7 to 5e-7, TF32 about 3e-4, bf16 about 3e-3
ROUNDS = 9  # repetitions of a measurement; the median counts
WORTH = 1.25  # speed-up below which another backend is not worth it: the choice would be a matter of chance
HOPELESS = 0.25  # speed-up of small bf16 products below which large ones are not measured
MMAP_MAX, TRIM_THRESHOLD = -4, -1  # glibc's names of what mallopt sets


@dataclass(frozen=True)
class Machine:
    device: str  # "cpu", "cuda" or "mps"
    name: str  # of the processor or GPU
    cores: int
    memory: int  # bytes free for training, on the device
    precision: str  # "bf16", "bf16-weights" or "32"
    why_precision: str


def machine(device: str = "auto", precision: str = "auto") -> Machine:
    """Inspects the hardware. Raises UserError for a device or precision that it lacks."""
    check_names(RuntimeSettings(device=device, precision=precision))
    device = _device(device)
    why = "asked for"
    if precision == "auto":
        precision, why = _precision(device)
    if device == "cuda":
        name, memory = torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0]
    else:
        name = f"{num_cores()} CPU cores" if device == "cpu" else "Apple GPU"
        memory = memory_here()
    return Machine(device, name, num_cores(), memory, precision, why)


def memory_here() -> int:
    """Bytes of main memory that this process may use: what is free, or less where `ulimit -v` says so."""
    free = psutil.virtual_memory().available
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource is not None else -1
    return free if limit < 0 else min(free, limit)


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype of torch.autocast for one of our precisions; None if autocast is off."""
    return None if precision == "32" else torch.bfloat16


def check(settings: RuntimeSettings) -> None:
    """Raises UserError for a runtime setting that does not exist or cannot work here. Cheap, so call it first."""
    check_names(settings)
    threads, device = settings.threads, _device(settings.device)
    if threads is not None and not 1 <= threads <= num_cores():
        raise UserError(
            f"--threads must be from 1 to {num_cores()}, the cores that this process may use; got {threads}"
        )
    if settings.matmul == "tf32" and device != "cuda":
        raise UserError(f"--matmul tf32 needs a CUDA GPU, not {device}; there are auto, default and onednn")
    if settings.matmul == "onednn":
        if device != "cpu":
            raise UserError(f"--matmul onednn is for CPUs, not {device}; there are auto, default and tf32")
        if (error := _onednn()[1]) > EXACT:
            raise UserError(
                f"--matmul onednn would not compute in fp32 on this CPU (relative error of a product {error:.0e}); use"
                " --matmul default, or --precision bf16 if that is what you want"
            )
    if settings.compile == "graphs" and device != "cuda":
        raise UserError(f"--compile graphs needs a CUDA GPU, not {device}; there are auto, on and off")
    if settings.compile == "on" and device == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
        raise UserError("--compile on needs a C++ compiler on a CPU, such as g++; none is found. Use --compile off")
    if settings.allocator == "keep" and not _glibc():
        raise UserError("--allocator keep needs Linux with glibc; there are auto and system")


def choices(device: str, measure: bool = True) -> dict[str, Choice]:
    """The best value of each setting in CHOICES and of threads, with its reason.

    measure: False skips settings that are chosen by measuring, since the next measurement might choose differently.
    """
    on_cpu = device == "cpu"
    asis = "default", "--deterministic: nothing that another measurement might choose otherwise"
    best: dict[str, tuple[Any, str]] = {"matmul": _matmul(device) if measure else asis}
    best["attention"] = (
        ("by-length", "short sequences as plain matrix products, whose backward is faster on CPUs; long ones fused")
        if on_cpu
        else ("sdpa", "torch's fused attention")
    )
    keep = on_cpu and _glibc()
    why = "memory freed by a step is kept for the next one" if keep else "the device's own, which keeps it anyway"
    best["allocator"] = ("keep", why) if keep else ("system", why if not on_cpu else "no glibc here")
    best["fused"] = ("on", "the optimizer passes over the weights once")
    best["compile"] = (
        ("on", "blocks compiled once; saves memory traffic and launches") if device == "cuda"
        else ("off", "no measurable gain on CPUs, for a minute of compiling" if on_cpu else "not tried on this device")
    )  # fmt: skip
    best["channels_last"] = (
        ("on", "patch embedding by a convolution over channels-last images") if device == "cuda"
        else ("off", "the patch embedding is a matrix product here")
    )  # fmt: skip
    best["threads"] = (torch.get_num_threads(), f"{num_cores()} cores; {waiting()}")
    return {name: Choice(value, why) for name, (value, why) in best.items()}


class _Process:
    """Process-wide choices of `tune` for which torch has no switch."""

    fused_attention: bool | None = None
    tuned: tuple[str, RuntimeSettings] | None = None


def tuned() -> tuple[str, RuntimeSettings] | None:
    """The device and the settings that `tune` applied in this process, so that others can apply the same instead of
    measuring; None: it was not called."""
    return _Process.tuned


def fused_attention() -> bool | None:
    """Whether new attention layers use torch's fused attention; None: not chosen yet."""
    return _Process.fused_attention


def tune(device: str, settings: RuntimeSettings | None = None) -> str:
    """Applies process-wide settings and chooses those that `settings` leaves open. They change results by rounding at
    most. Returns a sentence if a setting cannot be used on this machine, otherwise ""."""
    settings_by_name = asdict(settings or RuntimeSettings())
    given = {name: value for name, value in settings_by_name.items() if value not in (None, "auto")}
    best = choices(device, measure=not given.get("deterministic"))
    chosen = {name: value for name, (value, _) in best.items()} | given
    _Process.fused_attention = chosen["attention"] == "sdpa"
    if _glibc():
        keep = chosen["allocator"] == "keep"
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(MMAP_MAX, 0 if keep else 65536)  # no mmap for large blocks, so that they are reused
        libc.mallopt(TRIM_THRESHOLD, -1 if keep else 131072)  # never return the top of the heap
    if "threads" in given:
        torch.set_num_threads(given["threads"])
    matmul, remark = chosen["matmul"], ""
    if matmul == "onednn" and _onednn()[1] > EXACT:  # a run that began on another machine
        matmul, remark = "default", "oneDNN would not compute in fp32 on this CPU, so --matmul default is used."
    torch.set_float32_matmul_precision({"default": "highest", "onednn": "medium", "tf32": "high"}[matmul])
    attention, allocator = chosen["attention"], chosen["allocator"]
    _Process.tuned = device, RuntimeSettings(device=device, attention=attention, allocator=allocator, matmul=matmul)
    return remark


def by_length(tokens: int, dtype: torch.dtype) -> bool:
    """True where fused attention is the faster on a CPU. Measured with forward and backward, on AMD Zen 5: as matrix
    products bf16 is 6.9 times as fast at 50 tokens, 3.9 at 197, 2.0 at 785; fp32 1.4 at 50, 1.05 at 197, 0.7 at 785."""
    return tokens > (1024 if dtype == torch.bfloat16 else 128)


def _glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"


def _device(device: str) -> str:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        devices = ", ".join(name for name, usable in available.items() if usable)
        raise UserError(f"this machine (or this torch) has no {device}; it has: {devices}")
    return device


def _precision(device: str) -> tuple[str, str]:
    if device == "cuda":
        good = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "this GPU computes in bf16") if good else ("32", "this GPU has no bf16")
    if device == "mps":
        return "32", "bf16 is not reliable on this device"
    ratio = _bf16_gain()
    return ("bf16" if ratio > 1.3 else "32"), f"bf16 matrix products are {ratio:.2g} times as fast as fp32 here"


def _matmul(device: str) -> tuple[str, str]:
    if device == "cuda":
        return "tf32", "products of fp32 numbers with 10 bits of each, as is usual in training; default: all bits"
    if device != "cpu":
        return "default", "the only one on this device"
    gain, error = _onednn()
    if error > EXACT:
        return "default", f"oneDNN would round here (relative error {error:.0e}), so it would not be fp32"
    if gain < WORTH:
        return "default", f"oneDNN is not much faster here ({gain:.1f} times)"
    return "onednn", f"{gain:.1f} times as fast as the default here, and still fp32 (relative error {error:.0e})"


@lru_cache
def _onednn(rows: int = 384, width: int = 512) -> tuple[float, float]:
    """Speed-up of fp32 products through oneDNN, and their relative error against float64. On CPUs with bf16 tiles (AMX)
    the same switch of torch allows rounding to bf16, which the error reveals."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, width, generator=generator)
    weight = torch.randn(4 * width, width, generator=generator)  # the shapes of a block's MLP
    exact = x.double() @ weight.double().T
    before, times, error = torch.get_float32_matmul_precision(), {"highest": [], "medium": []}, 0.0
    try:
        for _ in range(ROUNDS + 1):
            for backend, seconds in times.items():
                torch.set_float32_matmul_precision(backend)
                seconds.append(_seconds(lambda: linear(x, weight)))
        error = float((linear(x, weight).double() - exact).norm() / exact.norm())
    finally:
        torch.set_float32_matmul_precision(before)
    return _ratio(times["highest"], times["medium"]), error


@lru_cache
def _bf16_gain(size: int = 768, small: int = 192) -> float:
    """Speed-up of bf16 products over fp32. CPUs without bf16 instructions can take 40 times as long, seconds for a
    product of realistic size: a small product recognises them first."""
    gain = _gain(small)
    return gain if gain < HOPELESS else _gain(size)


def _gain(size: int) -> float:
    full = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    low = full.bfloat16()
    times = [(_seconds(lambda: full @ full), _seconds(lambda: low @ low)) for _ in range(ROUNDS + 1)]
    return _ratio(*zip(*times))


def _ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Of two lists of seconds measured in turns, without the first round. By medians: single measurements can be off by
    half."""
    return statistics.median(first[1:]) / statistics.median(second[1:])


def _seconds(action: Callable[[], Any]) -> float:
    """Seconds of CPU time of one thread, which hardly depend on other programs on the machine: several threads wait for
    each other, and whether their waiting counts is chance."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.process_time()
        action()
        return time.process_time() - start
    finally:
        torch.set_num_threads(threads)
