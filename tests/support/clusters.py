"""Features of classes that lie around centres of their own."""

import numpy as np


def blobs(count=300, classes=4, width=12, apart=4.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, width)) * apart
    labels = rng.integers(0, classes, count)
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels
