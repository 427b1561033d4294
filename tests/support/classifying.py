"""Small classifiers and batches for them."""

import torch

from support.small import sheet_of
from unmask.models.classifier import Classifier
from unmask.models.encoder import create_encoder
from unmask.planning.plan import Plan
from unmask.runtime.machine import Machine
from unmask.tasks.classification.objective import Classify
from unmask.tasks.classification.plan import plan_transfer

CLASSES = ["a", "b", "c"]
SHEET = sheet_of(share_extreme=0.1, bits={"8": 9}, value_range=(0.0, 255.0))
CPU = Machine("cpu", "a CPU", 2, 2**34, "32", "")
TINY = "vit_tiny_patch16_224(depth=4, embed_dim=24, num_heads=2)"


def vit(model=TINY, size=32, patch=8):
    torch.manual_seed(0)
    return create_encoder(model, image_size=(size, size), patch_size=patch, mean=(100.0,) * 3, std=(50.0,) * 3)


def task(encoder=None, pooling="mean", norm="layer", classes=CLASSES, multi_label=False, **options):
    torch.manual_seed(1)
    encoder = vit() if encoder is None else encoder
    return Classify(Classifier(encoder, classes, pooling=pooling, norm=norm, multi_label=multi_label), **options)


def batch(count=6, size=32, seed=0):
    chance = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (count, 3, size, size), generator=chance).byte()
    return {"views": [x], "label": torch.arange(count) % 3, "index": torch.arange(count)}


def settings(encoder, count=100, scratch=False, **given):
    plan = Plan({"device": "cpu", "precision": "32", "seed": 0, "flip": "auto", "balanced": "auto"} | given)
    return plan_transfer(plan, count, encoder, scratch, SHEET, CPU)


def layer(name, depth):
    """The published rule, written down once more: where a parameter of a classifier lies."""
    parts = name.split(".")
    if parts[:2] != ["classifier", "encoder"]:
        return depth + 1
    if parts[3] == "blocks":
        return int(parts[4]) + 1
    return 0 if parts[3] in ("cls_token", "pos_embed", "patch_embed", "reg_token") else depth + 1


def names(*starts):
    encoder = vit()
    return {f"encoder.net.{n}" for n, _ in encoder.net.named_parameters() if n.startswith(starts)}
