"""timm's Hiera as an encoder. Its units are windows of 32 pixels; hidden ones are dropped. Ryali et al. 2023."""

from collections.abc import Sequence
from typing import Any

import timm
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask, as_bool
from unmask.models.encoder import Encoder, Tokens
from unmask.models.layers.position import TableCache
from unmask.models.layers.weight_init import initialize
from unmask.models.names import require_values
from unmask.models.sizes import statistics_of

__all__ = ["Hiera"]


class Hiera(Encoder):
    blanks = False

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
        require_values(model, options)
        arguments = {"num_classes": 0, "in_chans": channels, **options}
        arguments |= {"img_size": tuple(image_size)} if image_size else {}
        net: Any = timm.create_model(model, pretrained=pretrained, **arguments)
        super().__init__(*statistics_of(net.pretrained_cfg if pretrained else {}, mean, std, channels))
        self.net, self.arguments, self.channels = net, {"model_name": model, **arguments}, channels
        self.dim = net.num_features
        self.grid = Grid(
            tuple(net.mask_spatial_shape), tuple(m * s for m, s in zip(net.mask_unit_size, net.patch_stride))
        )
        self.tables = TableCache(Grid(tuple(net.tokens_spatial_shape), tuple(net.patch_stride)))  # of tokens, not units
        if not pretrained:
            initialize(net)

    def forward(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask | None = None, fill: Float[Tensor, "d"] | None = None
    ) -> Tokens:
        if fill is not None:
            raise UserError("Hiera drops hidden units and cannot blank them: use mae, and without symmetric=True")
        (tokens,) = self._run(self.normalize(x), [self.num_maps - 1], mask)
        return self._units(tokens, self.grid_of(x))

    @property
    def num_layers(self) -> int:
        return 1  # the stages before the last are narrower

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        sizes = [self.net.reroll.schedule[end][1] for end in self.net.stage_ends]
        return tuple(
            (dim, size[0] // self.grid.shape[0]) for dim, size in zip(self.feature_dims(range(len(sizes))), sizes)
        )

    def fused(self, x: Shaped[Tensor, "b c *size"], mask: Mask, heads: Sequence[nn.Module | None]) -> Tokens:
        maps = self._run(self.normalize(x), range(self.num_maps), mask)
        tokens = maps[-1].flatten(2, 3)  # b v (s s) d
        for head, stage in zip(heads, maps):
            if head is not None:
                cells = head(stage.flatten(0, 1).permute(0, 3, 1, 2))  # (b v) d s s
                tokens = tokens + cells.flatten(2).transpose(1, 2).unflatten(0, tokens.shape[:2])
        tokens = self.net.head.norm(tokens).flatten(1, 2)
        return Tokens(tokens[:, :0], tokens)

    def layers(self, x: Shaped[Tensor, "b c *size"], last: int, mask: Mask | None = None) -> list[Tokens]:
        if mask is not None:
            if last > 1:
                raise UserError("Hiera's stages differ in width, so under a mask only its last gives tokens")
            return [self(x, mask)]
        numbers = range(max(0, self.num_maps - last), self.num_maps)
        *maps, final = self._run(self.normalize(x), numbers)
        early = [stage.flatten(1, 2) for stage in maps]  # narrower than the last, and Hiera has no norm for them
        return [Tokens(stage[:, :0], stage) for stage in early] + [self._units(final, self.grid_of(x))]

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
        norm_last = self.net.head.norm if norm else nn.Identity()
        maps = [norm_last(tokens.float()).permute(0, 3, 1, 2) for tokens in self._run(x, stages)]
        return [maps[stages.index(number)] for number in layers]

    def _run(
        self, x: Float[Tensor, "b c h w"], stages: Sequence[int], mask: Mask | None = None
    ) -> list[Float[Tensor, "b _ _ d"] | Float[Tensor, "b v _ _ d"]]:
        """Tokens of normalised pixels at the ends of these stages (in rising order), before the last norm: maps of
        them, b h w d. With a mask: those within each visible unit, b v s s d, in the mask's order."""
        net, grid = self.net, self.grid_of(x)
        unroll, reroll = self._orders(grid)
        seen_units = None if mask is None else as_bool(mask.visible, grid.num_units).view(-1, 1, *grid.shape)
        tokens = unroll(net.patch_embed(x, mask=seen_units) + self._positions(grid))
        order = None
        if mask is not None:
            visible, order = mask.visible.sort(dim=1)
            units = tokens.unflatten(1, (-1, grid.num_units))  # b, tokens of a unit, units, d
            index = visible[:, None, :, None].expand(-1, units.shape[1], -1, units.shape[3])
            tokens = units.gather(2, index).flatten(1, 2)
        ends, outputs = [net.stage_ends[stage] for stage in stages], []
        for number, block in enumerate(net.blocks[: ends[-1] + 1]):
            tokens = block(tokens)
            if number in ends:
                outputs.append(reroll(tokens, number, mask=order))  # which only asks whether there is one
        if order is None:
            return outputs
        return [_sorted(tokens, order.argsort(dim=1)) for tokens in outputs]

    def _orders(self, grid: Grid) -> tuple[nn.Module, nn.Module]:
        """timm's orders of tokens for a grid: from reading order to that of the blocks, and back."""
        net = self.net
        if grid.shape == self.grid.shape:
            return net.unroll, net.reroll
        schedule, stride = net.unroll.schedule, net.patch_stride
        unroll = type(net.unroll)(grid.size, stride, schedule)
        return unroll, type(net.reroll)(grid.size, stride, schedule, net.stage_ends, net.q_pool)

    def _positions(self, grid: Grid) -> Float[Tensor, "1 t d"]:
        """The learned table for the tokens of a grid, in reading order."""
        net = self.net
        shape = tuple(side // stride for side, stride in zip(grid.size, net.patch_stride))
        if net.pos_embed_win is None:
            return self.tables(net.pos_embed, Grid(shape, tuple(net.patch_stride)))
        windows = net.pos_embed_win.tile(grid.shape)  # 1 d h w; one table for the inside of units, one for the image
        whole = interpolate(net.pos_embed, size=shape, mode="bicubic", antialias=True)
        return (whole + windows).flatten(2).transpose(1, 2)

    def take_norm(self) -> None:
        self.net.head.norm = nn.Identity()

    def _units(self, tokens: Tensor, grid: Grid) -> Tokens:
        """One token for each unit of a grid, from what `_run` gives of the last stage: the mean where several are left
        in a unit, as with q_pool=2."""
        tokens = self.net.head.norm(tokens)  # timm keeps the last norm in the head, behind the pooling
        side = self.stages[-1][1]
        if tokens.ndim == 4 and side > 1:
            tokens = tokens.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)  # b h w s s d
            tokens = tokens.flatten(1, 2)
        units = tokens.mean(dim=(2, 3)) if side > 1 else tokens.flatten(1, -2)
        return Tokens(units[:, :0], units)


def _sorted(tokens: Float[Tensor, "b v s s d"], order: Int[Tensor, "b v"]) -> Float[Tensor, "b v s s d"]:
    return take(tokens.flatten(2), order).unflatten(2, tokens.shape[2:])
