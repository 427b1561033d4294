"""What there is to reach: arithmetic of a step, speed of products on this machine now, memory of its GPU."""

import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

EMULATED = 1.0  # times as fast as fp32: CPUs whose bf16 products are slower than this do not compute in bf16


def count_flops(once: Callable[[], None]) -> float:
    """GFLOP of an image's forward and backward, as torch counts them. It does not know the fused attention of CPUs,
    whose products are counted here: two forward, four backward, without what is computed again."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def forward(query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> int:
        return 2 * query[0] * query[1] * query[2] * key[2] * (query[3] + value[3])

    def backward(grad: Any, *rest: Any, **more: Any) -> int:
        return 2 * forward(*rest)

    name = "_scaled_dot_product_flash_attention_for_cpu"
    mapping = {getattr(torch.ops.aten, name): forward, getattr(torch.ops.aten, f"{name}_backward"): backward}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        once()
    return counter.get_total_flops() / 1e9


def peaks(device: str, size: int | None = None) -> dict[str, float]:
    """GFLOP/s of large square products now, in bf16, where the device computes in it, and in fp32: what there is to
    reach. size: rows and columns."""
    size = size or (8192 if device == "cuda" else 1536)
    names = ("fp32",) if lacks_bf16(device) else ("bf16", "fp32")
    return {name: product_speed(name, device, size) for name in names}


def product_speed(name: str, device: str, size: int, rounds: int = 3) -> float:
    """GFLOP/s of products of square matrices, the best of some. name: bf16 or fp32."""
    import torch

    a = torch.randn(size, size, device=device).to({"bf16": torch.bfloat16, "fp32": torch.float32}[name])
    a @ a
    wait(device)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        a @ a
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times) / 1e9


@lru_cache
def lacks_bf16(device: str) -> str:
    """Why bf16 is not measured on this device; empty where it is. Measured once, on small products: CPUs without bf16
    emulate it, some at a hundredth of the speed of fp32."""
    if device != "cpu":
        return ""
    gain = product_speed("bf16", device, 256, rounds=5) / product_speed("fp32", device, 256, rounds=5)
    return "" if gain >= EMULATED else f"this CPU does not compute in bf16: {gain:.2f} times the speed of fp32 products"


def allowed_precision(precision: str | None, device: str, best: str = "bf16") -> str:
    """What was asked for; by default `best`, or 32 where the device does not compute in bf16, which is said. Ends the
    program where bf16 was asked for and the device does not compute in it."""
    why = lacks_bf16(device)
    if precision is None and why:
        print(f"{best} is not measured, fp32 is: {why}", file=sys.stderr, flush=True)
        return "32"
    precision = precision or best
    if why and precision != "32":
        sys.exit(f"--precision {precision} is not measured: {why}; there is --precision 32")
    return precision


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def device_memory(device: str) -> dict[str, float]:
    """Peak MiB of the GPU's memory."""
    if device != "cuda":
        return {}
    import torch

    return {"gpu_mb": torch.cuda.max_memory_allocated() / 2**20}
