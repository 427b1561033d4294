"""Whether features have collapsed: how far those of different images lie apart, and how many directions they use.

RankMe is the exponential of the entropy of the singular values (Garrido et al. 2023,
https://arxiv.org/abs/2210.02885): n if n directions are used alike, 1 if all features lie on a line.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from unmask.data.datasets.images import Images
from unmask.data.modality import make_modality
from unmask.models.encoder import Encoder
from unmask.training.log import FEATURES

RANK, SPREAD = FEATURES  # names in the records
COLLAPSED_RANK, COLLAPSED_SPREAD = 1.5, 0.02  # below these, features say nothing about images
LEAST, MOST, BATCH = 16, 128, 32  # images that are looked at, and at a time


def choose(samples: Images, most: int) -> list[int]:
    """Which images to look at: evenly spread, at most `most`; none if that is too few to tell."""
    count = min(MOST, most, len(samples))
    return [place * len(samples) // count for place in range(count)] if count >= LEAST else []


@torch.no_grad()
def feature_health(
    encoder: Encoder, samples: Images, chosen: list[int], size: tuple[int, ...], device: torch.device
) -> dict[str, float]:
    """`RANK` and `SPREAD` of the mean features of some images, seen whole."""
    view, was_training = make_modality(encoder.modality).whole(size), encoder.training
    encoder.eval()
    features = []
    for start in range(0, len(chosen), BATCH):
        x = torch.stack([view(samples.image(place)).float() for place in chosen[start : start + BATCH]])
        features.append(encoder(x.to(device)).units.float().mean(dim=1).cpu())
    encoder.train(was_training)
    whole = torch.cat(features)
    if not whole.isfinite().all():
        return {}  # said elsewhere
    return {RANK: rank(whole), SPREAD: spread(whole)}


def rank(features: Float[Tensor, "n d"]) -> float:
    """RankMe of features without their mean, which all images share."""
    values = torch.linalg.svdvals((features - features.mean(dim=0)).double())
    total = float(values.sum())
    if not total > 1e-12:
        return 1.0
    shares = values / total + 1e-7
    return math.exp(float(-(shares * shares.log()).sum()))


def spread(features: Float[Tensor, "n d"]) -> float:
    """Root mean square distance of unit-length features from their mean: 1 if spread over the sphere, 0 if equal."""
    unit = normalize(features, dim=1)
    return float((unit - unit.mean(dim=0)).square().sum(dim=1).mean().sqrt())
