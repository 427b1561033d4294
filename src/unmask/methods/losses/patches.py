"""Masked patches of iBOT and DINOv2: half of the images are masked, and a teacher sees them whole."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax

from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Mask, Noise, Rows, Sampler
from unmask.models.encoder import Encoder, Tokens
from unmask.seeds import mix

LEAST, MOST = 0.1, 0.5  # share of the units hidden in a masked image
SHARES = 0x5A7E  # keeps the seeds of these shares distinct from those of masks


class Hidden(NamedTuple):
    """Hidden places of the masked images: equally many in each, of which the first ones count."""

    places: Int[Tensor, "m h"]  # those that do not count repeat the first one
    counts: Bool[Tensor, "m h"]


class HalfMasked(NamedTuple):
    tokens: Tokens  # of all views, one view after the other
    masked: Int[Tensor, "m"]  # which of these were masked
    hidden: Hidden  # in these


def encode_half_masked(
    encoder: Encoder,
    views: Sequence[Tensor],
    sampler: Sampler,
    fill: Tensor,
    rows: Rows | None,
    tell: Callable[[Tensor], Context],
) -> HalfMasked:
    """The student's tokens of two views of one size: every image is masked in one of them, which one alternates. tell:
    what the sampler is told of images."""
    x, count = torch.cat(list(views)), len(views[0])
    even, odd = (torch.arange(start, count, 2, device=x.device) for start in (0, 1))
    masked, whole = torch.cat([even, count + odd]), torch.cat([odd, count + even])
    grid = encoder.grid_of(x)
    number = torch.arange(count, device=x.device)
    told = tell(x[number + count * (number % 2)]) if sampler.needs else None
    # in the order of images, whichever view is masked
    of_images = hide_some(sampler, count, grid, x.device, rows, told)
    hidden = Hidden(*(part[torch.cat([even, odd])] for part in of_images))
    visible = torch.zeros(len(masked), 0, dtype=torch.long, device=x.device)  # units are blanked, none is dropped
    parts = [encoder(x[masked], Mask(visible, hidden.places), fill)]
    parts += [encoder(x[whole])] if len(whole) else []
    back = torch.cat([masked, whole]).argsort()
    tokens = Tokens(*(torch.cat(sides)[back] for sides in zip(*parts)))
    return HalfMasked(tokens, masked, hidden)


def hide_some(
    sampler: Sampler,
    images: int,
    grid: Grid,
    device: torch.device | str,
    rows: Rows | None = None,
    context: Context | None = None,
) -> Hidden:
    """Hides a random share of the units of each image, 10 to 50 %, beginning with the sampler's highest scores."""
    mask = sampler(images, grid, device, rows=rows, context=context)
    rising = torch.cat([mask.visible, mask.hidden], dim=1)
    most = max(1, int(MOST * grid.num_units))
    order = rising.flip(1)[:, :most]
    noise = Noise(device, rows=None if rows is None else rows._replace(seed=mix(rows.seed, SHARES)))
    number = ((LEAST + (MOST - LEAST) * noise(images)) * grid.num_units).round().clamp(1, most)
    counts = torch.arange(most, device=order.device) < number[:, None]
    return Hidden(torch.where(counts, order, order[:, :1]), counts)


def patch_loss(
    student: Float[Tensor, "m h k"], teacher: Float[Tensor, "m h k"], counts: Bool[Tensor, "m h"]
) -> Float[Tensor, ""]:
    """Cross-entropy of masked patches, averaged over those of an image and then over images. student: logits divided
    by their temperature; teacher: probabilities."""
    losses = -(teacher * log_softmax(student.float(), dim=2)).sum(dim=2)
    weights = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    return (losses * weights).sum(dim=1).mean()
