"""A teacher whose attention the encoder imitates while it learns to rebuild. Wang et al. 2022 (MAE-Lite), section 5,
https://arxiv.org/abs/2205.14443.

Both see the same visible patches. The weights of the encoder's last block, mixed from its heads to the teacher's by a
learned matrix, follow those of the teacher's last block, by their squared difference.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder
from unmask.models.layers.attention_maps import require_maps, watched
from unmask.weights.frozen_teacher import FrozenTeacher


class Imitation(nn.Module):
    """Part of an objective; holds the teacher, which is frozen, and the matrix between the heads."""

    def __init__(self, encoder: Encoder, source: str):
        """source: the teacher's weights, as of `FrozenTeacher`. Raises UserError where one of the two has no attention
        maps."""
        super().__init__()
        self.teacher = FrozenTeacher(source, encoder)
        for network in (encoder, self.teacher.encoder):
            require_maps(network)
        heads, wanted = (network.net.blocks[-1].attn.num_heads for network in (encoder, self.teacher.encoder))
        self.heads = nn.Linear(heads, wanted, bias=False)
        self._encoder = [encoder]  # in a list: no child of this module

    @contextmanager
    def watching(self) -> Iterator[list[Float[Tensor, "b heads t t"]]]:
        """Collects what the encoder attends to within this context."""
        with watched(self._encoder[0].net.blocks[-1]) as weights:
            yield weights

    def forward(
        self, weights: Float[Tensor, "b heads t t"], x: Shaped[Tensor, "b c h w"], mask: Mask
    ) -> Float[Tensor, ""]:
        """The mean squared difference. weights: of the encoder for raw samples under a mask, prefix tokens first."""
        encoder = self._encoder[0]
        with torch.no_grad():
            wanted = self.teacher.maps(x, encoder.grid_of(x), mask)
        ours, theirs = (int(network.net.num_prefix_tokens) for network in (encoder, self.teacher.encoder))
        if ours != theirs:  # class and register tokens of one have no counterpart
            weights, wanted = weights[:, :, ours:, ours:], wanted[:, :, theirs:, theirs:]
        mixed = self.heads(weights.float().movedim(1, 3)).movedim(3, 1)
        return (mixed - wanted).square().mean()
