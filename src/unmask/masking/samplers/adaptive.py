"""A network that learns which units to show. Bandara et al. 2023 (AdaMAE), https://arxiv.org/abs/2211.09120.

It gives every unit a probability, and the visible units are drawn by it, without replacement. Units that were hidden
and predicted badly get a higher one (REINFORCE, without a baseline): what is hard to guess comes to be shown, and what
can be guessed is hidden, which is why the paper may hide 95 % of a video. `hide=True` gives the probabilities to
hidden units instead, so that what is hard to guess comes to be hidden.

The network is one transformer layer over the pixels of each unit and its place. In the paper it reads the encoder's
embeddings; reading pixels, its gradient cannot reach the encoder. It is trained with the method, by the same optimizer.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import layer_norm, log_softmax

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Noise, Ratio, Sampler
from unmask.plain import PositiveInt

__all__ = ["Adaptive"]
WAVES = 4  # per axis, that tell the place of a unit


class Adaptive(Sampler):
    needs = frozenset({"pixels", "errors"})

    def __init__(
        self,
        ratio: Ratio = 0.75,
        dim: PositiveInt = 64,
        heads: PositiveInt = 4,
        hide: bool = False,
        grid: Grid | None = None,
        channels: int = 3,
    ):
        """dim, heads: of the transformer layer; hide: units that are hard to guess come to be hidden, instead of shown.

        grid, channels: of the inputs, which the method knows; without them there is no network yet.
        """
        super().__init__(ratio)
        if dim % heads:
            raise UserError(f"adaptive needs dim, {dim}, to be a multiple of heads, {heads}")
        self.hide = hide
        if grid is None:
            return
        self.embed = nn.Linear(math.prod(grid.unit) * channels, dim)
        self.place = nn.Linear(2 * WAVES * len(grid.unit), dim, bias=False)
        self.mix = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.rate = nn.Linear(dim, 1, bias=False)

    def log_probabilities(self, pixels: Float[Tensor, "b n p"], grid: Grid) -> Float[Tensor, "b n"]:
        """Of each unit to be drawn first, in fp32."""
        with torch.autocast(pixels.device.type, enabled=False):
            tokens = self.embed(pixels.float()) + self.place(waves(grid, pixels.device))
            mixed = self.mix(tokens)
            return log_softmax(self.rate(layer_norm(mixed, mixed.shape[2:]))[..., 0], dim=1)

    @torch.no_grad()
    def score(self, batch: int, grid: Grid, noise: Noise, context: Context) -> Float[Tensor, "b n"]:
        uniform = noise(batch, grid.num_units).clamp(1e-9, 1 - 1e-7)
        gumbel = -(-uniform.log()).log()  # the largest sums are a draw without replacement
        drawn = self.log_probabilities(_pixels(context), grid) + gumbel
        return drawn if self.hide else -drawn

    def loss(
        self, index: Int[Tensor, "b m"], errors: Float[Tensor, "b m"], grid: Grid, context: Context
    ) -> Float[Tensor, ""]:
        """Minus the mean over predicted units of log probability times error."""
        return -(self.log_probabilities(_pixels(context), grid).gather(1, index) * errors.detach()).mean()


def _pixels(context: Context) -> Float[Tensor, "b n p"]:
    pixels = context.get("pixels")
    assert pixels is not None  # it is needed
    return pixels


def waves(grid: Grid, device: torch.device) -> Float[Tensor, "n w"]:
    """Sines and cosines of each unit's place along each axis, from one half to WAVES halves of a period."""
    share = (grid.coordinates(device) + 0.5) / torch.tensor(grid.shape, dtype=torch.float32, device=device)
    angles = share[:, :, None] * (math.pi * torch.arange(1, WAVES + 1, device=device))
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
