"""Floating-point operations of a training step, counted by torch: what a run costs, whatever the machine."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from unmask.objective import Batch, Objective


def step_flops(objective: Objective, batch: Batch) -> float:
    """FLOPs per sample of forward and backward on a batch: matrix products and convolutions, two for each
    multiply-add. Elementwise work and the optimizer, a percent or so, are left out. Gradients are left as None.
    """
    with FlopCounterMode(display=False) as counter, torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        objective(batch)["loss"].backward()  # fused attention would hide its products from the counter
    objective.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(batch["views"][0])
