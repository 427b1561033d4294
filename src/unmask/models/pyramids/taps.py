"""The four-tap pyramid: a map from the end of each quarter of the blocks, rescaled to four strides. Li et al. 2021.

"Benchmarking Detection Transfer Learning with Vision Transformers" (https://arxiv.org/abs/2111.11429): the first is
enlarged 4 times by two transposed convolutions, a norm and GELU behind the first of them; the second 2 times by one;
the third stays; the last is shrunk by a max-pool; an ordinary feature pyramid network follows (Lin et al. 2017, here
torchvision's). Segmenters with UperNet keep the encoder's width and leave that network out: dim=None.
"""

from collections.abc import Sequence

from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from unmask.errors import UserError
from unmask.models.encoder import Encoder
from unmask.models.pyramid import SCALES, Maps, Pyramid, check_width, expect, rescale, scaled_strides

__all__ = ["Taps"]


class Taps(Pyramid):
    def __init__(
        self,
        encoder: Encoder,
        dim: int | None = 256,
        layers: Sequence[int] | None = None,
        scales: Sequence[float] = SCALES,
        norm: str = "layer",
    ):
        """dim: channels of every level; None keeps the encoder's, without a feature pyramid network.

        layers: numbers of the blocks, one for each scale; None: the last of each equal part, 2, 5, 8 and 11 of 12.
        Published segmenters took 3, 5, 7 and 11. scales: as of `simple`. norm: layer, or batch for large batches.
        """
        super().__init__()
        depth, number = encoder.num_maps, len(scales)
        chosen = layers if layers is not None else [-(-(part + 1) * depth // number) - 1 for part in range(number)]
        if len(chosen) != number:
            raise UserError(f"{number} scales need as many layers, got {tuple(chosen)}")
        self.layers = tuple(encoder.layer_numbers(chosen))
        self.strides = scaled_strides(encoder, self.layers, scales)
        widths = encoder.feature_dims(self.layers)
        self.levels = nn.ModuleList(
            rescale(width, scale, shrink=False, norm=norm)[0] for width, scale in zip(widths, scales)
        )
        self.dims = widths if dim is None else [check_width(dim)] * number
        self.merge = None if dim is None else FeaturePyramidNetwork(widths, dim)

    def forward(self, features: Maps) -> Maps:
        maps = [level(feature_map) for level, feature_map in zip(self.levels, expect(features, len(self.layers)))]
        if self.merge is None:
            return maps
        return list(self.merge({str(i): feature_map for i, feature_map in enumerate(maps)}).values())
