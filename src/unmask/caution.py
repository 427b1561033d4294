"""How careful a run is: checkpoints kept, when a loss is a spike, how often to go back, and determinism to the bit."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.utils.deterministic

from unmask.errors import UserError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # without it cuBLAS may add up in another order each time
ALLOWED = (":4096:8", ":16:8")
SPIKE, KEEP_LAST, ROLLBACKS = 10.0, 2, 3
NAMES = ("keep_last", "rollbacks")


def plan_caution(plan: Any) -> None:
    """Fills in what was left open, with reasons."""
    plan.choose("keep_last", KEEP_LAST, "newest checkpoints, so that a damaged one costs little")
    plan.choose("spike", SPIKE, "deviations above recent losses, and twice their median: such a step is left out")
    plan.choose("rollbacks", ROLLBACKS, "times to go back to a good state when steps go wrong in a row")
    if plan.settings.get("deterministic"):
        plan.reasons["deterministic"] = (
            "asked for: the same bytes every time on the same machine and versions; slower on a GPU, and operations"
            " that cannot be are refused"
        )


def caution(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The loop's options for settings; runs made before there were these have none of it but two checkpoints."""
    spike = settings.get("spike")
    found: dict[str, Any] = {name: settings[name] for name in NAMES if settings.get(name) is not None}
    return found | {"spike": None if spike in (None, "off") else float(spike)}


def early(deterministic: bool) -> None:
    """What must be set before a GPU is touched. Raises UserError where the environment says otherwise."""
    if deterministic and os.environ.setdefault(WORKSPACE, ALLOWED[0]) not in ALLOWED:
        raise UserError(
            f"--deterministic needs {WORKSPACE} to be {' or '.join(ALLOWED)}, it is {os.environ[WORKSPACE]!r}; unset it"
        )


@contextlib.contextmanager
def determinism(asked: bool) -> Iterator[None]:
    """Inside it, only operations that give the same bits every time; others raise an error that names them."""
    if not asked:
        yield
        return
    cudnn, fill = torch.backends.cudnn, torch.utils.deterministic.fill_uninitialized_memory
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[assignment]  # nothing reads it
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[assignment]
        cudnn.deterministic, cudnn.benchmark = before[1:]
