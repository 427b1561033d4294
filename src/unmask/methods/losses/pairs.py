"""The loss of pairs of images and captions: each pair is judged by itself, as one that belongs together or not."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

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
