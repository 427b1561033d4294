"""The contract of decoders (the encoder's tokens in, one prediction per hidden unit out), and MAE's decoder.

MAE's decoder is self-attention over visible tokens and mask tokens. He et al. 2021, section 3. The sequence is [prefix
| visible | hidden] with gathered positions. It is never put back in reading order: attention does not depend on the
order, and hidden units stand last, so that the last block needs only keys and values of the other tokens.
"""

import inspect
from abc import ABC, abstractmethod
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from unmask import registry
from unmask.errors import UserError, require_whole
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask, Noise, Rows
from unmask.models.encoder import Tokens
from unmask.models.layers.point_embed import PlaceEmbed
from unmask.models.layers.position import sincos
from unmask.models.layers.weight_init import initialize
from unmask.models.sizes import require_buildable
from unmask.seeds import mix

LayerNorm = partial(nn.LayerNorm, eps=1e-6)  # timm's default is the same; torch's is 1e-5
SOME = 0x50E  # keeps the seeds of predicted units distinct from those of masks
BLOCK = {"norm_layer": LayerNorm, "qkv_bias": True}


class Decoder(nn.Module, ABC):
    """Parts in `decoders/` define `forward`, call `keep_positions`, and override other methods where they differ.

    A decoder predicts the hidden units of the mask that it is given. In a training step the objective may pass only a
    random share of them; when an image is drawn, all are predicted.
    """

    share: float = 1.0  # of the hidden units that a training step predicts
    layers: int = 1  # number of encoder layers it reads; with more than one, `forward` gets a list, the deepest last
    filled: bool = False  # takes tokens of all units, hidden ones too
    fuses: bool = False  # reads all stages of a hierarchical encoder, by `Encoder.fused`
    placed: bool = False  # takes units that have places of their own
    whole: bool = False  # puts all units back on the grid, so that a mask must not leave any out
    grid: Grid  # that it was built for; inputs may have others
    stored: bool = False  # its position table came with the weights and fits its own grid only
    position: Tensor  # n d, fixed; or 1 + n d where it is stored: a first row for all prefix tokens

    @abstractmethod
    def forward(self, tokens: Tokens, mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        """One prediction per hidden unit, in the order of `mask.hidden`. grid: that of this input; None: the decoder's
        own."""

    def keep_positions(self, grid: Grid, dim: int, stored: bool = False) -> None:
        """Builds `position`, or what makes it of the units' own places, and records the grid that it is for."""
        self.grid, self.stored = grid, stored
        if grid.space:
            if not self.placed or stored:
                raise UserError("clouds of points have no grid: use the decoder full, partial or cross")
            self.place = PlaceEmbed(dim)
            return
        table = self.table(grid, dim)
        table = nn.functional.pad(table, (0, 0, 1, 0)) if stored else table
        self.register_buffer("position", table, persistent=stored)
        self._tables: dict[Any, Tensor] = {}

    def position_of(self, grid: Grid | None) -> Float[Tensor, "*b n d"]:
        """The position table for a grid, computed once, or of each sample's units, where they have places of their own.
        Raises UserError where a stored table is for another grid."""
        if self.grid.space:
            if grid is None or grid.places is None:
                raise ValueError("positions of units at places of their own need the grid of these samples")
            return self.place(grid.places)
        if grid is None or grid.shape == self.grid.shape:
            return self.position
        self.require_grid(grid)
        key = grid.shape, self.position.device
        if key not in self._tables:
            with torch.inference_mode(False):  # made here, it may be used in training later
                self._tables[key] = self.table(grid, self.position.shape[1]).to(self.position.device)
        return self._tables[key]

    def table(self, grid: Grid, width: int) -> Float[Tensor, "n width"]:
        """What tells a decoder where the units of a grid lie: MAE's table, which is added to their tokens."""
        return sincos(grid, width)

    def require_grid(self, grid: Grid) -> None:
        """Raises UserError for a grid without positions."""
        if self.stored and grid.shape != self.grid.shape:
            own, other = (" x ".join(map(str, g.shape)) for g in (self.grid, grid))
            raise UserError(
                f"this decoder's positions came with its weights, for a grid of {own} units, and cannot serve one of"
                f" {other}: use one size of images, --resolutions none, or a fresh decoder"
            )


class SelfAttention(Decoder):
    placed = True
    last_block: type[Block] | None = None  # replaces the last block, unless it is already lean

    def __init__(
        self,
        grid: Grid,
        in_dim: int,
        out_dim: int,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        position: str = "fixed",
        filled: bool = False,
    ):
        """dim, depth, heads: width, blocks and attention heads.

        position: "fixed" for MAE's table; "stored" for a table that is saved with the weights, as in decoders from
        elsewhere whose table differs or was made for another image size.
        filled: the encoder returns tokens of all units, hidden ones included, so no mask token is added.
        """
        super().__init__()
        if position not in ("fixed", "stored"):
            raise UserError(f"the decoder's position is 'fixed' or 'stored', got {position!r}")
        require_size(dim, depth, heads)
        self.embed = nn.Linear(in_dim, dim)
        self.filled = filled
        self.mask_token = None if filled else nn.Parameter(torch.zeros(1, 1, dim))
        self.keep_positions(grid, dim, stored=position == "stored")
        kinds = [Block] * (depth - 1) + [self.last_block or LastBlock]
        self.blocks = nn.Sequential(*(kind(dim, heads, **BLOCK) for kind in kinds))
        self.norm = LayerNorm(dim)
        self.predict = nn.Linear(dim, out_dim)
        initialize(self)

    def parts(
        self, tokens: Tokens, mask: Mask, grid: Grid | None = None
    ) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "b v d"], Float[Tensor, "b h d"]]:
        """Prefix, visible and hidden tokens with their positions. Prefix tokens have position zero, unless a stored
        table says otherwise."""
        prefix, units, position = self.embed(tokens.prefix), self.embed(tokens.units), self.position_of(grid)
        if self.stored:
            prefix, position = prefix + position[0], position[1:]
        if self.mask_token is None:
            visible, hidden = take(units, mask.visible), take(units, mask.hidden)
        else:
            visible, hidden = units, self.mask_token
        visible, hidden = visible + rows_at(position, mask.visible), hidden + rows_at(position, mask.hidden)
        return prefix, visible, hidden.to(visible.dtype)

    def forward(self, tokens: Tokens, mask: Mask, grid: Grid | None = None) -> Float[Tensor, "b h p"]:
        x = torch.cat(self.parts(tokens, mask, grid), dim=1)
        *blocks, last = self.blocks
        for block in blocks:
            x = block(x)
        return self.predict(self.norm(last(x, mask.hidden.shape[1])))


