"""`torch.export`: a traced program that runs without this package or timm, any batch size."""

from pathlib import Path

import torch
from torch import Tensor

from unmask.exportable import Exportable, Format, Opened, Outputs

__all__ = ["TorchExport"]
FILE = "model.pt2"


class TorchExport(Format):
    def refuse(self, subject: Exportable) -> str:
        """Anything can be traced."""
        return ""

    def write(self, subject: Exportable, folder: Path) -> None:
        """One file, with float32 weights."""
        torch.export.save(subject.program, folder / FILE)

    def open(self, subject: Exportable, folder: Path) -> list[Opened]:
        """Read from disk, run as a module."""
        module = torch.export.load(folder / FILE).module()

        @torch.no_grad()
        def call(raw: Tensor) -> Outputs:
            return dict(zip(subject.outputs, module(subject.given(raw))))

        return [Opened(folder / FILE, call, timed=True)]

    def how(self, subject: Exportable, folder: str) -> str:
        """Nothing but torch."""
        names = ", ".join(subject.outputs)
        return f'import torch\n\nmodel = torch.export.load("{folder}/{FILE}").module()\n{names} = model(pixels)'
