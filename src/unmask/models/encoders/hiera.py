"""timm's Hiera as an encoder. Its units are 32-pixel windows, and it drops hidden ones by itself. Ryali et al. 2023."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import timm
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask, as_bool
from unmask.models.encoder import Encoder, Tokens, intermediates
from unmask.models.layers.position import resampled
from unmask.models.layers.weight_init import initialize

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

    def feature_dims(self, layers: Sequence[int] | None = None) -> list[int]:
        return [self.net.feature_info[number]["num_chs"] for number in self.layer_numbers(layers)]

    def feature_strides(self, layers: Sequence[int] | None = None) -> list[int]:
        sides = [self.net.reroll.schedule[end][1][0] for end in self.net.stage_ends]
        return [self.grid.size[0] // sides[number] for number in self.layer_numbers(layers)]

    @property
    def num_maps(self) -> int:
        return len(self.net.stage_ends)

    def _maps(self, x: Float[Tensor, "b c h w"], layers: list[int], norm: bool) -> list[Float[Tensor, "b _ _ _"]]:
        stages = sorted(set(layers))
        if norm and stages[0] < self.num_maps - 1:
            raise UserError("Hiera has a norm for its last stage only; take its features with norm=False")
        with self._sized(tuple(x.shape[2:])) as tables:
            options = {"indices": stages, "output_fmt": "NHWC", "intermediates_only": True}
            found = [stage.float() for stage in intermediates(self.net, x, tables, **options)]
        maps = [(self.net.head.norm(stage) if norm else stage).permute(0, 3, 1, 2) for stage in found]
        return [maps[stages.index(number)] for number in layers]

    @contextmanager
    def _sized(self, size: tuple[int, ...]) -> Iterator[dict[str, Tensor]]:
        """Lends timm's net to images of another size; gives the table to use in the place of its own."""
        net = self.net
        if size == self.grid.size:
            yield {}
            return
        tokens = [side // stride for side, stride in zip(size, net.patch_stride)]
        lent = {
            "unroll": type(net.unroll)(size, net.patch_stride, net.unroll.schedule),
            "reroll": type(net.reroll)(size, net.patch_stride, net.unroll.schedule, net.stage_ends, net.q_pool),
            "tokens_spatial_shape": tokens,
            "mask_spatial_shape": [side // unit for side, unit in zip(tokens, net.mask_unit_size)],
        }
        own, table = {name: getattr(net, name) for name in lent}, net.pos_embed
        tiled = net.pos_embed_win is not None  # then timm resamples for the windows that there are
        for name, value in lent.items():
            setattr(net, name, value)
        try:
            yield {} if tiled else {"pos_embed": resampled(table, tuple(own["tokens_spatial_shape"]), tuple(tokens), 0)}
        finally:
            for name, value in own.items():
                setattr(net, name, value)

    def take_norm(self) -> None:
        self.net.head.norm = nn.Identity()

    def _units(self, tokens: Tensor) -> Tokens:
        tokens = self.net.head.norm(tokens)  # timm keeps the last norm in the head, behind the pooling
        return Tokens(tokens[:, :0], tokens)
