"""Models to export, and what their files give."""

import torch

import unmask
from unmask import registry
from unmask.export.check import compare
from unmask.export.exportable import Exportable
from unmask.models.encoder import create_encoder

ALL = ("timm", "hf", "onnx", "torch_export")
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 55.0, 50.0)


def subject(model, raw, **options):
    return Exportable(model.eval(), {}, raw, **options)


def checked(name, model, raw, folder, **options):
    """One format written, opened again and compared; the differences by file."""
    what, part = subject(model, raw, **options), registry.find("export", name)()
    remark = part.refuse(what)
    folder = folder / name
    folder.mkdir()
    part.write(what, folder)
    return remark, {opened.path.name: compare(what, opened, name) for opened in part.open(what, folder)}


def tiny(model="vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)", **options):
    torch.manual_seed(0)
    return create_encoder(model, **({"image_size": (32, 32), "patch_size": 8, "mean": MEAN, "std": STD} | options))


def features(run, raw):
    with torch.no_grad():
        return unmask.load(run.path)(raw)


def normalized(run, raw):
    mean, std = (torch.tensor(getattr(run.config.data, name)).view(-1, 1, 1) for name in ("mean", "std"))
    return (raw - mean) / std
