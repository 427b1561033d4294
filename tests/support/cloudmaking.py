"""Small clouds with labelled points: a table of a top and a leg, in every size and turned about its upright axis."""

from pathlib import Path

import numpy as np
import torch

from unmask.data.codecs.clouds.ply import write_ply
from unmask.models.encoder import create_encoder

NAMES = ["top", "leg"]
TEXT = "points(points=64, neighbours=8, features=(), turn='z')"
VOXELS = "points(points=64, neighbours=8, features=(), turn='z', units='voxels', resolution=16)"


def table(seed: int, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Points n 3, float32, in no order; and labels: 0 top, 1 leg."""
    chance = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(np.int64)
    angle, radius = chance.uniform(0, 2 * np.pi, count), np.sqrt(chance.uniform(0, 1, count))
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(count, 1.0)], axis=1)
    points[labels == 1] *= 0.1
    points[labels == 1, 2] = chance.uniform(-1, 1, int(labels.sum()))
    points *= chance.uniform(0.7, 1.3, 3) * 10
    order = chance.permutation(count)
    return (points + chance.normal(0, 0.05, points.shape))[order].astype(np.float32), labels[order]


def write_table(path: Path, seed: int, count: int = 80, labels: np.ndarray | None = None, name: str = "label") -> Path:
    """A PLY file; its own labels are those of the table unless others are given. name: "" for no labels."""
    points, own = table(seed, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {axis: points[:, place] for place, axis in enumerate("xyz")}
    if name:
        columns[name] = (own if labels is None else labels).astype(np.int32)
    write_ply(path, columns)
    return path


def write_tables(root: Path, count: int, split: str = "", first: int = 0, **options) -> Path:
    """Files 000.ply ... below `root`."""
    for number in range(first, first + count):
        write_table(root / split / f"{number:03d}.ply", number, **options)
    return root


def cloud_encoder(voxels: bool = False, depth: int = 4, groups: int = 16):
    """For clouds of TEXT or VOXELS."""
    torch.manual_seed(0)
    size, patch, channels = ((16, 16, 16), (8, 8, 8), 1) if voxels else ((8 * groups,), (8,), 3)
    return create_encoder(
        f"vit_tiny_patch16_224(depth={depth}, embed_dim=24, num_heads=2)",
        image_size=size,
        patch_size=patch,
        channels=channels,
        modality=VOXELS if voxels else TEXT,
        placed=not voxels,
    ).eval()
