"""A hierarchical encoder's own stages as a pyramid, such as Hiera's with strides 4, 8, 16 and 32. Ryali et al. 2023.

Each stage's map has its own norm, since the encoder has one for the last stage only, and an ordinary feature pyramid
network projects all maps to one width (Lin et al. 2017, here torchvision's).
"""

from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.models.pyramid import ChannelNorm, Maps, Pyramid, check_width, expect

__all__ = ["Stages"]


class Stages(Pyramid):
    def __init__(self, encoder: Encoder, dim: int | None = 256):
        """dim: channels of every level; None keeps each stage's own channels, without a feature pyramid network. Raises
        UserError for an encoder with a single stride."""
        super().__init__()
        self.layers = tuple(range(encoder.num_maps))
        self.strides = [*encoder.feature_strides(self.layers)]
        if len(set(self.strides)) < max(2, len(self.strides)):
            model = encoder.arguments["model_name"]
            raise UserError(f"{model} has no stages of different strides (Hiera has); use pyramid simple or taps")
        widths = encoder.feature_dims(self.layers)
        self.norms = nn.ModuleList(ChannelNorm(width) for width in widths)
        self.dims = widths if dim is None else [check_width(dim)] * len(widths)
        self.merge = None if dim is None else FeaturePyramidNetwork(widths, dim)

    def forward(self, features: Maps) -> Maps:
        maps = [norm(feature_map) for norm, feature_map in zip(self.norms, expect(features, len(self.layers)))]
        if self.merge is None:
            return maps
        return list(self.merge({str(i): feature_map for i, feature_map in enumerate(maps)}).values())
