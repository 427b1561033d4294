"""The contract of pyramids: an encoder's feature maps in, maps of several strides out, from fine to coarse.

Detectors and segmenters find small objects on fine maps and large ones on coarse maps. A plain ViT has a single stride,
so its pyramids compute the others. Parts are in `pyramids/`:

    pyramid = registry.build("pyramid", "simple(dim=256)", encoder=encoder)
    maps = pyramid(encoder.features(x, pyramid.layers))

With a stride s, a level has ceil(height / s) rows of the padded image's height, which is whole units of the encoder.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from unmask.errors import UserError, closest
from unmask.models.encoder import Encoder

NORMS = ("layer", "batch")
SCALES = (4, 2, 1, 0.5)  # of the encoder's own stride: 4, 8, 16 and 32 pixels for patches of 16
Maps = list[Float[Tensor, "b _ _ _"]]


class Pyramid(nn.Module, ABC):
    """Parts in `pyramids/` define the attributes and `forward`."""

    layers: tuple[int, ...]  # the layers to request from `Encoder.features`
    dims: list[int]  # channels of each level
    strides: list[float]  # pixels between neighbours on a level; fractions for patches of 14 enlarged 4 times

    @abstractmethod
    def forward(self, features: Maps) -> Maps:
        """Levels from fine to coarse, computed from the encoder's maps of `layers`."""


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map, separately at each position."""

    def __init__(self, dim: int):
        super().__init__(dim, eps=1e-6)

    def forward(self, input: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        last = layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


def make_norm(kind: str, dim: int) -> nn.Module:
    """The norm called `layer`, which does not depend on the batch, or `batch`. Raises UserError for other names."""
    if kind not in NORMS:
        raise UserError(f"no norm {kind!r}{closest(kind, NORMS)} There are: {', '.join(NORMS)}")
    return ChannelNorm(dim) if kind == "layer" else nn.BatchNorm2d(dim)


def rescale(dim: int, scale: float, shrink: bool, norm: str) -> tuple[nn.Sequential, int]:
    """A module that enlarges or shrinks a map by a power of two, and its number of output channels.

    Enlarging by 2 takes a transposed convolution; by 4, another one behind a norm and GELU; and so on. Shrinking is
    max-pooling, whose squares may be cut off at the border, so that sizes are rounded up. shrink: each enlargement
    halves the channels, as in ViTDet.
    """
    steps: list[nn.Module] = []
    power = _power(scale)
    for step in range(power):
        new = dim // 2 if shrink else dim
        if step:
            steps += [make_norm(norm, dim), nn.GELU()]
        steps.append(nn.ConvTranspose2d(dim, new, kernel_size=2, stride=2))
        dim = new
    if power < 0:
        steps.append(nn.MaxPool2d(2**-power, 2**-power, ceil_mode=True))
    return nn.Sequential(*steps), dim


def scaled_strides(encoder: Encoder, layers: Sequence[int], scales: Sequence[float]) -> list[float]:
    """Strides of an encoder's maps after scaling. Raises UserError unless scales are powers of two from large to small
    and all layers have the same stride."""
    if not scales or any(a <= b for a, b in pairwise(scales)):
        raise UserError(f"scales must fall, such as {SCALES}; got {tuple(scales)}")
    own = encoder.feature_strides(layers)
    if len(set(own)) > 1:
        raise UserError(f"layers of one stride are needed, these have {own}; use pyramid stages")
    for scale in scales:
        _power(scale)
    strides = [own[0] / scale for scale in scales]
    return [int(stride) if stride == int(stride) else stride for stride in strides]


def _power(scale: float) -> int:
    for power in range(-6, 7):
        if scale == 2.0**power:
            return power
    raise UserError(f"a scale must be a power of two, such as 4, 1 or 0.5; got {scale}")


def check_width(dim: int) -> int:
    """Raises UserError for a width that is not positive."""
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        raise UserError(f"a pyramid's dim is its number of channels, 1 or more; got {dim!r}")
    return dim


def expect(features: Maps, number: int) -> Maps:
    """The same maps; ValueError if there are more or fewer than the pyramid's layers."""
    if len(features) != number:
        raise ValueError(f"this pyramid takes {number} maps, encoder.features(x, pyramid.layers); got {len(features)}")
    return features
