"""timm: a folder like timm's own hub repositories, which `timm.create_model` and transformers' wrapper open offline."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.export.exportable import Exportable, Format, Opened, Outputs
from unmask.export.timm_repository import why_not_timm, write_repository
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder

__all__ = ["Timm"]


class Timm(Format):
    library = "timm"

    def refuse(self, subject: Exportable) -> str:
        if kind := subject.dense():
            raise UserError(f"--to timm: timm has no {kind}s of this kind; what works: onnx, torch_export")
        assert isinstance(subject.model, Encoder | Classifier)
        why = why_not_timm(subject.model)
        if why:
            name = subject.encoder.arguments["model_name"]
            what = "classifier" if subject.classifier else "encoder"
            raise UserError(f"--to timm: timm's {name} cannot hold this {what}: {why}; what works: onnx, torch_export")
        return ""

    def write(self, subject: Exportable, folder: Path) -> None:
        """Writes config.json and model.safetensors."""
        assert isinstance(subject.model, Encoder | Classifier)  # `refuse` lets no other through
        write_repository(subject.model, folder)

    def open(self, subject: Exportable, folder: Path) -> list[Opened]:
        """Opens with timm's factory; normalises with the mean and std that timm reads from the folder."""
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        own = model.pretrained_cfg
        mean, std = (torch.tensor(own[name]).view(-1, 1, 1) for name in ("mean", "std"))

        @torch.no_grad()
        def call(raw: Tensor) -> Outputs:
            x = (raw / 255 - mean) / std
            if subject.classifier:
                return {"logits": model(x)}
            if subject.encoder.staged:
                return {"features": model(x)}
            tokens = model.forward_features(x)
            if hasattr(model, "mask_spatial_shape"):  # Hiera keeps its last norm in the head
                tokens = model.head.norm(tokens)
            prefix = getattr(model, "num_prefix_tokens", 0)
            outputs = {"patch_tokens": tokens[:, prefix:], "features": tokens[:, prefix:].mean(dim=1)}
            return outputs | ({"class_token": tokens[:, 0]} if "class_token" in subject.outputs else {})

        return [Opened(folder / "model.safetensors", call)]

    def how(self, subject: Exportable, folder: str) -> str:
        """Asks for pretrained weights, since timm reads them only then."""
        gives = (
            "logits = model(pixels)  # b classes"
            if subject.classifier
            else "features = model(pixels)  # b d"
            if subject.encoder.staged
            else "tokens = model.forward_features(pixels)  # b n d"
        )
        return (
            "import timm\nimport torch\n\n"
            f'model = timm.create_model("local-dir:{folder}", pretrained=True).eval()\n'
            'pixels = torch.from_numpy(prepare("image.jpg"))\n'
            f"{gives}"
        )
