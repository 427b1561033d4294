"""`torch.export`: a traced program that runs without this package or timm, any batch size."""

from pathlib import Path

import torch
from torch import Tensor

from unmask.export.detector_onnx import backbone_of
from unmask.export.exportable import Exportable, Format, Opened, Outputs

__all__ = ["TorchExport"]
FILE = "model.pt2"


class TorchExport(Format):
    def refuse(self, subject: Exportable) -> str:
        """Anything can be traced except a detector's proposals, whose number differs from image to image."""
        if not subject.detector:
            return ""
        return (
            "torch_export: torch cannot trace a detector's proposals; its encoder and pyramid are written. onnx has all"
        )

    def write(self, subject: Exportable, folder: Path) -> None:
        """One file, with float32 weights."""
        torch.export.save(_part(subject).program, folder / FILE)

    def open(self, subject: Exportable, folder: Path) -> list[Opened]:
        """Read from disk, run as a module."""
        module, part = torch.export.load(folder / FILE).module(), _part(subject)

        @torch.no_grad()
        def call(raw: Tensor) -> Outputs:
            return dict(zip(part.outputs, module(part.given(raw))))

        return [Opened(folder / FILE, call, timed=True, subject=part)]

    def how(self, subject: Exportable, folder: str) -> str:
        """Nothing but torch."""
        names = ", ".join(_part(subject).outputs)
        use = 'model(torch.from_numpy(prepare("image.jpg")))'
        return f'import torch\n\nmodel = torch.export.load("{folder}/{FILE}").module()\n{names} = {use}'


def _part(subject: Exportable) -> Exportable:
    """What is written: the whole model, or the backbone of a detector."""
    return backbone_of(subject) if subject.detector else subject
