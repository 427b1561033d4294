"""Losses of pairs, such as an image and its caption or its sound: each pair is judged by itself, as one that belongs
together or not (SigLIP); or each sample's partner is to be found among those of all (InfoNCE).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from unmask.methods.losses.contrastive import cosines
from unmask.runtime.distributed.gather import gather, own_rows, processes, summed

NONE = 0  # the number of no caption


def sigmoid_loss(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    caption: Int[Tensor, "b"],
) -> Float[Tensor, ""]:
    """SigLIP's loss (Zhai et al. 2023, algorithm 1, https://arxiv.org/abs/2303.15343): images of this process, captions
    of all. Its mean over processes is that of one process with the whole batch.

    scale, bias: of the cosines. caption: a number for each text, NONE where there is none: such rows do not count. An
    image and the caption of another that says the same as its own are the pair that counts already, and none that does
    not belong together: they are left out.
    """
    image, text = normalize(image.float(), dim=1), normalize(text.float(), dim=1)
    texts, captions = gather(text), gather(caption)
    itself = own_rows(len(image), image.device)[:, None] == torch.arange(len(texts), device=image.device)
    logits = cosines(image, texts) * scale.float() + bias.float()
    judged = logsigmoid(torch.where(itself, logits, -logits))
    told = (caption != NONE)[:, None] & (captions != NONE)
    counts = told & (itself | (caption[:, None] != captions))
    pairs = (captions != NONE).sum().clamp(min=1) / processes()
    return -(judged * counts).sum() / pairs


def against_constant(loss: Float[Tensor, ""], caption: Int[Tensor, "b"]) -> Float[Tensor, ""]:
    """The loss as a share of that of the best answer that knows neither image nor caption, for the log."""
    count = summed((caption != NONE).sum().float()).clamp(min=2)
    return loss.detach() / (count.log() + (count - 1) * (count / (count - 1)).log())


def find_captions(
    image: Float[Tensor, "b d"], text: Float[Tensor, "b d"], caption: Int[Tensor, "b"]
) -> Float[Tensor, ""]:
    """Share of images whose nearest caption of all says what their own does, for the log."""
    with torch.no_grad():
        image, texts = normalize(image.float(), dim=1), gather(normalize(text.float(), dim=1))
        captions = gather(caption)
        scores = cosines(image, texts).masked_fill(captions == NONE, -math.inf)
        right = (captions[scores.argmax(dim=1)] == caption) & (caption != NONE)
        return right.sum() / (caption != NONE).sum().clamp(min=1)


def info_nce_of_pairs(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], scale: Float[Tensor, ""], paired: Bool[Tensor, "b"]
) -> Float[Tensor, ""]:
    """InfoNCE in both directions (van den Oord et al. 2018; Girdhar et al. 2023 (ImageBind), equation 1,
    https://arxiv.org/abs/2305.05665): the partners in all processes are the classes, cosines times `scale` the logits.
    Its mean over processes is that of one process with the whole batch; 0 where there is no pair.

    paired: False where one of a pair is missing: such rows do not count, and are no wrong answers for others.
    """
    first, second = normalize(first.float(), dim=1), normalize(second.float(), dim=1)
    own, complete = own_rows(len(first), first.device), gather(paired.int()).bool()
    losses = [
        cross_entropy(_complete(cosines(query, gather(key)) * scale.float(), complete), own, reduction="none")
        for query, key in ((first, second), (second, first))
    ]
    pairs = complete.sum().clamp(min=1) / processes()
    return (torch.stack(losses).mean(dim=0) * paired).sum() / pairs


def distance_of_pairs(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], paired: Bool[Tensor, "b"]
) -> Float[Tensor, ""]:
    """1 minus the cosine of each pair, mean over those that are complete in all processes; 0 where there is none."""
    alike = (normalize(first.float(), dim=1) * normalize(second.float(), dim=1)).sum(dim=1)
    pairs = gather(paired.int()).sum().clamp(min=1) / processes()
    return ((1 - alike) * paired).sum() / pairs


def guessing_of_pairs(paired: Bool[Tensor, "b"]) -> Float[Tensor, ""]:
    """What InfoNCE costs one who guesses, for the log."""
    return summed(paired.sum().float()).clamp(min=2).log()


def find_partners(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], paired: Bool[Tensor, "b"]
) -> Float[Tensor, ""]:
    """Share of the samples in `first` whose nearest of all in `second` is their own, for the log."""
    with torch.no_grad():
        first, keys = normalize(first.float(), dim=1), gather(normalize(second.float(), dim=1))
        nearest = _complete(cosines(first, keys), gather(paired.int()).bool()).argmax(dim=1)
        right = (nearest == own_rows(len(first), first.device)) & paired
        return right.sum() / paired.sum().clamp(min=1)


def _complete(logits: Float[Tensor, "b m"], complete: Bool[Tensor, "m"]) -> Float[Tensor, "b m"]:
    """Logits of this process's rows without the keys that are missing; a row's own stays, so that one which does not
    count is finite."""
    itself = own_rows(len(logits), logits.device)[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return logits.masked_fill(~complete & ~itself, -math.inf)
