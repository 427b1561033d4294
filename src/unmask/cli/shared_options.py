"""Options about the machine that all verbs that train share: what `runtime.py` chooses where they are left open."""

from dataclasses import dataclass

from unmask.plain import NonNegativeInt


@dataclass(frozen=True, kw_only=True)
class RuntimeOptions:
    precision: str = "auto"  # bf16, bf16-weights (weights too, with fp32 masters), 32, or auto: bf16 where that gains
    matmul: str = "auto"  # of fp32 products: default, onednn (CPUs), tf32 (CUDA), or auto: the fastest that is exact
    attention: str = "auto"  # sdpa, matmul, by-length, or auto
    allocator: str = "auto"  # keep: memory freed by a step stays for the next; system; or auto
    fused: str = "auto"  # the optimizer in one pass: on, off, or auto
    compile: str = "auto"  # the blocks by torch.compile: on, off, graphs (with CUDA graphs), or auto
    channels_last: str = "auto"  # memory order of images for the patch embedding: on, off, or auto
    threads: int | None = None  # of a CPU
    device: str = "auto"  # cuda, mps, cpu, or auto: the first of these that is there
    workers: NonNegativeInt | None = None  # processes that load images; 0: the main one
