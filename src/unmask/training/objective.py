"""The contract between the training loop and a method or task: a batch in, a loss out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Generator, Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.captions.tokenizer import CaptionSettings
from unmask.data.sheet import Sheet
from unmask.masking.mask import Context, Mask
from unmask.models.encoder import Encoder
from unmask.runtime.machine import Machine

FREQUENCIES = "rope.freqs"  # how timm's learned rotary frequencies are called


@dataclass(frozen=True)
class Symptom:
    """A known failure of a method, and its remedy: the log and `doctor` look for it."""

    scalar: str  # one of the numbers that `forward` returns
    below: float | None = None  # it fails where the number falls below this ...
    above: float | None = None  # ... or rises above this
    says: str = ""  # what has happened
    remedy: str = ""

    def shows(self, value: float) -> bool:
        """True for a value that means failure."""
        return (self.below is not None and value < self.below) or (self.above is not None and value > self.above)


@dataclass(frozen=True)
class Stage:
    """One of several trainings in a row: a run of its own, which hands its folder on to the training after it."""

    method: str  # its registry text
    share: float  # of the whole budget
    says: str = ""  # what it is for
    option: str = "init"  # what the next training takes the folder for: "init", or an option of its method
    alike: bool = False  # what the user says of the method, such as --mask and --lr, holds for it too


class Objective(nn.Module, ABC):
    """What a method or task is, and what it needs: nothing else knows a method by its name."""

    encoder: Encoder  # what is trained
    views: Sequence[str] = ("crops",)  # transforms that make batch["views"], as registry texts
    divisible: bool = True  # the loss of a batch is the mean over its parts; not where samples are compared
    least: int = 1  # images that a batch must hold; a loss that compares images says nothing about one
    clip_each: bool = False  # gradients are clipped tensor by tensor, instead of all together
    symptoms: Sequence[Symptom] = ()
    words: Mapping[str, str] = MappingProxyType({})  # what reports call the loss and other scalars
    scheduled: Mapping[str, float] = MappingProxyType({})  # this step's values of `schedules`, set by the loop
    progress: float = 1.0  # share of the training before this step, set by the loop; a trained one is drawn at its end

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns {"loss": scalar} and any other scalars worth logging."""

    @property
    def kept(self) -> Encoder:
        """The encoder that is exported and judged: the trained one, or its teacher."""
        return self.encoder

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """Options that the method chooses otherwise than MAE where the user left them open, each with its reason.

        Any of: mask, target, decoder, batch, lr, blr (rate per 256 images), weight_decay, warmup (epochs), crop, clip,
        epochs, betas, floor; or an option of the method itself.
        """
        return {}

    @classmethod
    def defaults_of(
        cls, options: Mapping[str, object], encoder: Encoder, sheet: Sheet, machine: Machine
    ) -> Mapping[str, Choice]:
        """`defaults` of a method whose options, as written in its text, change them."""
        return cls.defaults(encoder, sheet, machine)

    @classmethod
    def captions(cls, options: Mapping[str, object]) -> CaptionSettings | None:
        """What a method that learns from captions needs to know of them: each batch then has "tokens", a caption of
        each sample, with zeros where there is none. options: those written in the method's text."""
        return None

    def schedules(self, progress: float) -> Mapping[str, float]:
        """Numbers that change during training, at a progress from 0 to 1. The loop applies "weight_decay"; all are in
        `scheduled`."""
        return {}

    @classmethod
    def stages(cls, options: Mapping[str, object]) -> Sequence[Stage]:
        """Trainings that come before this one, in order; usually none. options: those written in the method's text.

        Until the stages have run, the method is built without what they make, to be planned and measured.
        """
        return ()

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Runs once before the first step of a new run, on the CPU, to compute statistics of the data. `batches` are a
        few, always the same ones for a run; results belong in buffers. Most objectives do nothing here.
        """

    def before_step(self, step: int) -> None:
        """Runs before each optimizer step 0, 1, ..., for changes during training. It must depend on `step` only, so
        that a resumed run is the same."""

    def before_update(self, step: int, progress: float) -> None:
        """Runs after the backward pass and before gradients are clipped, e.g. to drop some of them."""

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        """Runs after each optimizer step, e.g. to move a teacher; `progress` goes from 0 to 1.

        good: a 0-dim bool on the device, False if the update was skipped, so that a teacher must not move either.
        Multiply by it or use `torch.where`: reading it makes the host wait for the device. None: the update was made.
        """

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """How the optimizer treats a parameter: a factor on its learning rate, and whether weight decay applies.

        By default as in MAE's pretraining: matrices and tokens decay, one-dimensional parameters do not; nor do learned
        frequencies of rotary positions, which decay would move towards no position at all.
        """
        return 1.0, parameter.ndim >= 2 and not name.endswith(FREQUENCIES)

    def context(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of trivial predictors on this batch, for comparison; empty where none apply."""
        return {}


