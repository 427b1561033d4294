"""Any timm ViT, DeiT, EVA or DINOv3 as an encoder that can drop or blank the hidden units.

timm's own modules run one after the other (patch embedding, positions, blocks, norm), so that units can be dropped
between positions and blocks, and positions can follow the grid of each input. The network itself is not changed: the
weights stay a plain timm state dict, and timm's `forward` gives the same values.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from jaxtyping import Bool, Float, Shaped
from timm.models import VisionTransformer
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid, Part, take
from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder, Tokens
from unmask.models.layers.attention_maps import require_maps, weights_of
from unmask.models.layers.band_embed import BandEmbed, embed_bands, for_scenes
from unmask.models.layers.network import arguments_of, family, make_network, sees_windows, shape_of
from unmask.models.layers.part_embed import PartEmbed, attended, filled
from unmask.models.layers.point_embed import SPACE
from unmask.models.layers.position import TableCache, fill_sincos
from unmask.models.layers.unit_embed import PAIRED, rotary, told_order
from unmask.models.layers.weight_init import initialize
from unmask.models.layers.windowed_attention import Windows
from unmask.models.sizes import statistics_of
from unmask.plain import PositiveInt

__all__ = ["Timm"]


class Timm(Encoder):
    @staticmethod
    def known() -> list[str]:
        return timm.list_models()

    @staticmethod
    def accepts(model: str) -> bool:
        name = model.split(".")[0]
        return timm.is_model(name) and family(name) in ("vision_transformer", "deit", "eva")

    def __init__(
        self,
        model: str,
        image_size: tuple[int, ...] | None = None,
        patch_size: int | tuple[int, ...] | None = None,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        pretrained: bool = False,
        window: int | None = None,
        global_blocks: int = 4,
        relative: bool = False,
        attend_padding: bool = False,
        learned_positions: bool = False,
        class_tokens: PositiveInt = 1,
        parts: tuple[Part, ...] = (),
        placed: bool = False,
        groups: Any = (),
        planes: int = 0,
        scale: float | None = None,
        rotary_order: str = PAIRED,
        **options: Any,
    ):
        """options: any argument of the timm model, e.g. depth, embed_dim, num_heads, drop_path_rate.

        image_size, patch_size: along each axis of the input. For one or three axes the patch embedding is replaced by
        one of as many, and positions follow.
        window, global_blocks: attention within window x window units, except in this many blocks; see
        windowed_attention.py.
        attend_padding: windows that reach beyond the image attend to its padding, as SAM's do.
        learned_positions: the position table is trained from random values, in place of MAE's fixed sine-cosine one.
        class_tokens: of the class and register tokens, whose mean stands for the image (Pixio has eight); those beyond
        the first are timm's registers, made unless reg_tokens says how many there are.
        groups, planes, scale: of bands; channels that tell of a whole scene; metres of a usual pixel: see band_embed.py
        relative: relative positions in every block, learned in fine-tuning; see relative_position.py.
        rotary_order: of the angles of rotary positions on one or three axes; "tiled" for V-JEPA 2; see unit_embed.py
        parts: that a row of units consists of; placed: units have places of their own; see part_ and point_embed.py.
        """
        arguments = arguments_of(model, image_size, patch_size, channels, class_tokens, options)
        windowed = sees_windows(model, window, relative)
        net = make_network(model, arguments, pretrained, windowed, len(image_size or ()) or 2, parts, placed)
        if not len(net.blocks):
            raise UserError(f"{model} with depth 0 has nothing to train; depth must be 1 or more")
        super().__init__(*statistics_of(net.pretrained_cfg if pretrained else {}, mean, std, channels))
        told = embed_bands(net, channels, groups, planes, scale, windowed)
        ordered = told_order(net, model, len(image_size or ()) or 2, rotary_order)
        self.net, self.arguments, self.channels = net, {"model_name": model, **arguments, **told, **ordered}, channels
        self.planes, self.scale, self.rotary_order = planes, scale, rotary_order
        self.dim, self.num_prefix = net.num_features, net.num_prefix_tokens
        self.grid = net.patch_embed.grid if told else Grid(*shape_of(net), parts, SPACE if placed else 0)
        self.own, self.class_tokens = ({"class_tokens": class_tokens} if class_tokens > 1 else {}), class_tokens
        if class_tokens > 1 and (net.cls_token is None or class_tokens > self.num_prefix):
            raise UserError(f"{model} has {self.num_prefix} class and register tokens, and class_tokens={class_tokens}")
        if not pretrained:
            initialize(net)
        self._begin_positions(learned_positions, pretrained)
        self.tables = TableCache(self.grid.plane)
        self.windows: Windows | None = None
        if windowed:
            self._see_windows(window, global_blocks, relative, attend_padding)

    def _begin_positions(self, learned: bool, pretrained: bool) -> None:
        """Fills the filters of parts, and the position table, unless it came with weights; says if it is trained."""
        table = self.net.pos_embed
        if isinstance(self.net.patch_embed, BandEmbed | PartEmbed):
            self.net.patch_embed.begin()
        if learned and table is None:
            why = "units at places of their own" if self.grid.space else "rotary positions"
            name = self.arguments["model_name"]
            raise UserError(f"{name} has {why}: there is no table that learned_positions=True could train")
        if table is not None:
            table.requires_grad_(learned)
            if learned and not pretrained:
                nn.init.trunc_normal_(table, std=0.02)
            elif not pretrained:
                fill_sincos(table, self.grid.plane)

    def _see_windows(self, window: int | None, global_blocks: int, relative: bool, attend_padding: bool) -> None:
        settings = (window, global_blocks, relative, attend_padding)
        self.windows = Windows(self.net.blocks, self.grid, self.num_prefix, *settings)
        windows = {"window": window, "global_blocks": global_blocks} if window is not None else {}
        self.own = {**self.own, **windows, **({"attend_padding": True} if attend_padding else {})}
        if relative:
            self.own, self.relative = {**self.own, "relative": True}, self.windows.tables

    def forward(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask | None = None, fill: Float[Tensor, "d"] | None = None
    ) -> Tokens:
        allowed = self._allowed(x, mask)
        (tokens,) = self._run(self.prepared(x), [self.num_blocks - 1], mask, fill, allowed)
        return self._parts(self.net.norm(tokens), allowed)

    def attending(self, x: Shaped[Tensor, "b c *size"], allowed: Bool[Tensor, "_ t t"]) -> Tokens:
        (tokens,) = self._run(self.prepared(x), [self.num_blocks - 1], allowed=allowed)
        return self._parts(self.net.norm(tokens))

    @property
    def ordered(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.windows is None

    def layers(self, x: Shaped[Tensor, "b c *size"], last: int, mask: Mask | None = None) -> list[Tokens]:
        deepest = range(max(0, self.num_blocks - last), self.num_blocks)
        norm, allowed = self.net.norm, self._allowed(x, mask)
        layers = self._run(self.prepared(x), deepest, mask, allowed=allowed)
        return [self._parts(norm(tokens.float()), allowed) for tokens in layers]  # blocks in bf16 hand on bf16

    @property
    def windowable(self) -> bool:
        return isinstance(self.net, VisionTransformer)

    @property
    def input_size(self) -> tuple[int, ...]:
        return tuple(self.net.patch_embed.img_size)

    def _maps(self, x: Float[Tensor, "b c *size"], layers: list[int], norm: bool) -> list[Float[Tensor, "b d *grid"]]:
        depths, grid = sorted(set(layers)), self.grid_of(x)
        units = [self._parts(tokens).units.float() for tokens in self._run(x, depths)]  # blocks in bf16 hand on bf16
        maps = [grid.mapped(self.net.norm(u) if norm else u) for u in units]
        return [maps[depths.index(number)] for number in layers]

    def _run(
        self,
        x: Float[Tensor, "b c *size"],
        numbers: Sequence[int],
        mask: Mask | None = None,
        fill: Float[Tensor, "d"] | None = None,
        allowed: Bool[Tensor, "_ t t"] | None = None,
    ) -> list[Float[Tensor, "b t d"]]:
        """Tokens of normalised pixels after the blocks with these indices (in rising order), before the last norm.
        Later blocks are not computed."""
        tokens, options = self._embedded(x, mask, fill, allowed)
        outputs = []
        for number, block in enumerate(self.net.blocks[: numbers[-1] + 1]):
            tokens = block(tokens, **options[number])
            if number in numbers:
                outputs.append(tokens)
        return outputs

    def attention(
        self, x: Shaped[Tensor, "b c h w"], block: int = -1, mask: Mask | None = None
    ) -> Float[Tensor, "b heads t t"]:
        require_maps(self, block)
        number, (tokens, options) = self.layer_numbers([block])[0], self._embedded(self.whole(x), mask)
        for place in range(number):
            tokens = self.net.blocks[place](tokens, **options[place])
        return weights_of(self.net.blocks[number], tokens, options[number])

    def _embedded(
        self,
        x: Float[Tensor, "b c *size"],
        mask: Mask | None = None,
        fill: Float[Tensor, "d"] | None = None,
        allowed: Bool[Tensor, "_ t t"] | None = None,
    ) -> tuple[Float[Tensor, "b t d"], list[dict[str, Any]]]:
        """Tokens of normalised pixels as the first block takes them, and what each block takes besides."""
        net, grid = self.net, self.grid_of(x)
        if grid.space and mask is not None and fill is None:  # most of the work lies in embedding groups
            x, mask = grid.only(x, mask.visible), None
            grid = self.grid_of(x)
        if tuple(x.shape[2:]) != grid.size:  # a few models see less than their input
            x = x[..., : grid.size[0], : grid.size[1]]
        units = net.patch_embed(x).flatten(1, -2)  # timm's keeps rows and columns apart
        metres = x[:, self.channels, 0, 0] if self.scale else None
        visible = None
        if mask is not None and fill is not None:
            index = mask.hidden[..., None].expand(-1, -1, self.dim)
            units = units.scatter(1, index, fill.to(units.dtype).expand(index.shape))
        elif mask is not None:
            self.require_masks()
            visible = mask.visible
        tokens = net.pos_drop(self._positioned(units, grid, metres))
        if visible is not None:
            prefix, units = self._parts(tokens)
            tokens = torch.cat([prefix, take(units, visible)], dim=1)
        options = self._block_options(grid, visible)
        if allowed is not None:
            options = [{**option, "attn_mask": allowed[:, None]} for option in options]  # the same for every head
        return net.norm_pre(tokens), options

    def _positioned(
        self, units: Float[Tensor, "b n d"], grid: Grid, metres: Float[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b t d"]:
        """Class and register tokens, then the units, each with its position where the model has a table. metres: of a
        pixel of each sample, where positions are to be told in such."""
        net = self.net
        table = None if net.pos_embed is None else self.tables(net.pos_embed, grid.plane)
        if table is not None and (grid.plane is not grid or metres is not None):
            table = for_scenes(table, grid, metres, self.scale)
        if grid.places is not None:
            units = units + net.patch_embed.place(grid.places)
        prefix = [part.expand(units.shape[0], -1, -1) for part in (net.cls_token, net.reg_token) if part is not None]
        if table is not None and net.no_embed_class:
            units, table = units + table, None
        tokens = torch.cat([*prefix, units], dim=1) if prefix else units
        # under autocast, patches come in bf16; what blocks add up stays in fp32, with a table or without
        return tokens.to(torch.promote_types(tokens.dtype, self.mean.dtype)) if table is None else tokens + table

    def _block_options(self, grid: Grid, visible: Tensor | None) -> list[dict[str, Any]]:
        """Positions passed to each block: the layout of windows, or rotary embeddings."""
        count, rope = self.num_blocks, getattr(self.net, "rope", None)
        if self.windows is not None:
            return [{"layout": self.windows.layout(grid, visible)}] * count
        if rope is None:
            return [{}] * count
        if len(grid.shape) != 2:
            dim = self.dim // self.net.blocks[0].attn.num_heads
            table = rotary(grid, dim, self.rotary_order).to(self.mean.device)
            return [{"rope": table if visible is None else table[visible].unsqueeze(1)}] * count
        table = rope.get_embed(shape=list(grid.shape))
        if getattr(self.net, "rope_mixed", False):  # one table per block and head
            table = table if visible is None else table[:, :, visible].transpose(1, 2)  # -> blocks b heads v _
            return [{"rope": table[number]} for number in range(count)]
        return [{"rope": table if visible is None else table[visible].unsqueeze(1)}] * count  # -> b 1 v _

    def _parts(self, tokens: Float[Tensor, "b t d"], allowed: Bool[Tensor, "b t t"] | None = None) -> Tokens:
        units = tokens[:, self.num_prefix :]
        return Tokens(tokens[:, : self.num_prefix], units if allowed is None else filled(units, allowed))

    def _allowed(self, x: Shaped[Tensor, "b c *size"], mask: Mask | None) -> Bool[Tensor, "b t t"] | None:
        """What tokens may attend to where parts of raw samples can be missing and nothing is hidden; None: all."""
        return attended(x, self.grid_of(x), self.num_prefix) if self.grid.parts and mask is None else None

    def take_norm(self) -> None:
        self.net.norm = nn.Identity()
