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
        """Accepts whatever can be traced: all but a detector's proposals, whose number differs from image to image."""
        if not subject.detector:
            return ""
        return (
            "torch_export: torch cannot trace a detector's proposals; its encoder and pyramid are written. onnx has all"
        )

    def write(self, subject: Exportable, folder: Path) -> None:
        """Writes one file with float32 weights."""
        torch.export.save(_part(subject).program, folder / FILE)

    def open(self, subject: Exportable, folder: Path) -> list[Opened]:
        """Loads the file and calls it as a module."""
        module, part = torch.export.load(folder / FILE).module(), _part(subject)

        @torch.no_grad()
        def call(raw: Tensor) -> Outputs:
            return dict(zip(part.outputs, module(part.given(raw))))

        return [Opened(folder / FILE, call, timed=True, subject=part)]

    def how(self, subject: Exportable, folder: str) -> str:
        """Needs torch only."""
        names = ", ".join(_part(subject).outputs)
        use = 'model(torch.from_numpy(prepare("image.jpg")))'
        return f'import torch\n\nmodel = torch.export.load("{folder}/{FILE}").module()\n{names} = {use}'


def _part(subject: Exportable) -> Exportable:
    """The model that is written: the whole one, or the backbone of a detector."""
    return backbone_of(subject) if subject.detector else subject
