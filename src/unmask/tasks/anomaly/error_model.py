"""The distribution of errors on normal images, by position and surrounding texture, so that larger errors stand out.

A model reconstructs plain background well and fine print badly, with or without a defect. So an error is compared with
those of normal images at the same position and in equally textured surroundings. It is measured against the upper tail,
not the deviation: errors are far from normally distributed, and even in plain surroundings an occasional edge is
normal. On planted defects, deviations of logarithms did worse than no comparison at all.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

BINS = 24  # of texture, with as many cells in each; between their centres values are interpolated
TAIL = 0.95  # quantile of normal errors that counts as one unit of surprise, by texture
RARE = 0.98  # quantile of surprises by which places are compared
SHRINK = 8  # images' worth of belief that a place is like all others: few images say little of one place
FLOOR = 0.1  # added to the unit of surprise, in units of the data's variance: noise in plain places surprises nobody
KINDS = ("place-texture", "place", "texture", "none")


class ErrorModel(nn.Module):
    """Median and tail of errors by texture, and their ratio by position; h x w cells."""

    knots: Tensor
    middle: Tensor
    reach: Tensor
    place: Tensor

    def __init__(self, shape: tuple[int, int], kind: str = "place-texture"):
        super().__init__()
        self.kind = kind
        self.register_buffer("knots", torch.linspace(0.0, 1.0, BINS))  # texture at the centre of each bin
        self.register_buffer("middle", torch.zeros(BINS))
        self.register_buffer("reach", torch.ones(BINS))  # from the middle to the tail
        self.register_buffer("place", torch.ones(shape))

    @torch.no_grad()
    def fit(self, error: Float[Tensor, "n h w"], texture: Float[Tensor, "n h w"]) -> None:
        """error: mean squared errors; texture: any measure of texture in the visible surroundings of a cell."""
        if "texture" in self.kind:
            order = texture.flatten().argsort()
            bins = [part for part in order.tensor_split(BINS) if len(part)]
            knots = torch.stack([texture.flatten()[part].median() for part in bins])
            middle, reach = zip(*(_tail(error.flatten()[part]) for part in bins))
            first = torch.cat([torch.tensor([True]), knots[1:] > knots[:-1]])  # equal textures make one knot
            at = first.nonzero().flatten()[torch.arange(BINS).clamp(max=int(first.sum()) - 1)]
            self.knots.copy_(knots[at])
            self.middle.copy_(torch.stack(middle)[at])
            self.reach.copy_(torch.stack(reach)[at])
        elif self.kind == "place":
            middle, reach = _tail(error.flatten())
            self.middle.fill_(float(middle))
            self.reach.fill_(float(reach))
        if "place" in self.kind:
            surprise = self._by_texture(error, texture)
            here, all_over = _quantile(surprise, RARE), _quantile(surprise.flatten(), RARE)
            shrunk = (len(error) * here + SHRINK * all_over) / (len(error) + SHRINK)
            # only where errors are larger than elsewhere: a uniform position must not raise false alarms
            self.place.copy_((shrunk / all_over.clamp(min=1e-6)).clamp(min=1.0))

    def forward(self, error: Float[Tensor, "n h w"], texture: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Errors on the scale of normal images: 0 is the median, 1 the tail. Kind `none`: the error itself."""
        if self.kind == "none":
            return error
        return self._by_texture(error, texture) / self.place

    def _by_texture(self, error: Tensor, texture: Tensor) -> Tensor:
        right = torch.searchsorted(self.knots, texture.contiguous()).clamp(1, BINS - 1)
        low, high = self.knots[right - 1], self.knots[right]
        share = ((texture - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        middle = torch.lerp(self.middle[right - 1], self.middle[right], share)
        reach = torch.lerp(self.reach[right - 1], self.reach[right], share)
        return (error - middle) / (reach + FLOOR)


def _tail(x: Float[Tensor, "n"]) -> tuple[Tensor, Tensor]:
    middle = x.median()
    return middle, _quantile(x, TAIL) - middle


def _quantile(x: Float[Tensor, "n *rest"], share: float) -> Tensor:
    """Quantile along the first axis; torch.quantile takes at most 16 million values."""
    return x.sort(dim=0).values[min(len(x) - 1, int(share * len(x)))]
