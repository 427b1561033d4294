"""What there is to reach: arithmetic of a step, speed of products on this machine now, memory of its GPU."""

import time
from collections.abc import Callable
from typing import Any


def count_flops(once: Callable[[], None]) -> float:
    """GFLOP of a picture's forward and backward, as torch counts them. It does not know the fused attention of CPUs,
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
    """GFLOP/s of large square products now, in bf16 and in fp32: what there is to reach."""
    import torch

    size = size or (8192 if device == "cuda" else 1536)
    found = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a = torch.randn(size, size, device=device).to(dtype)
        a @ a
        wait(device)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            a @ a
            wait(device)
            times.append(time.perf_counter() - start)
        found[name] = 2 * size**3 / min(times) / 1e9
    return found


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
