"""Regularisers that keep features from collapsing without comparing pairs of views."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import normalize

from unmask.runtime.distributed.gather import gather, own_rows, processes, summed

KNOTS, FURTHEST, SLICES = 17, 3.0, 1024  # of SIGReg, as in LeJEPA


def koleo(features: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Minus the mean log distance of every sample to its nearest neighbour, in all processes, on the sphere.
    Sablayrolles et al. 2019, as in DINOv2 (Oquab et al. 2023)."""
    features = normalize(features.float(), dim=1, eps=1e-8)
    everyone = gather(features)
    with torch.no_grad():
        own = own_rows(len(features), features.device)
        with torch.autocast(features.device.type, enabled=False):  # bf16 cannot tell near neighbours apart
            likeness = features @ everyone.T
        nearest = likeness.scatter(1, own[:, None], -2.0).argmax(dim=1)
    distances = torch.nn.functional.pairwise_distance(features, everyone[nearest], p=2, eps=1e-8)
    return -(distances + 1e-8).log().mean()


def sigreg(projections: Float[Tensor, "v b d"], seed: int, slices: int = SLICES) -> Float[Tensor, ""]:
    """How far each view's projections are from an isotropic Gaussian: Epps and Pulley's statistic, averaged over random
    directions. Balestriero & LeCun 2025 (LeJEPA), https://arxiv.org/abs/2511.08544.

    seed: of the directions, the same in all processes, whose samples count together.
    """
    x = projections.float()
    directions = torch.randn(x.shape[-1], slices, generator=Generator().manual_seed(seed))
    return sigreg_along(x, (directions / directions.norm(dim=0)).to(x.device))


def sigreg_along(x: Float[Tensor, "v b d"], directions: Float[Tensor, "d s"]) -> Float[Tensor, ""]:
    """`sigreg` along given unit vectors. The integral over frequencies runs from -3 to 3 by the trapezoidal rule,
    weighted with the Gaussian's own characteristic function."""
    frequencies = torch.linspace(0, FURTHEST, KNOTS, device=x.device)
    step = FURTHEST / (KNOTS - 1)
    weights = torch.full((KNOTS,), 2 * step, device=x.device)
    weights[0] = weights[-1] = step
    gaussian = (-frequencies.square() / 2).exp()
    with torch.autocast(x.device.type, enabled=False):
        angles = (x @ directions)[..., None] * frequencies  # v b s t
        count = x.shape[1] * processes()
        cosines, sines = summed(angles.cos().sum(dim=1)) / count, summed(angles.sin().sum(dim=1)) / count
        errors = (cosines - gaussian).square() + sines.square()  # v s t
        return (errors @ (weights * gaussian)).mean() * count


def deviation(features: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Mean standard deviation of unit vectors over samples, times the root of their width, for the log: 1 if they are
    evenly spread, 0 if all are the same."""
    unit = normalize(features.detach().float(), dim=1)
    return unit.std(dim=0, correction=0).mean() * unit.shape[1] ** 0.5
