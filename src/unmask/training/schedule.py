"""The learning rate at every step: linear warm-up, then half a cosine (Loshchilov & Hutter 2017)."""

import math


def learning_rate(step: int, *, steps: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    """Rate of step 0..steps-1: a line from exactly 0 to `peak` over `warmup` steps, then half a cosine to `floor`."""
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def peak_rate(batch: int, width: int) -> float:
    """The default peak rate for AdamW on MAE. width: of the encoder.

    2.4e-3 at batch 4096 (1.5e-4 per 256, He et al. 2021, table 8). Smaller batches scale it by the square root rather
    than linearly: published small runs (batch 128: 5e-4; batch 256: 2e-4 to 2.4e-3) are near the root. Encoders
    narrower than 384 tolerate more, and need it in short runs: 1e-3 at any batch.
    """
    return 1e-3 if width < 384 else 2.4e-3 * math.sqrt(batch / 4096)
