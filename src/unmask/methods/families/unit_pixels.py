"""What targets made of a unit's pixels share: normalisation by the unit's own mean and deviation, the way back, and
smaller versions."""

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask

EPS = 1e-6  # under the square root, as in MAE


def statistics(units: Float[Tensor, "b n p"]) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
    """Mean and unbiased standard deviation of each unit, over all its values."""
    var, mean = torch.var_mean(units, dim=-1, keepdim=True)
    return mean, (var + EPS).sqrt()


def normalised(units: Float[Tensor, "b n p"]) -> Float[Tensor, "b n p"]:
    """Units of zero mean and unit variance."""
    mean, std = statistics(units)
    return (units - mean) / std


def restored(
    prediction: Float[Tensor, "b h p"], units: Float[Tensor, "b n q"], grid: Grid, mask: Mask, leak: bool
) -> Float[Tensor, "b h p"]:
    """Undoes `normalised` for predictions of hidden units. units: of the input, all of `grid`.

    The mean and deviation of a hidden unit are interpolated from the visible units; `leak=True` takes the true ones,
    which a model cannot know.
    """
    mean, std = statistics(units)
    if leak:
        return prediction * take(std, mask.hidden) + take(mean, mask.hidden)
    weight = _nearness(grid, mask)
    return prediction * (weight @ take(std, mask.visible)) + weight @ take(mean, mask.visible)


def pooled(x: Float[Tensor, "b c *size"], axes: int, factor: int) -> Float[Tensor, "b c *small"]:
    """Means over cells of `factor` values along each of the `axes` axes behind the first two."""
    for axis in range(2, 2 + axes):
        x = x.unflatten(axis, (-1, factor)).mean(dim=axis + 1)
    return x


def require_factor(what: str, factor: int, unit: tuple[int, ...]) -> None:
    """Raises UserError unless units can be cut into cells of `factor` values along each axis. what: the option."""
    if any(side % factor for side in unit):
        fitting = [str(n) for n in range(2, min(unit) + 1) if not any(side % n for side in unit)]
        size = " x ".join(map(str, unit))
        can = f"{what} may be {' or '.join(fitting)}" if fitting else "give another --patch-size"
        raise UserError(f"{what} {factor}: patches of {size} pixels cannot be divided by it; {can}")


def require_values(name: str, count: int, unit: tuple[int, ...]) -> None:
    """Raises UserError where a unit is one value: nothing is left of it when it is normalised. name: the target's."""
    if count == 1:
        size = " x ".join(map(str, unit))
        raise UserError(
            f"{name}: of a patch of {size} pixels there is one value, and nothing is left of it when it is normalised;"
            f" give a larger patch or normalize=False"
        )


def _nearness(grid: Grid, mask: Mask) -> Float[Tensor, "b h v"]:
    """Weights of the visible units for each hidden one: inverse cubed distance, so that near ones decide."""
    at = grid.coordinates(mask.hidden.device)
    weight = torch.cdist(at[mask.hidden], at[mask.visible]).clamp(min=1e-6) ** -3
    return weight / weight.sum(dim=2, keepdim=True)
