"""Options about the machine that all commands that train share: chosen by `runtime/machine.py` where left open."""

from dataclasses import dataclass

from unmask.plain import NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    precision: str = (
        "auto"  # bf16, bf16-weights (weights too, with fp32 master copies), 32, or auto: bf16 where it is faster
    )
    matmul: str = "auto"  # fp32 matrix products: default, onednn (CPUs), tf32 (CUDA), or auto: the fastest exact one
    attention: str = "auto"  # how attention is computed: sdpa, matmul, by-length, or auto
    allocator: str = "auto"  # memory freed by a step: keep it for the next, return it to the system, or auto
    fused: str = "auto"  # fused optimizer: on, off, or auto
    compile: str = "auto"  # torch.compile for the blocks: on, off, graphs (with CUDA graphs), or auto
    channels_last: str = "auto"  # channels-last memory order for the patch embedding: on, off, or auto
    threads: int | None = None  # CPU threads
    device: str = "auto"  # cuda, mps, cpu, or auto: the first of these that is available
    workers: NonNegativeInt | None = None  # processes that load images; 0: the main process
