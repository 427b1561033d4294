"""Latency of a model: medians over repeated calls."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from unmask.export.exportable import Outputs

WARM_UP, RUNS, SECONDS = 5, 100, 3.0  # calls left out; calls timed, or as many as fit the time (at least 10)
Call = Callable[[Tensor], Outputs]


def latency(call: Call, image: Tensor) -> dict[str, float]:
    """Milliseconds for one image: median and 95th percentile."""
    with torch.inference_mode():
        for _ in range(WARM_UP):
            call(image)
        began, times = time.perf_counter(), []
        while len(times) < 10 or (len(times) < RUNS and time.perf_counter() - began < SECONDS):
            start = time.perf_counter()
            call(image)
            times.append(1000 * (time.perf_counter() - start))
    return {"median_ms": float(np.median(times)), "p95_ms": float(np.quantile(times, 0.95)), "runs": len(times)}
