"""A model that gives one answer to everything: its accuracy does not say so."""

from collections.abc import Sequence

import numpy as np

ONE_CLASS = 0.99  # share of the answers from which a model tells no classes apart


def one_class(confusion: Sequence[Sequence[int]], classes: Sequence[str], tested: str = "test image") -> str:
    """A sentence where (nearly) all answers are one class although the truth is of several; else ''. Rows are true
    classes. Accuracy and calibration error hide it: 70 % of one class make 70 % accuracy, well calibrated."""
    table = np.asarray(confusion)
    answered, true = table.sum(axis=0), table.sum(axis=1)
    name = int(answered.argmax())
    if answered[name] < ONE_CLASS * table.sum() or answered[name] <= true[name] or (true > 0).sum() < 2:
        return ""
    count = int(table.sum())
    times = f"every {tested}" if answered[name] == count else f"{answered[name]:,} of {count:,} {tested}s"
    return (
        f"It answers {classes[name]} for {times}, so it tells no classes apart: its accuracy is the share of"
        f" {classes[name]}, {100 * true[name] / count:.1f} %. "
    )
