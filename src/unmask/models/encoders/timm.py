"""Any timm ViT, DeiT, EVA or DINOv3 as an encoder that can drop or blank the hidden units.

timm has both places we need. `patch_drop` sits between position embedding and the blocks, and gathers rotary embeddings
along; `patch_embed` yields one token per unit. The weights stay a plain timm state dict.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
from jaxtyping import Float, Shaped
from timm.models import VisionTransformer
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder, Tokens, intermediates
from unmask.models.layers.position import resampled, sincos
from unmask.models.layers.weight_init import initialize
from unmask.models.layers.windowed_attention import Windows

__all__ = ["Timm"]
MOST_SIZES = 32  # rotary tables that are kept for other sizes of images
OURS = {"num_classes", "global_pool", "in_chans", "img_size", "patch_size"}  # arguments with flags of their own


class Timm(Encoder):
    families = "timm's ViT, DeiT, DINOv2, SigLIP and CLIP towers (vit_*, deit*), EVA and DINOv3 (eva*, vit_*_dinov3)"

    @staticmethod
    def known() -> list[str]:
        return timm.list_models()

    @staticmethod
    def accepts(model: str) -> bool:
        name = model.split(".")[0]
        return timm.is_model(name) and _family(name) in ("vision_transformer", "deit", "eva")

    def __init__(
        self,
        model: str,
        image_size: tuple[int, ...] | None = None,
        patch_size: int | None = None,
        channels: int = 3,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        pretrained: bool = False,
        window: int | None = None,
        global_blocks: int = 4,
        relative: bool = False,
        **options: Any,
    ):
        """options: any argument of the timm model, e.g. depth, embed_dim, num_heads, drop_path_rate.

        window, global_blocks: attention within window x window units, but in so many blocks; see `windows.py`.
        relative: relative positions in every block, learned in fine-tuning; see `relative.py`.
        """
        # global_pool="" keeps `norm`; any other value may move it to fc_norm, which forward_features skips
        arguments = {"num_classes": 0, "global_pool": "", "in_chans": channels, **options}
        arguments |= {"img_size": tuple(image_size)} if image_size else {}
        arguments |= {"patch_size": patch_size} if patch_size else {}
        for name in OURS & options.keys():
            raise UserError(f"{name} in {model}(...) is set by unmask; use --image-size, --patch-size or --channels")
        net = _create(model, arguments, pretrained)
        if not len(net.blocks):
            raise UserError(f"{model} with depth 0 has nothing to train; depth must be 1 or more")
        if not hasattr(net, "patch_drop"):
            raise UserError(f"{model} has no patch_drop, so it cannot skip hidden patches. Can: {self.families}")
        own = net.pretrained_cfg if pretrained else {}
        super().__init__(
            mean or tuple(255 * m for m in own.get("mean", ())) or (0.0,) * channels,
            std or tuple(255 * s for s in own.get("std", ())) or (1.0,) * channels,
        )
        self.net, self.arguments, self.channels = net, {"model_name": model, **arguments}, channels
        self.dim, self.num_prefix = net.num_features, net.num_prefix_tokens
        self.grid = Grid(tuple(net.patch_embed.grid_size), tuple(net.patch_embed.patch_size))
        if not pretrained:
            initialize(net)
        if net.pos_embed is not None:
            net.pos_embed.requires_grad_(False)
            if not pretrained:
                _fill_position(net.pos_embed, self.grid)
        net.patch_drop = _Keep(self.num_prefix, returns_index=not isinstance(net, VisionTransformer))
        net.patch_embed.register_forward_hook(self._blank)
        self._blanking: tuple[Tensor, Tensor] | None = None
        self._ropes: dict[Any, Any] = {}
        self.windows: Windows | None = None
        if window is not None or relative:
            what = "window= and relative= are" if relative else "window= is"
            if not isinstance(net, VisionTransformer):
                raise UserError(f"{what} for ViTs without rotary positions; {model} is none. E.g. vit_*, deit*")
            self.windows = Windows(net.blocks, self.grid, self.num_prefix, window, global_blocks, relative)
            self.own = {"window": window, "global_blocks": global_blocks} if window is not None else {}
            if relative:
                self.own, self.relative = {**self.own, "relative": True}, self.windows.tables

    def forward(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask | None = None, fill: Float[Tensor, "d"] | None = None
    ) -> Tokens:
        self._blanking = (mask.hidden, fill) if mask is not None and fill is not None else None
        with self._seeing(mask.visible if mask is not None and fill is None else None):
            tokens = self.net.forward_features(self.normalize(x))
        return Tokens(tokens[:, : self.num_prefix], tokens[:, self.num_prefix :])

    def layers(self, x: Shaped[Tensor, "b c *size"], last: int, mask: Mask | None = None) -> list[Tokens]:
        options = {"norm": False, "output_fmt": "NLC", "intermediates_only": True, "return_prefix_tokens": True}
        num = min(last, len(self.net.blocks))
        with self._seeing(None if mask is None else mask.visible):
            found = self.net.forward_intermediates(self.normalize(x), indices=num, **options)
        norm = self.net.norm  # here and not by timm: blocks in bf16 hand on bf16, and the norm is of fp32
        pairs = [reversed(pair) if isinstance(pair, tuple) else (pair[:, :0], pair) for pair in found]
        return [Tokens(*(norm(tokens.float()) for tokens in pair)) for pair in pairs]

    @property
    def windowable(self) -> bool:
        return isinstance(self.net, VisionTransformer)

    @property
    def input_size(self) -> tuple[int, ...]:
        return tuple(self.net.patch_embed.img_size)

    def _maps(self, x: Float[Tensor, "b c h w"], layers: list[int], norm: bool) -> list[Float[Tensor, "b _ _ _"]]:
        rows, columns = (int(side) // unit for side, unit in zip(x.shape[2:], self.grid.unit))
        depths = sorted(set(layers))
        options = {"indices": depths, "norm": False, "output_fmt": "NLC", "intermediates_only": True}
        with self._seeing(None, (rows, columns)), self._sized(x, (rows, columns)) as tables:
            found = intermediates(self.net, x, tables, stop_early=True, **options)
        tokens = (tokens.float() for tokens in found)  # blocks in bf16 hand on bf16
        maps = [(self.net.norm(t) if norm else t).unflatten(1, (rows, columns)).permute(0, 3, 1, 2) for t in tokens]
        return [maps[depths.index(number)] for number in layers]

    @contextmanager
    def _sized(self, x: Float[Tensor, "b c h w"], shape: tuple[int, int]) -> Iterator[dict[str, Tensor]]:
        """Lends timm's net to images of another size; gives the tables to use in the place of its own."""
        net, own, size = self.net, self.input_size, tuple(int(side) for side in x.shape[2:])
        if size == own:
            yield {}
            return
        tables, rope = {}, getattr(net, "rope", None)
        if net.pos_embed is not None:
            prefix = net.pos_embed.shape[1] - self.grid.num_units
            tables["pos_embed"] = resampled(net.pos_embed, self.grid.shape, shape, prefix)
        net.patch_embed.set_input_size(size)
        try:
            if rope is not None:
                net.rope = self._rope(rope, shape)
            yield tables
        finally:
            net.patch_embed.set_input_size(own)
            if rope is not None:
                net.rope = rope

    def _rope(self, own: Any, shape: tuple[int, int]) -> Any:
        """Rotary positions for another grid, remembered: they are functions of the grid, but for learned frequencies,
        which are those of the net."""
        if not hasattr(own, "update_feat_shape"):  # timm: it takes the grid from the patches
            return own
        key = shape, *((b.device, b.dtype) for b in own.buffers())
        if key not in self._ropes:
            with torch.inference_mode(False), torch.no_grad():  # made here, it may be used in training later
                sized = copy.deepcopy(own)
                sized.update_feat_shape(shape)
            if len(self._ropes) >= MOST_SIZES:
                self._ropes.pop(next(iter(self._ropes)))
            self._ropes[key] = sized
        sized = self._ropes[key].train(own.training)
        for name, parameter in own.named_parameters(recurse=False):
            setattr(sized, name, parameter)
        return sized

    @contextmanager
    def _seeing(self, visible: Tensor | None, shape: tuple[int, ...] | None = None) -> Iterator[None]:
        """A failed masked call must not leave the next, unmasked one masked."""
        if visible is not None:
            self.require_masks()
        try:
            self.net.patch_drop.index = visible
            if self.windows:
                self.windows.see(visible, shape)
            yield
        finally:
            self.net.patch_drop.index = self._blanking = None
            if self.windows:
                self.windows.see(None)

    def take_norm(self) -> None:
        self.net.norm = nn.Identity()

    def _blank(self, module: nn.Module, args: Any, tokens: Tensor) -> Tensor:
        if self._blanking is None:
            return tokens
        hidden, fill = self._blanking
        flat, at = tokens.flatten(1, -2), hidden[..., None].expand(-1, -1, self.dim)
        return flat.scatter(1, at, fill.to(flat.dtype).expand(at.shape)).view(tokens.shape)


