"""Any network as an encoder that sees whole images: a timm model, a torchvision classifier, or a class of the user's.

`maps(net='resnet18')` has a single unit, the image, whose token is what the network itself returns without its
classifier; its feature maps are those of `layers/feature_taps.py`. It cannot hide anything, so no masked method trains
it: `distil` does. The state dict is that of the network's own library.
"""

import dataclasses
from collections.abc import Sequence

from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.models.any_network import create_network
from unmask.models.encoder import Encoder, Tokens
from unmask.models.layers.feature_taps import find_taps, vector
from unmask.models.sizes import statistics_of

__all__ = ["Maps"]
SIZE = (224, 224)  # pixels, where nobody says


class Maps(Encoder):
    blanks, staged = False, True

    @staticmethod
    def known() -> list[str]:
        return ["maps"]

    @staticmethod
    def accepts(model: str) -> bool:
        return model == "maps"

    def __init__(
        self,
        model: str,
        net: str = "",
        image_size: tuple[int, ...] | None = None,
        patch_size: int | None = None,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        pretrained: bool = False,
        drop_path_rate: float = 0.0,
    ):
        """net: as for `any_network.library_of`; patch_size: not used, since the image is the unit; drop_path_rate: of
        networks that have stochastic depth."""
        if not net:
            raise UserError("maps needs the name of a network, in quotes: maps(net='resnet18')")
        size = tuple(image_size or SIZE)
        network = create_network(net, channels, size, drop_path_rate)
        super().__init__(*statistics_of({}, mean, std, channels))
        self.net, self.channels, self.network = network.module, channels, dataclasses.replace(network, module=None)
        self.taps = find_taps(self.net, channels, size, net)
        self.dim, self.grid = self.taps.dim, Grid((1,) * len(size), size)
        self.arguments = {"model_name": "maps", "net": net, "in_chans": channels, "img_size": size}

    def grid_of(self, x: Shaped[Tensor, "b c *size"]) -> Grid:
        """One unit of any size."""
        return Grid((1,) * (x.ndim - 2), tuple(int(side) for side in x.shape[2:]))

    def whole(self, x: Shaped[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.normalize(x)

    def forward(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask | None = None, fill: Float[Tensor, "d"] | None = None
    ) -> Tokens:
        if mask is not None or fill is not None:
            self.require_masks()
        return self._tokens(vector(self.net(self.normalize(x))))

    def seen(self, x: Shaped[Tensor, "b c *size"], cls: bool = False) -> tuple[Tensor, list[Float[Tensor, "b _ _ _"]]]:
        return self.taps(self.net, self.normalize(x))

    def layers(self, x: Shaped[Tensor, "b c *size"], last: int, mask: Mask | None = None) -> list[Tokens]:
        """The maps before the deepest as tokens, then the network's own features."""
        if mask is not None:
            self.require_masks()
        if last == 1:
            return [self(x)]
        features, maps = self.seen(x)
        early = [feature_map.flatten(2).transpose(1, 2) for feature_map in maps[:-1][1 - last :]]
        return [Tokens(units[:, :0], units) for units in early] + [self._tokens(features)]

    def _tokens(self, features: Float[Tensor, "b d"]) -> Tokens:
        return Tokens(features[:, None][:, :0], features[:, None])

    def _maps(self, x: Float[Tensor, "b c h w"], layers: list[int], norm: bool) -> list[Float[Tensor, "b _ _ _"]]:
        maps = self.taps(self.net, x)[1]
        return [maps[number] for number in layers]

    def feature_dims(self, layers: Sequence[int] | None = None) -> list[int]:
        return [self.taps.taps[number].dim for number in self.layer_numbers(layers)]

    def feature_strides(self, layers: Sequence[int] | None = None) -> list[int]:
        return [self.taps.taps[number].stride for number in self.layer_numbers(layers)]

    @property
    def num_maps(self) -> int:
        return len(self.taps.taps)

    @property
    def num_layers(self) -> int:
        return 1

    @property
    def num_blocks(self) -> int:
        """What lies before the first map, between maps, and behind the last."""
        return self.num_maps + 1

    def depth_of(self, name: str) -> int:
        return 1 + self.taps.depths.get(name.removeprefix("net.").rpartition(".")[0], self.num_maps)

    @property
    def outputs(self) -> tuple[str, ...]:
        return ("features",)

    def traced(self, pixels: Shaped[Tensor, "b c *size"]) -> tuple[Tensor, ...]:
        """For exports: the network's features, b d."""
        return (self(pixels).units[:, 0],)

    def require_masks(self) -> None:
        raise UserError(
            f"{self.arguments['net']} sees whole images and cannot leave hidden patches out, as masked methods need;"
            " teach it from an encoder that was pretrained: unmask distil RUN --into ..."
        )

    def require_blanks(self, method: str) -> None:
        self.require_masks()

    def take_norm(self) -> None:
        """There is none: what a network returns is taken as it is."""
