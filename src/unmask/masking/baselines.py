"""Trivial predictors, so that a reconstruction loss can be read: the scores of models that learned nothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask


def trivial(target: Float[Tensor, "b n p"], mask: Mask, grid: Grid) -> dict[str, Tensor]:
    """Mean squared error on the hidden units' targets for four predictors that learn nothing.

    `data_mean`: the average target of the batch, the zero point of "variance explained"; `unit_mean`: each hidden
    unit's own mean, one value per unit; `visible_mean`: the average of the sample's visible units; `nearest`: a copy of
    the nearest visible unit. The first two use values that a model cannot see: they are reference points, not rivals.
    """
    hidden, visible = take(target, mask.hidden), take(target, mask.visible)
    at = grid.coordinates(target.device)
    nearest = torch.cdist(at[mask.hidden], at[mask.visible]).argmin(dim=2)
    guesses = {
        "data_mean": target.mean(dim=(0, 1), keepdim=True),
        "unit_mean": hidden.mean(dim=2, keepdim=True),
        "visible_mean": visible.mean(dim=1, keepdim=True),
        "nearest": take(visible, nearest),
    }
    return {name: (hidden - guess).square().mean() for name, guess in guesses.items()}