class _Keep(nn.Module):
    """Fills timm's patch_drop slot: keeps the units in `index`, or all of them."""

    def __init__(self, num_prefix: int, returns_index: bool):
        super().__init__()
        self.num_prefix, self.returns_index, self.index = num_prefix, returns_index, None

    def forward(self, tokens: Float[Tensor, "b t d"]) -> Any:
        if self.index is not None:
            prefix, units = tokens[:, : self.num_prefix], tokens[:, self.num_prefix :]
            tokens = torch.cat([prefix, take(units, self.index)], dim=1)
        return (tokens, self.index) if self.returns_index else tokens


def _create(model: str, arguments: dict[str, Any], pretrained: bool) -> Any:
    size, patch = arguments.get("img_size"), arguments.get("patch_size")
    if size and patch and any(s % patch for s in size):
        near = tuple(max(1, round(s / patch)) * patch for s in size)
        raise UserError(f"image size {size} is no multiple of patch size {patch}; the nearest is {near}")
    try:
        return timm.create_model(model, pretrained=pretrained, **arguments)
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"timm cannot build {model}: {error}. Options given: {arguments}") from error


def _family(name: str) -> str:
    return timm.model_entrypoint(name).__module__.rsplit(".", 1)[-1]


def _fill_position(table: nn.Parameter, grid: Grid) -> None:
    """Writes MAE's fixed table; rows of class and register tokens, where the model has them, are zero."""
    with torch.no_grad():
        table.zero_()
        table[0, table.shape[1] - grid.num_units :] = sincos(grid, table.shape[2])
