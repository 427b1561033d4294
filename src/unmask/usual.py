"""What error is usual: at a place, for the texture around it. Learned from normal pictures, to tell surprises.

A model rebuilds plain background well and fine print badly, whether or not anything is wrong. So an error is compared
with the errors that normal pictures had where the visible surroundings were as busy, and at the same place. Medians and
median deviations, so that a few odd pictures among the normal ones hardly count.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

BINS = 24  # of texture, with as many cells in each; between their centres values are interpolated
SHRINK = 8  # pictures' worth of belief that a place is like all others: few pictures say little of one place
MAD = 1.4826  # from the median absolute deviation to the standard deviation of a normal distribution
LEAST = 0.1  # of a deviation, so that a place where nothing ever varied does not divide by zero
EPS = 1e-4  # added to squared errors before the logarithm, in units of the data's variance: half a grey level or so
KINDS = ("place-texture", "place", "texture", "none")


class Usual(nn.Module):
    """Median and deviation of the logarithm of errors, by texture and by place; h x w cells."""

    def __init__(self, shape: tuple[int, int], kind: str = "place-texture"):
        super().__init__()
        self.kind = kind
        self.register_buffer("knots", torch.linspace(0.0, 1.0, BINS))  # texture at the centre of each bin
        self.register_buffer("middle", torch.zeros(BINS))
        self.register_buffer("spread", torch.ones(BINS))
        self.register_buffer("place_middle", torch.zeros(shape))
        self.register_buffer("place_spread", torch.ones(shape))

    @torch.no_grad()
    def fit(self, error: Float[Tensor, "n h w"], texture: Float[Tensor, "n h w"]) -> None:
        """error: mean squares; texture: any number that says how busy the visible surroundings of a cell are."""
        logs = _log(error)
        if "texture" in self.kind:
            order = texture.flatten().argsort()
            bins = [part for part in order.tensor_split(BINS) if len(part)]
            knots = torch.stack([texture.flatten()[part].median() for part in bins])
            middle, spread = zip(*(_robust(logs.flatten()[part], 0) for part in bins))
            keep = torch.cat([torch.tensor([True]), knots[1:] > knots[:-1]])  # equal textures make one knot
            last = keep.nonzero().flatten()
            at = last[torch.arange(BINS).clamp(max=len(last) - 1)]
            self.knots.copy_(knots[at])
            self.middle.copy_(torch.stack(middle)[at])
            self.spread.copy_(torch.stack(spread)[at].clamp(min=LEAST))
        elif self.kind == "place":
            middle, spread = _robust(logs.flatten(), 0)
            self.middle.fill_(float(middle))
            self.spread.fill_(max(float(spread), LEAST))
        if "place" in self.kind:
            middle, spread = _robust(self._by_texture(logs, texture), 0)
            share = len(error) / (len(error) + SHRINK)
            self.place_middle.copy_(share * middle)
            self.place_spread.copy_((share * spread + (1 - share)).clamp(min=LEAST))

    def forward(self, error: Float[Tensor, "n h w"], texture: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Deviations above what is usual; each picture for itself. With kind `none`, the error itself."""
        if self.kind == "none":
            return error
        return (self._by_texture(_log(error), texture) - self.place_middle) / self.place_spread

    def _by_texture(self, logs: Tensor, texture: Tensor) -> Tensor:
        right = torch.searchsorted(self.knots, texture.contiguous()).clamp(1, BINS - 1)
        low, high = self.knots[right - 1], self.knots[right]
        share = ((texture - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        middle = torch.lerp(self.middle[right - 1], self.middle[right], share)
        return (logs - middle) / torch.lerp(self.spread[right - 1], self.spread[right], share)


def _log(error: Tensor) -> Tensor:
    return (error + EPS).log()


def _robust(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    middle = x.median(dim=dim).values
    return middle, MAD * (x - middle).abs().median(dim=dim).values