def rows_at(position: Float[Tensor, "*b n d"], index: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
    """Rows of a table for all samples, or of each sample's own."""
    return position[index] if position.ndim == 2 else take(position, index)


class LastBlock(Block):
    """timm's block, computing queries and the MLP for the last `num` tokens only. Their values are the same.

    A module rather than a function, so that wrappers of blocks (compilation, sharding) see the call. It has its own
    switch for fused attention, as timm's attentions do, because `attn.forward` is not called.
    """

    def __init__(self, dim: int, heads: int, **options: Any):
        super().__init__(dim, heads, **options)
        self.fused_attn = bool(self.attn.fused_attn)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "b n d"], num: int
    ) -> Float[Tensor, "b m d"]:
        attn: Any = self.attn  # timm's, whose parts have no types
        last, width = x[:, -num:], x.shape[2]
        normed = self.norm1(x)
        (to_query, to_both), (bias, biases) = (p.split([width, 2 * width]) for p in (attn.qkv.weight, attn.qkv.bias))
        query = linear(normed[:, -num:], to_query, bias)
        key, value = linear(normed, to_both, biases).chunk(2, dim=2)
        mixed = attn.proj_drop(attn.proj(attend(query, key, value, attn.num_heads, self.fused_attn)))
        last = last + self.drop_path1(self.ls1(mixed))
        return last + self.drop_path2(self.ls2(self.mlp(self.norm2(last))))


