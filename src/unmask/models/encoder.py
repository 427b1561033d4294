"""The contract of encoders: raw samples in, tokens of the visible units out; without a mask, tokens of all units."""

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from timm.layers import set_fused_attn
from torch import Tensor, nn
from torch.nn.functional import pad

from unmask import registry
from unmask.errors import UserError
from unmask.files import Json
from unmask.masking.grid import Grid, Part
from unmask.masking.mask import Mask
from unmask.models.names import LOADING, require_model
from unmask.models.sizes import require_sizes
from unmask.runtime.machine import fused_attention


class Tokens(NamedTuple):
    prefix: Float[Tensor, "b p d"]  # class and register tokens; p may be 0
    units: Float[Tensor, "b m d"]  # one per unit, in the order of the mask's visible units, or reading order without

    @property
    def pooled(self) -> Float[Tensor, "b d"]:
        """One vector per sample: the first class token if there is one, else the mean over units."""
        return self.prefix[:, 0] if self.prefix.shape[1] else self.units.mean(dim=1)


class LearntPool(NamedTuple):
    """A pooling of unit tokens that was learnt on top of a frozen encoder, and is none of its weights."""

    pool: Callable[[Tensor], Tensor]  # b n d -> b d
    digest: str  # of its own weights


class Encoder(nn.Module, ABC):
    """Parts in `encoders/` define `net`, `grid`, `dim`, `channels`, `arguments` and `forward`. Normalisation is part of
    the encoder (two buffers), so that raw pixels can go to the device unchanged."""

    net: Any  # the timm model, an nn.Module; Any, since attributes differ by family
    mean: Tensor  # c, raw units
    std: Tensor
    grid: Grid  # of the inputs it was built for; for others see `grid_of`
    dim: int  # width of a token
    channels: int  # of the input
    arguments: Json  # arguments of timm.create_model that rebuild `net`, "model_name" included
    own: Mapping[str, Any] = MappingProxyType({})  # options that are not timm's, such as window
    staged: bool = False  # it sees whole images, and `seen` gives a map of every stage
    class_tokens: int = 1  # of the prefix tokens, where there is a class token
    modality: str = "image"  # what its inputs are, as text of the registry
    ordered: bool = False  # has `attending`
    blanks: bool = True  # hidden units can be kept with `fill` in their place
    planes: int = 0  # channels at the end of an input that are no values, but told of each sample as a whole
    gaps: bool = False  # inputs may hold NaN, where there is no value: it becomes the mean
    classifier: Callable[[], Any] | None = None  # opens the classifier that was trained from it, if there is one
    learnt_pool: LearntPool | None = None  # that `evaluate` trained for it

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        """mean, std: one per channel, in raw units (0..255 for 8-bit images)."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    @property
    def statistics(self) -> tuple[list[float], list[float]]:
        """Mean and std per channel by which samples are normalised, raw units."""
        return self.mean.tolist(), self.std.tolist()

    def normalize(self, x: Shaped[Tensor, "b _ *size"], fill: bool = True) -> Float[Tensor, "b c *size"]:
        """Raw samples of zero mean and unit variance per channel: what MAE predicts. fill: put the mean into gaps."""
        if x.shape[1] != len(self.mean) + self.planes:
            raise UserError(f"the encoder takes {len(self.mean) + self.planes} channels, the input has {x.shape[1]}")
        shape = (-1, *(1,) * (x.ndim - 2))
        x = (self.values(x).float() - self.mean.view(shape)) / self.std.view(shape)
        return x.nan_to_num(nan=0.0) if self.gaps and fill else x

    def values(self, x: Shaped[Tensor, "b _ *size"]) -> Shaped[Tensor, "b c *size"]:
        """The channels of raw samples that hold values."""
        return x[:, : len(self.mean)] if self.planes else x

    def prepared(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """What the network takes of raw samples: normalised values, and what is told besides as it is."""
        values = self.normalize(x)
        return torch.cat([values, x[:, len(self.mean) :].float()], dim=1) if self.planes else values

    def normalize_units(self, units: Shaped[Tensor, "b m p"]) -> Float[Tensor, "b m p"]:
        """`normalize` for units that `Grid.cut` makes of all channels: the same, for units that are needed only."""
        pixels = units.unflatten(2, (-1, len(self.mean)))  # the channel is last in a unit
        pixels = (pixels.float() - self.mean) / self.std
        return (pixels.nan_to_num(nan=0.0) if self.gaps else pixels).flatten(2)

    def grid_of(self, x: Shaped[Tensor, "b c *size"]) -> Grid:
        """The grid of an input: the encoder's own at its own size, more or fewer of the same units at another; where
        they differ, with places of units. UserError, with the nearest sizes, for a size of no whole number of units."""
        size = tuple(int(side) for side in x.shape[2:])
        return (self.grid if size == self.input_size else self.grid.covering(size)).of(x)

    @abstractmethod
    def forward(
        self, x: Shaped[Tensor, "b c *size"], mask: Mask | None = None, fill: Float[Tensor, "d"] | None = None
    ) -> Tokens:
        """Tokens of raw samples whose size is a whole number of units; UserError for others. Hidden units are dropped,
        or kept with `fill` in their place (SimMIM, BEiT). Without a mask, every unit is seen and the result is
        deterministic in eval mode. The mask refers to the units of `grid_of(x)`."""

    def attending(self, x: Shaped[Tensor, "b c *size"], allowed: Bool[Tensor, "_ t t"]) -> Tokens:
        """Tokens of all units of raw samples (one, or each), where a token attends to those that `allowed` names in its
        row: prefix tokens, then units in reading order."""
        raise UserError(f"{type(self).__name__} cannot restrict what its tokens attend to; use a ViT")

    def seen(self, x: Shaped[Tensor, "b c *size"], cls: bool = False) -> tuple[Tensor, list[Float[Tensor, "b _ _ _"]]]:
        """A vector b d of each raw image, the mean over its units or the class token, and its maps, in one pass."""
        tokens = self(x)
        maps = [self.grid_of(x).mapped(tokens.units)]
        return self.class_token(tokens) if cls else tokens.units.mean(dim=1), maps

    @abstractmethod
    def layers(self, x: Shaped[Tensor, "b c *size"], last: int, mask: Mask | None = None) -> list[Tokens]:
        """Normalised tokens after each of the last `last` blocks (or stages), the deepest last; only visible units if a
        mask is given. Inputs as for `forward`."""

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Width, and tokens along a side of a unit, at the end of each stage; one stage where none is narrower."""
        return ((self.dim, 1),)

    def fused(self, x: Shaped[Tensor, "b c *size"], mask: Mask, heads: Sequence[nn.Module | None]) -> Tokens:
        """Tokens of visible units of raw samples: of the last stage, plus what each of `heads` makes of the stage
        before it in the same place (None: nothing), normalised. Several for a unit where its last stage has them."""
        raise UserError(f"{type(self).__name__} has no stages of different width; use the decoder full")

    def features(
        self, x: Shaped[Tensor, "b c *size"], layers: Sequence[int] | None = None, norm: bool = False
    ) -> list[Float[Tensor, "b d *grid"]]:
        """Feature maps (of images `b d rows columns`) of raw samples of any size, one for each of `layers`, in the
        order given. layers: numbers of blocks (of stages, for Hiera), from 0, or from -1 backwards; None: the last
        alone. norm: apply the encoder's last norm; detectors and segmenters use the maps without it (ViTDet, UperNet).
        Samples are padded as by `whole`: a map of pixels has ceil(height / stride) rows. The values are those of
        `layers` before its norm.
        """
        return self._maps(self.whole(x), self.layer_numbers(layers), norm)

    def whole(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b c *whole"]:
        """Normalised samples, padded with zeros at the end of each axis to whole units."""
        missing = [n for side, unit in reversed([*zip(x.shape[2:], self.grid.plane.unit)]) for n in (0, -side % unit)]
        x = self.prepared(x)
        return x if tuple(x.shape[2:]) == self.input_size else pad(x, missing)

    def attention(
        self, x: Shaped[Tensor, "b c h w"], block: int = -1, mask: Mask | None = None
    ) -> Float[Tensor, "b heads t t"]:
        """How much each token attends to each other in a block, prefix tokens first; rows sum to 1. Of raw pixels of
        any size, as in `features`; with a mask, of its visible units. Raises UserError where no token sees all units:
        see `layers/attention_maps.py`."""
        raise UserError(f"{type(self).__name__} has no attention maps")

    def _maps(self, x: Float[Tensor, "b c *size"], layers: list[int], norm: bool) -> list[Float[Tensor, "b d *grid"]]:
        """`features` of normalised samples whose size is a whole number of units; layers counted from 0."""
        raise UserError(f"{type(self).__name__} gives no feature maps")

    def feature_dims(self, layers: Sequence[int] | None = None) -> list[int]:
        """Channels of each map that `features` gives for these layers."""
        return [self.dim for _ in self.layer_numbers(layers)]

    def feature_strides(self, layers: Sequence[int] | None = None) -> list[int]:
        """Pixels between neighbouring positions of each map that `features` gives for these layers."""
        if len(set(self.grid.plane.unit)) > 1:
            raise UserError(f"feature maps of one stride need square units, these are {self.grid.plane.unit}")
        return [self.grid.plane.unit[0] for _ in self.layer_numbers(layers)]

    def layer_numbers(self, layers: Sequence[int] | None) -> list[int]:
        """Layer indices counted from 0. Raises UserError for a layer that does not exist."""
        count = self.num_maps
        for number in layers or ():
            if not -count <= number < count:
                raise UserError(f"there is no layer {number} among the {count} of this encoder: 0 to {count - 1}")
        if layers is not None and not len(layers):
            raise UserError("say of which layers the features are wanted, e.g. layers=(-1,)")
        return [count - 1] if layers is None else [number % count for number in layers]

    @property
    def num_maps(self) -> int:
        """Number of layers that `features` offers: stages for hierarchical networks, blocks for others."""
        return self.num_blocks

    @property
    def input_size(self) -> tuple[int, ...]:
        """Height and width that it was built for. A few timm models see less of an image: their `grid.size`."""
        return self.grid.size

    @property
    def num_layers(self) -> int:
        """Number of deepest layers whose tokens have width `dim`, so that a decoder can mix them."""
        return self.num_blocks

    def predict(self, images: object, batch: int = 64) -> Any:
        """Predictions for images by the classifier that `transfer` trained from this run (`Classifier.predict`);
        UserError if there is none."""
        if self.classifier is None:
            remedy = "make a classifier of its run: unmask transfer RUN --on LABELLED"
            raise UserError(f"an encoder alone names no classes; {remedy}")
        return self.classifier().predict(images, batch)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `traced` gives."""
        has_class = getattr(self.net, "cls_token", None) is not None
        return ("patch_tokens", "features") + (("class_token",) if has_class else ())

    def traced(self, pixels: Shaped[Tensor, "b c *size"]) -> tuple[Tensor, ...]:
        """For exports: normalised patch tokens b n d, their mean b d, and the class token b d where there is one."""
        tokens = self(pixels)
        outputs = tokens.units, tokens.units.mean(dim=1)
        return (*outputs, self.class_token(tokens)) if "class_token" in self.outputs else outputs

    def class_token(self, tokens: Tokens) -> Float[Tensor, "b d"]:
        """The class token, or the mean of the class tokens where there are several; of encoders that have one."""
        return tokens.prefix[:, 0] if self.class_tokens == 1 else tokens.prefix[:, : self.class_tokens].mean(dim=1)

    @property
    def windowable(self) -> bool:
        """True if window=, global_blocks= and relative= are among its options."""
        return False

    def require_masks(self) -> None:
        """Raises UserError where hidden units cannot be left out."""
        if self.own.get("relative"):
            raise UserError("an encoder with relative=True takes no mask: pretrain without it, and add it in transfer")

    def require_order(self, method: str) -> None:
        """Raises UserError where tokens cannot be kept from attending to later ones, as a method needs."""
        if not self.ordered:
            raise UserError(f"{method} lets tokens attend to earlier ones only, which this encoder cannot; use mae")

    def require_blanks(self, method: str) -> None:
        """Raises UserError where hidden units cannot be kept with a token in their place, as a method needs."""
        if not self.blanks:
            raise UserError(f"{method} puts tokens where units are hidden, {type(self).__name__} drops them; use mae")

    def take_norm(self) -> None:
        """Removes the last norm, for a head with its own behind the pooling, as in MAE's fine-tuning."""
        raise UserError(f"{type(self).__name__} cannot give its last norm away")

    @property
    def num_blocks(self) -> int:
        return len(self.net.blocks)

    def depth_of(self, name: str) -> int:
        """Depth of a parameter: 0 for embeddings and tokens, 1..num_blocks for the blocks, one more for what follows
        them: the layers of layer-wise learning-rate decay (Bao et al. 2021, as in MAE's fine-tuning). name: within
        `net` or within the encoder: `net.blocks.3.norm1.weight`, `relative.3.rows` for a table beside it."""
        name = name.removeprefix("net.")
        if block := re.match(r"(?:blocks|relative)\.(\d+)\.", name):
            return int(block[1]) + 1
        return 0 if re.match(self.net.group_matcher()["stem"], name) else self.num_blocks + 1


def create_encoder(
    model: str,
    *,
    image_size: tuple[int, ...] | None = None,  # along each axis, of images height and width; None: the model's own
    patch_size: int | tuple[int, ...] | None = None,  # along all axes, or each; None: the model's own
    channels: int = 3,
    mean: tuple[float, ...] | None = None,  # per channel, raw units; None: 0
    std: tuple[float, ...] | None = None,  # per channel, raw units; None: 1
    pretrained: bool = False,  # load timm's weights, with their own mean and std unless given
    modality: str = "image",  # what the inputs are
    gaps: bool = False,  # as `Encoder.gaps`
    parts: tuple[Part, ...] = (),  # that inputs consist of; see `Grid.parts`
    placed: bool = False,  # units have places of their own, which differ from sample to sample
) -> Encoder:
    """The encoder for a timm model name, `name(depth=6)` with timm options, or a part from outside of the package.
    Raises UserError for an unknown name, or a model that cannot hide units: it says why, and which models can."""
    if (fused := fused_attention()) is not None:
        set_fused_attn(fused)  # for attentions that are built from now on, in decoders and heads too
    (name, options), special = registry.parse(model), {"parts": parts} if parts else {"placed": True} if placed else {}
    shape = {"image_size": image_size, "patch_size": patch_size, "channels": channels, "mean": mean, "std": std}
    for option in LOADING & options.keys():
        raise UserError(f"{option} in {name}(...): where weights come from is said with --init, not in a name")
    require_sizes(name, options, image_size or (), patch_size, channels)
    for part in (registry.find("encoder", part) for part in registry.names("encoder")):
        if part.accepts(name):
            if special.keys() - inspect.signature(part).parameters.keys():
                what = "consist of several parts" if parts else "are clouds of points"
                raise UserError(f"{name} sees images, these inputs {what}: take a ViT, such as vit_*")
            encoder = part(name, pretrained=pretrained, **shape, **special, **options)
            break
    else:
        if not registry.is_given(name):
            require_model(model)
        encoder = registry.build("encoder", model, **shape, **special)
    encoder.modality, encoder.gaps = modality, gaps
    return encoder
