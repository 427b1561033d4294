"""The model to export, and what a format does: it writes files, and opens them again as users would.

Formats are parts in `formats/`. Nothing counts as exported until its outputs were compared with the model's own.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.files import Json
from unmask.masking.mask import Mask, num_hidden
from unmask.models.classifier import Classifier
from unmask.models.detector import Backbone, Detector
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.training.objective import Rebuilder

Outputs = dict[str, Tensor]  # by name; the batch comes first, except for a loss
Trained = Encoder | Classifier | Segmenter | Detector
Model = Trained | Backbone  # the last: what a detector is exported as, too
EXACT = 1e-4  # share of the largest value by which the same float32 sums, done in another order, may differ


@dataclass(frozen=True)
class Exportable:
    """A model in eval mode on the CPU, with what its formats need to know."""

    model: Model
    config: Json  # the run's config.json
    images: Float[Tensor, "b c *size"]  # real ones, raw, sized for the model
    objective: Rebuilder | None = None  # the whole of a pretraining run, with its decoder
    normalize: str = "inside"  # of ONNX and torch.export files: take raw pixels, or normalised ones
    precision: tuple[str, ...] = ("fp32",)  # of ONNX files
    quantize: str = "dynamic"  # of int8 ONNX files, or "static"
    seed: int = 0  # of masks

    @property
    def encoder(self) -> Encoder:
        return encoder_of(self.model)

    @property
    def classifier(self) -> Classifier | None:
        return self.model if isinstance(self.model, Classifier) else None

    @cached_property
    def traceable(self) -> "Traceable":
        """The model as a function of one tensor, with the normalisation that was asked for."""
        model = copy.deepcopy(self.model)
        make_traceable(encoder_of(model), self.normalize)
        return Traceable(model).eval()

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The traced model; any number of images from 1 on, of one size: position tables are constants."""
        batch = torch.export.Dim("batch", min=1)
        blank = torch.zeros_like(self.images[:2])  # an exported program keeps its example: no image of the data
        with torch.no_grad():
            self.traceable(blank)  # makes the position table for this size: a constant of what is recorded
            program = torch.export.export(self.traceable, (blank,), dynamic_shapes={"pixels": {0: batch}})
        for module in program.graph_module.modules():
            for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
                node.meta.pop("stack_trace", None)  # lines of source files, with the paths of this machine
        return program

    def given(self, raw: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
        """The input that the traced model expects for these raw pixels."""
        return raw if self.normalize == "inside" else self.encoder.normalize(raw)

    def noise(self, batch: int) -> Float[Tensor, "b n"]:
        """Random scores that decide the mask; the lowest are visible. The same for the same batch size."""
        return torch.rand(batch, self.encoder.grid.num_units, generator=torch.Generator().manual_seed(self.seed))

    @torch.no_grad()
    def reference(self, raw: Float[Tensor, "b c *size"]) -> Outputs:
        """The outputs that every exported file has to reproduce, as far as it has them."""
        outputs = dict(zip(self.outputs, Traceable(self.model)(raw)))
        if self.objective is not None:
            order = self.noise(len(raw)).argsort(dim=1)
            num_visible = order.shape[1] - num_hidden(order.shape[1], self.objective.mask.ratio)
            mask = Mask(order[:, :num_visible], order[:, num_visible:])
            outputs["loss"] = self.objective({"views": [raw], "mask": mask})["loss"]
        return outputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the traced model's outputs."""
        return self.model.outputs

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of the input, in pixels."""
        return tuple(self.images.shape[2:])

    @property
    def detector(self) -> Detector | None:
        return self.model if isinstance(self.model, Detector) else None

    def dense(self) -> str:
        """ "segmenter" or "detector" for a model whose head makes maps or boxes; else nothing."""
        return "" if isinstance(self.model, Encoder | Classifier) else "detector" if self.detector else "segmenter"

    def trials(self) -> list[Float[Tensor, "b c *size"]]:
        """Batches to compare on: all images, then the first alone. A detector is given one image at a time, since the
        number of its objects varies."""
        return list(self.images.split(1)) if self.detector else [self.images, self.images[:1]]


def encoder_of(model: Model) -> Encoder:
    """The encoder inside a model, or itself."""
    return model if isinstance(model, Encoder) else model.encoder


def make_traceable(encoder: Encoder, normalize: str) -> None:
    """Changes an encoder in place: without fused attention, and without normalisation if that stays "outside"."""
    if normalize == "outside":
        encoder.mean.zero_()
        encoder.std.fill_(1.0)
    for part in encoder.modules():
        if hasattr(part, "fused_attn"):  # timm: ONNX has no operator for attention within windows (Hiera)
            vars(part)["fused_attn"] = False


class Traceable(nn.Module):
    """Adapts a model to tracers: one tensor of pixels in, a tuple of tensors out."""

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, pixels: Shaped[Tensor, "b c *size"]) -> tuple[Tensor, ...]:
        """Calls the model's `traced`."""
        return self.model.traced(pixels)


@dataclass(frozen=True)
class Opened:
    """A file or folder that was just written, opened as its users will open it."""

    path: Path
    call: Callable[[Tensor], Outputs]  # raw images b c h w, float32 -> some of the reference's outputs
    tolerance: float = EXACT  # share of the reference's largest value
    timed: bool = False  # worth a measurement of its speed
    remedy: str = ""  # what a user may try if it is not equal
    optional: bool = False  # left out where it is not equal, while the other files of the format are kept
    refuse: Callable[[], None] | None = None  # raises Unequal for a file that is wrong whatever it gives here
    subject: Exportable | None = None  # what it must equal, if it is a part of the model only


class Format(ABC):
    """A file format for exported models."""

    needs: ClassVar[tuple[str, ...]] = ()  # optional libraries that must be importable
    library: ClassVar[str] = "pytorch"  # that opens it, as model hubs call it

    @abstractmethod
    def refuse(self, subject: Exportable) -> str:
        """Raises UserError if this format cannot hold the model, with the reason and a format that can. Otherwise
        returns a remark for the user, empty if there is none."""

    @abstractmethod
    def write(self, subject: Exportable, folder: Path) -> None:
        """Writes the files into an empty folder."""

    @abstractmethod
    def open(self, subject: Exportable, folder: Path) -> list[Opened]:
        """Opens each written file again, offline."""

    @abstractmethod
    def how(self, subject: Exportable, folder: str) -> str:
        """Python code that opens the files, for the model card."""
