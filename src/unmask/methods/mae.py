"""MAE, He et al. 2021: encode the visible units, predict the hidden ones. https://arxiv.org/abs/2111.06377"""

from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.encoder import Encoder
from unmask.grid import take
from unmask.mask import Mask
from unmask.objective import Batch, Rebuilder
from unmask.spec import build
from unmask.trivial import trivial

__all__ = ["MAE"]


class MAE(Rebuilder):
    def __init__(
        self,
        encoder: Encoder,
        mask: Any = "random",
        target: Any = "pixels",
        decoder: Any = "full",
        decoder_warmup: int | None = None,
    ):
        """mask, target, decoder: parts as `name(option=value)`, or objects of the same kind.

        decoder_warmup: steps at the beginning in which only the decoder learns, so that a fresh one does not spoil an
        encoder that is not.
        """
        super().__init__()
        self.encoder = encoder
        self.decoder_warmup, self.frozen = decoder_warmup or 0, False
        self.mask = build(mask, "unmask.masks")
        self.target = build(target, "unmask.targets", grid=encoder.grid, channels=encoder.channels)
        self.decoder = build(decoder, "unmask.decoders", grid=encoder.grid, in_dim=encoder.dim, out_dim=self.target.dim)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean squared error over the hidden units only. batch["mask"] overrules the sampler where it is given."""
        (x,) = batch["views"]
        mask = self.draw(batch)
        with torch.no_grad() if self.frozen else nullcontext():
            tokens = self.encoder(x, mask)
        prediction = self.decoder(tokens, mask)
        target = take(self.target(self.encoder.normalize(x)), mask.hidden)
        return {"loss": (prediction.float() - target).square().mean()}

    def before_step(self, step: int) -> None:
        self.frozen = step < self.decoder_warmup

    def draw(self, batch: Batch) -> Mask:
        """The caller's mask if the batch brings one, else a fresh one."""
        (x,) = batch["views"]
        return batch["mask"] if "mask" in batch else self.mask(len(x), self.encoder.grid, x.device)

    @torch.no_grad()
    def context(self, batch: Batch) -> dict[str, Tensor]:
        (x,) = batch["views"]
        return trivial(self.target(self.encoder.normalize(x)), self.draw(batch), self.encoder.grid)

    @torch.no_grad()
    def rebuild(self, x: Shaped[Tensor, "b c *size"], mask: Mask, leak: bool = False) -> Float[Tensor, "b c *size"]:
        """The input with its hidden units replaced by the model's, in raw units; visible units are copied.

        `leak=True` uses the true mean and deviation of hidden units (see `Pixels.to_pixels`): label such pictures.
        """
        normalized, grid = self.encoder.normalize(x), self.encoder.grid
        prediction = self.decoder(self.encoder(x, mask), mask).float()
        pixels = self.target.to_pixels(prediction, normalized, mask, leak)
        units = grid.cut(normalized)
        units = units.scatter(1, mask.hidden[..., None].expand_as(pixels), pixels)
        shape = (-1, *(1,) * (x.ndim - 2))
        return grid.join(units) * self.encoder.std.view(shape) + self.encoder.mean.view(shape)
