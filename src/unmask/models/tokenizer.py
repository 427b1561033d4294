"""The contract of tokenizers: raw samples in, an id of a codebook for each unit out; and what those that are learned
share, an encoder, a codebook and a decoder."""

from abc import ABC, abstractmethod
from typing import Annotated, NamedTuple

import torch
from annotated_types import Interval
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.models.decoder import Decoder
from unmask.models.encoder import Encoder, Tokens
from unmask.models.layers.codebook import Codebook, Quantised
from unmask.models.layers.weight_init import initialize
from unmask.registry import build

Codes = Annotated[int, Interval(ge=2, le=2**20)]  # of a codebook
Decay = Annotated[float, Interval(ge=0, lt=1)]  # of a moving average


class Tokenizer(nn.Module, ABC):
    """Parts in `tokenizers/` define the ids of raw samples. Those that are learned are trained by the method of the
    same name."""

    num_codes: int
    channels: int
    grid: Grid  # of the samples that it was made for; others may have more or fewer of its units

    @abstractmethod
    def ids(self, x: Shaped[Tensor, "b c *size"]) -> Int[Tensor, "b n"]:
        """Ids of the units of raw samples of any size of whole units, in reading order."""

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and std per channel, raw units, of the samples that it was made for."""
        return [127.5] * self.channels, [64.0] * self.channels


class Rebuilt(NamedTuple):
    output: Float[Tensor, "b n p"]  # what the decoder makes of each unit's code
    quantised: Quantised


class Autoencoder(Tokenizer):
    """Encoder, codebook, decoder. The encoder belongs to whoever trains it: it is no child of this module."""

    def __init__(self, encoder: Encoder, out: int, codes: int, dim: int, decoder: str, decay: float, unit: bool):
        """out: values that the decoder predicts for a unit; codes, dim: number and length of the codes; decoder: text
        of a decoder that takes all units; unit: codes have length 1."""
        super().__init__()
        self._encoder = [encoder]
        self.num_codes, self.channels, self.grid = codes, encoder.channels, encoder.grid
        self.to_code = nn.Sequential(nn.Linear(encoder.dim, encoder.dim), nn.Tanh(), nn.Linear(encoder.dim, dim))
        self.codebook = Codebook(codes, dim, decay, unit)
        self.decoder: Decoder = build("decoder", decoder, grid=encoder.grid, in_dim=dim, out_dim=out, filled=True)
        if not getattr(self.decoder, "filled", False):  # a decoder from elsewhere may not take it
            raise UserError(f"the decoder {decoder} cannot take the codes of all units; full can")
        initialize(self.to_code)

    @property
    def encoder(self) -> Encoder:
        return self._encoder[0]

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        return self.encoder.statistics

    def vectors(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b n d"]:
        """What is quantised."""
        return self.to_code(self.encoder(x).units)

    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Rebuilt:
        quantised = self.codebook(self.vectors(x))
        return Rebuilt(self.decode(quantised.vectors, self.encoder.grid_of(x)), quantised)

    def decode(self, vectors: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b n p"]:
        """What the decoder makes of codes."""
        everything = torch.arange(vectors.shape[1], device=vectors.device).expand(len(vectors), -1)
        tokens = Tokens(vectors.new_zeros(len(vectors), 0, vectors.shape[2]), vectors)
        return self.decoder(tokens, Mask(everything[:, :0], everything), grid)

    @torch.no_grad()
    def ids(self, x: Shaped[Tensor, "b c *size"]) -> Int[Tensor, "b n"]:
        return self.codebook.ids(self.vectors(x))