def attend(
    query: Float[Tensor, "b m d"], key: Float[Tensor, "b n d"], value: Float[Tensor, "b n d"], heads: int, fused: bool
) -> Float[Tensor, "b m d"]:
    """Multi-head attention; fused: torch's own, else plain matrix products, as in timm."""
    query, key, value = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    if fused:
        mixed = scaled_dot_product_attention(query, key, value)
    else:
        mixed = ((query * query.shape[3] ** -0.5) @ key.transpose(2, 3)).softmax(dim=3) @ value
    return mixed.transpose(1, 2).flatten(2)


def essence(text: str) -> tuple[Any, dict[str, Any]]:
    """The architecture of a decoder and all its options, defaults included. Decoders of equal essence can load each
    other's weights, whatever their names and however many units they predict in a step. Raises UserError for an unknown
    decoder."""
    name, arguments = registry.parse(text)
    part = registry.find("decoder", name)
    parameters = inspect.signature(part).parameters.values()
    options = {p.name: p.default for p in parameters if p.default is not p.empty} | arguments
    not_weights = ("predict", "keep", "filled")
    options = {"position": "fixed"} | {key: value for key, value in options.items() if key not in not_weights}
    return getattr(part, "forward", part), options


def num_predicted(num_hidden: int, share: float) -> int:
    """Number of hidden units that a share amounts to: rounded, at least one."""
    return max(1, round(share * num_hidden))


def some(hidden: Int[Tensor, "b h"], num: int, rows: Rows | None = None) -> Int[Tensor, "b m"]:
    """A random choice of `num` hidden units of each sample. The first ones of a mask would not do: only random masks
    are in random order."""
    noise = Noise(hidden.device, rows=None if rows is None else rows._replace(seed=mix(rows.seed, SOME)))
    return hidden.gather(1, noise(*hidden.shape).topk(num, dim=1).indices)


def require_size(dim: int, depth: int, heads: int) -> None:
    """Raises UserError for an impossible width, depth or number of heads."""
    for name, value in (("dim", dim), ("depth", depth), ("heads", heads)):
        require_whole(f"the decoder's {name}", value)
    if dim % heads:
        near = " or ".join(str(n) for n in (dim // heads * heads, (dim // heads + 1) * heads) if n)
        raise UserError(
            f"the decoder's dim must be a multiple of its heads, got dim {dim} and {heads} heads; near it {near}"
        )
    require_buildable("the decoder", dim, depth)


def require_usable(decoder: object, text: object, method: str, *, covers: bool, layers: bool = False) -> None:
    """Raises UserError for a decoder that needs what a method does not give it. Decoders from elsewhere may not say.

    covers: visible and hidden units together are all units; layers: the method can hand on several encoder layers.
    """
    if getattr(decoder, "whole", False) and not covers:
        raise UserError(
            f"the decoder {text} puts all patches back on the grid, and the mask leaves some out: use --decoder full"
        )
    if getattr(decoder, "fuses", False) and not layers:
        raise UserError(f"the decoder {text} reads all stages of the encoder, and {method} gives it the last one")
    if (count := getattr(decoder, "layers", 1)) > 1 and not layers:
        raise UserError(f"the decoder {text} reads {count} layers of the encoder, and {method} gives it the last one")


def require_share(name: str, share: float) -> None:
    """Raises UserError for a share that is not above 0 and at most 1."""
    if not 0 < share <= 1:
        raise UserError(f"{name} is a share of the hidden units, above 0 and at most 1 (all of them); got {share}")
