"""The contract between the training loop and a method or task: a batch in, a loss out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.data.batch import Batch
from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder


class Objective(nn.Module, ABC):
    encoder: Encoder  # what is trained and kept
    num_views: int = 1  # augmented views of each sample that `forward` expects in batch["views"]

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns {"loss": scalar} and any other scalars worth logging."""

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Runs once before the first step of a new run, on the CPU, to compute statistics of the data. `batches` are a
        few, always the same ones for a run; results belong in buffers. Most objectives do nothing here.
        """

    def before_step(self, step: int) -> None:
        """Runs before each optimizer step 0, 1, ..., for changes during training. It must depend on `step` only, so
        that a resumed run is the same."""

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        """Runs after each optimizer step, e.g. to move a teacher; `progress` goes from 0 to 1.

        good: a 0-dim bool on the device, False if the update was skipped, so that a teacher must not move either.
        Multiply by it or use `torch.where`: reading it makes the host wait for the device. None: the update was made.
        """

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """How the optimizer treats a parameter: a factor on its learning rate, and whether weight decay applies.

        By default as in MAE's pretraining: matrices and tokens decay, one-dimensional parameters do not.
        """
        return 1.0, parameter.ndim >= 2

    def context(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of trivial predictors on this batch, for comparison; empty where none apply."""
        return {}


class Task(Objective):
    """An objective that trains an encoder and a head with labels, and returns a model."""

    prefix: str  # of the names of the encoder's parameters
    undecayed: tuple[str, ...] = ("pos_embed", "cls_token", "reg_token")  # suffixes of names of non-matrices
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

    @abstractmethod
    def rebuild(self, x: Shaped[Tensor, "b c *size"], mask: Mask, leak: bool = False) -> Float[Tensor, "b c *size"]:
        """The input with its hidden units replaced by predictions, in raw pixel values; visible units are copied.

        `leak=True` may use true values of hidden units, such as their mean: label such images as leaking.
        """
