"""Losses that compare samples: the other view of an image is to be found among all images of the batch."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from unmask.runtime.distributed.gather import gather, own_rows, processes


def cosines(first: Float[Tensor, "b d"], second: Float[Tensor, "m d"]) -> Float[Tensor, "b m"]:
    """Products of vectors of unit length, in fp32: autocast would round them to bf16, whose three digits are stretched
    by a low temperature."""
    with torch.autocast(first.device.type, enabled=False):
        return first.float() @ second.float().T


def nt_xent(first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], temperature: float) -> Float[Tensor, ""]:
    """SimCLR's loss, NT-Xent (Chen et al. 2020, equation 1): cosines as logits, the 2 b - 2 other views of all
    processes as negatives, both directions."""
    first, second = normalize(first.float(), dim=1), normalize(second.float(), dim=1)
    all_first, all_second = gather(first), gather(second)
    own = own_rows(len(first), first.device)
    itself = torch.zeros(len(first), len(all_first), dtype=torch.bool, device=first.device).scatter(1, own[:, None], 1)
    losses = []
    for query, positives, others in ((first, all_second, all_first), (second, all_first, all_second)):
        among_own = (cosines(query, others) / temperature).masked_fill(itself, -torch.inf)
        logits = torch.cat([cosines(query, positives) / temperature, among_own], dim=1)
        losses.append(cross_entropy(logits, own))
    return torch.stack(losses).mean()


def info_nce(query: Float[Tensor, "b d"], key: Float[Tensor, "b d"], temperature: float) -> Float[Tensor, ""]:
    """MoCo v3's loss for one direction (Chen et al. 2021, algorithm 1): the keys of all processes are the classes. The
    factor 2 temperature makes it comparable with a squared distance."""
    query, keys = normalize(query.float(), dim=1), gather(normalize(key.float(), dim=1))
    logits = cosines(query, keys) / temperature
    return 2 * temperature * cross_entropy(logits, own_rows(len(query), query.device))


def against_guessing(loss: Float[Tensor, ""], images: int, others: int = 1, scale: float = 1.0) -> Float[Tensor, ""]:
    """A contrastive loss as a share of what guessing costs, for the log. images: of this process; others: views of each
    among the choices, of which a view itself is none where there are two; scale: of the loss."""
    choices = others * images * processes() - (others - 1)
    return loss.detach() / (scale * math.log(max(2, choices)))


def accuracy(query: Float[Tensor, "b d"], key: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Share of samples whose own key is the nearest of all, for the log."""
    with torch.no_grad():
        query, keys = normalize(query.float(), dim=1), gather(normalize(key.float(), dim=1))
        return (cosines(query, keys).argmax(dim=1) == own_rows(len(query), query.device)).float().mean()
