"""timm's Hiera as an encoder. Its units are 32-pixel windows, and it drops hidden ones by itself. Ryali et al. 2023."""

from typing import Any

import timm
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.encoder import Encoder, Tokens
from unmask.errors import UserError
from unmask.grid import Grid, take
from unmask.initialize import initialize
from unmask.mask import Mask, as_bool

__all__ = ["Hiera"]


class Hiera(Encoder):
    families = "Hiera (hiera_*)"

    @staticmethod
    def known() -> list[str]:
        return timm.list_models("hiera_*")

    @staticmethod
    def accepts(model: str) -> bool:
        return model.startswith("hiera_") and timm.is_model(model.split(".")[0])

    def __init__(
        self,
        model: str,
        image_size: tuple[int, ...] | None = None,
        patch_size: int | None = None,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        pretrained: bool = False,
        **options: Any,
    ):
        if patch_size not in (None, 32):
            raise UserError(f"Hiera hides units of 32 pixels and no others; got patch size {patch_size}")
        if image_size and any(s % 32 for s in image_size):
            near = tuple(max(1, round(s / 32)) * 32 for s in image_size)
            raise UserError(f"image size {tuple(image_size)} is no multiple of Hiera's 32; the nearest is {near}")
        arguments = {"num_classes": 0, "in_chans": channels, **options}
        arguments |= {"img_size": tuple(image_size)} if image_size else {}
        net: Any = timm.create_model(model, pretrained=pretrained, **arguments)
        own = net.pretrained_cfg if pretrained else {}
        super().__init__(
            mean or tuple(255 * m for m in own.get("mean", ())) or (0.0,) * channels,
            std or tuple(255 * s for s in own.get("std", ())) or (1.0,) * channels,
        )
        self.net, self.arguments, self.channels = net, {"model_name": model, **arguments}, channels
        self.dim = net.num_features
        self.grid = Grid(
            tuple(net.mask_spatial_shape), tuple(m * s for m, s in zip(net.mask_unit_size, net.patch_stride))
        )
        if not pretrained:
            initialize(net)

    def forward(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask | None = None, fill: Float[Tensor, "d"] | None = None
    ) -> Tokens:
        if fill is not None:
            raise UserError("Hiera drops hidden units and cannot blank them: use mae, and without symmetric=True")
        x = self.normalize(x)
        if mask is None:
            return self._units(self.net.forward_features(x))
        tokens = self._units(self.net.forward_features(x, mask=as_bool(mask.visible, self.grid.num_units)))
        order = mask.visible.argsort(dim=1).argsort(dim=1)  # from reading order to the mask's
        return Tokens(tokens.prefix, take(tokens.units, order))

    @property
    def num_layers(self) -> int:
        return 1  # the stages before the last are narrower

    def layers(self, x: Shaped[Tensor, "b c *size"], last: int, mask: Mask | None = None) -> list[Tokens]:
        if mask is not None:
            if last > 1:
                raise UserError("Hiera's stages differ in width, so under a mask only its last gives tokens")
            return [self(x, mask)]
        num = min(last, len(self.net.feature_info))
        options = {"output_fmt": "NHWC", "intermediates_only": True}
        *early, final = self.net.forward_intermediates(self.normalize(x), indices=num, **options)
        stages = [stage.flatten(1, -2) for stage in early]  # narrower than the last, and Hiera has no norm for them
        return [Tokens(stage[:, :0], stage) for stage in stages] + [self._units(final.flatten(1, -2))]

    def take_norm(self) -> None:
        self.net.head.norm = nn.Identity()

    def _units(self, tokens: Tensor) -> Tokens:
        tokens = self.net.head.norm(tokens)  # timm keeps the last norm in the head, behind the pooling
        return Tokens(tokens[:, :0], tokens)
