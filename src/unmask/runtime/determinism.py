"""Bit-identical training: flags of torch and cuBLAS that make operations deterministic."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.deterministic

from unmask.errors import UserError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # without it cuBLAS may sum in a different order each time
ALLOWED = (":4096:8", ":16:8")


def early(deterministic: bool) -> None:
    """Sets what must be set before a GPU is used. Raises UserError if the environment contradicts it."""
    if deterministic and os.environ.setdefault(WORKSPACE, ALLOWED[0]) not in ALLOWED:
        raise UserError(
            f"--deterministic needs {WORKSPACE} to be {' or '.join(ALLOWED)}, it is {os.environ[WORKSPACE]!r}; unset it"
        )


@contextlib.contextmanager
def determinism(enabled: bool) -> Iterator[None]:
    """Context in which operations are bit-reproducible; others raise an error that names them."""
    if not enabled:
        yield
        return
    cudnn, memory = _flags()
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    fill = memory.fill_uninitialized_memory
    try:
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False  # nothing reads uninitialised memory, and filling it takes time
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = fill
        cudnn.deterministic, cudnn.benchmark = before[1:]


def _flags() -> tuple[Any, Any]:
    return torch.backends.cudnn, torch.utils.deterministic
