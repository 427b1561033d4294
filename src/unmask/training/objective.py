"""What the training loop asks of a method or a task: a batch in, a loss out."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder

# {"views": [x, ...], "index": b}; optional are "label": b, "mask": Mask, and "rows": Rows, which the loop adds
Batch = dict[str, Any]


class Objective(nn.Module, ABC):
    encoder: Encoder  # what is trained and kept
    twins: Mapping[tuple[int, ...], Any] = MappingProxyType({})  # the same built for other sizes, see `resized.py`

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns {"loss": scalar} and any other scalars worth logging."""

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Runs once before the first step of a new run, on the CPU: learns what must be known of the data beforehand.
        `batches` are a few, always the same of a run; what is learned belongs into buffers. Most need to know nothing.
        """

    def before_step(self, step: int) -> None:
        """Runs before each optimizer step 0, 1, ...: for what holds during some of them only. It must depend on nothing
        but `step`, so that a resumed run is the same."""

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        """Runs after each optimizer step, e.g. to move a teacher; `progress` goes from 0 to 1.

        good: a 0-dim bool on the device: False where the update was left out, so that a teacher must not move either.
        Multiply by it or use `torch.where`: a look at it makes the host wait for the device. None: the update was made.
        """

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """What the optimizer does with a parameter: a factor on its learning rate, and whether its weight decays.

        By default as in MAE's pretraining: matrices and tokens decay, one-dimensional parameters do not.
        """
        return 1.0, parameter.ndim >= 2

    def context(self, batch: Batch) -> dict[str, Tensor]:
        """Losses that trivial predictors reach on this batch, so that a loss can be read; empty where none apply."""
        return {}


class Task(Objective):
    """An objective that learns with labels, on an encoder, and ends in a model."""

    prefix: str  # of the names of the encoder's parameters
    undecayed: tuple[str, ...] = ("pos_embed", "cls_token", "reg_token")  # ends of names of what is no matrix
    layer_decay: float = 1.0  # factor on the learning rate from each layer to the one before
    frozen: bool = False  # the encoder is not trained

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """Layer decay by depth; positions, tokens and one-dimensional parameters do not decay, as in MAE's own code."""
        inside = name.startswith(self.prefix)
        depth = self.encoder.depth_of(name.removeprefix(self.prefix)) if inside else self.encoder.num_blocks + 1
        scale = self.layer_decay ** (self.encoder.num_blocks + 1 - depth)
        return scale, parameter.ndim >= 2 and not name.endswith(self.undecayed)

    def train(self, mode: bool = True) -> "Task":
        """A frozen encoder stays in eval mode, so that dropping paths cannot disturb its features."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    @property
    @abstractmethod
    def result(self) -> nn.Module:
        """The model to keep. A fresh one is made by its class method `of_config(encoder, config)`."""


class Rebuilder(Objective):
    """An objective that can draw what it rebuilds: what `unmask show`, panels and filmstrips need."""

    mask: Any  # a mask sampler
    target: Any

    @abstractmethod
    def rebuild(self, x: Shaped[Tensor, "b c *size"], mask: Mask, leak: bool = False) -> Float[Tensor, "b c *size"]:
        """The input with its hidden units replaced by the model's, in raw units; visible units are copied.

        `leak=True` may use what only the hidden units know, such as their true mean: label such images.
        """