class Comparing(Objective):
    """An objective whose loss compares the samples of a batch: it cannot be worked off in independent parts.

    It is split in two, so that parts of a batch can share one loss: `embed` treats every sample alone, `compare` sees
    all of them. With `--grad-cache` the loop embeds the parts without gradients, takes the gradient of the loss for
    all embeddings, and embeds them again (GradCache, Gao et al. 2021): the gradient of the whole batch, to rounding.
    """

    divisible = False
    least = 2

    @abstractmethod
    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """What the loss needs of each sample; the first axis is the sample. Batch statistics belong into `compare`."""

    @abstractmethod
    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss and other scalars of all samples together."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss; with batch["embed"] only the embeddings, with batch["embeddings"] the loss of these."""
        if "embeddings" in batch:
            return self.compare(cast(dict[str, Tensor], batch["embeddings"]))
        embeddings = self.embed(batch)
        return embeddings if batch.get("embed") else self.compare(embeddings)


class Task(Objective):
    """An objective that trains an encoder and a head with labels, and returns a model."""

    prefix: str  # of the names of the encoder's parameters
    undecayed: tuple[str, ...] = (
        "pos_embed",
        "cls_token",
        "reg_token",
        FREQUENCIES,
    )  # suffixes of names of non-matrices
    layer_decay: float = 1.0  # factor on the learning rate from each layer to the one before
    frozen: bool = False  # the encoder is not trained

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """Layer decay by depth; no weight decay on positions, tokens and one-dimensional parameters, as in MAE's own
        code."""
        inside = name.startswith(self.prefix)
        depth = self.encoder.depth_of(name.removeprefix(self.prefix)) if inside else self.encoder.num_blocks + 1
        scale = self.layer_decay ** (self.encoder.num_blocks + 1 - depth)
        return scale, parameter.ndim >= 2 and not name.endswith(self.undecayed)

    def train(self, mode: bool = True) -> "Task":
        """A frozen encoder stays in eval mode, so that drop path cannot disturb its features."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    @property
    @abstractmethod
    def encoder(self) -> Encoder:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The encoder in training, which lies inside the model."""

    @property
    @abstractmethod
    def result(self) -> nn.Module:
        """The model to keep."""


class Rebuilder(Objective):
    """An objective whose reconstructions can be drawn, by `unmask show`, panels and filmstrips."""

    mask: Any  # a mask sampler
    target: Any

    @property
    def drawable(self) -> bool:
        """False where what is predicted cannot be turned into pixels."""
        return getattr(self.target, "drawable", True)

    @property
    def undrawn(self) -> str:
        """What is predicted instead of pixels, where it is not drawable; "" where nobody says."""
        return getattr(getattr(self, "target", None), "undrawn", "")

    def predict(self, x: Shaped[Tensor, "b c *size"], mask: Mask) -> Float[Tensor, "b h p"]:
        """Predicted targets of the hidden units, in the order of `mask.hidden`; for those that do not define `rebuild`
        themselves."""
        raise NotImplementedError(f"{type(self).__name__} must define predict or rebuild")

    def told(self, x: Shaped[Tensor, "b c *size"]) -> Context:
        """What the sampler is told of raw samples whose masks it draws."""
        return self.with_gaps(x, Context(progress=self.progress))

    def with_gaps(self, x: Shaped[Tensor, "b c *size"], told: Context) -> Context:
        """The same, with the units that hold no value, if there may be such."""
        return {**told, "empty": self.empty_units(x)} if self.encoder.gaps else told

    def empty_units(self, x: Shaped[Tensor, "b c *size"]) -> Bool[Tensor, "b n"]:
        """True where no value of a unit is finite."""
        return self.encoder.grid_of(x).cut(self.encoder.values(x).isnan()).all(dim=2)

    def draw(self, batch: Batch, generator: Generator | None = None) -> Mask:
        """The batch's own mask if it has one, otherwise a new one."""
        (x,) = batch["views"]
        if "mask" in batch:
            return batch["mask"]
        return self.mask(len(x), self.encoder.grid_of(x), x.device, generator, batch.get("rows"), self.told(x))

    @torch.no_grad()
    def rebuild(self, x: Shaped[Tensor, "b c *size"], mask: Mask, leak: bool = False) -> Float[Tensor, "b c *size"]:
        """The input with its hidden units replaced by predictions, in raw pixel values; visible units are copied.

        `leak=True` may use true values of hidden units, such as their mean and deviation (see `Pixels.to_pixels`):
        label such images as leaking.
        """
        normalized, grid = self.encoder.normalize(x), self.encoder.grid_of(x)
        pixels = self.target.to_pixels(self.predict(x, mask).float(), normalized, mask, leak)
        units = grid.cut(normalized)
        units = units.scatter(1, mask.hidden[..., None].expand_as(pixels), pixels)
        shape = (-1, *(1,) * (x.ndim - 2))
        values = grid.join(units) * self.encoder.std.view(shape) + self.encoder.mean.view(shape)
        return torch.cat([values, x[:, values.shape[1] :].float()], dim=1) if self.encoder.planes else values


def drawn_by(objective: nn.Module) -> Rebuilder | None:
    """The objective, if its reconstructions can be drawn."""
    return objective if isinstance(objective, Rebuilder) and objective.drawable else None
