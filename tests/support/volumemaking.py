"""Small volumes with labels: a bright ball and a brighter box in noise."""

from pathlib import Path

import nibabel as nib
import numpy as np

from unmask.data.modality import make_modality
from unmask.models.encoder import create_encoder

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
# stored as left to right, back to front, feet to head and, turned, as back to front, head to feet, right to left
TURNED = np.array([[0, 0, -1.0, 0], [1.0, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1]])


def volume(seed: int, size: tuple[int, int, int] = (16, 18, 14)) -> tuple[np.ndarray, np.ndarray]:
    """Values i j k (to the right, to the front, up; float32), and labels: 0 nothing, 1 ball, 2 box."""
    chance = np.random.default_rng(seed)
    values = chance.normal(100, 5, size).astype(np.float32)
    labels = np.zeros(size, np.uint8)
    i, j, k = np.mgrid[: size[0], : size[1], : size[2]]
    centre = chance.integers(4, 7, 3)
    ball = (i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2 < 9
    first = [int(n) for n in chance.integers(8, [side - 4 for side in size])]
    box = tuple(slice(n, n + 4) for n in first)
    values[ball] += 60
    values[box] += 120
    labels[ball], labels[box] = 1, 2
    return values, labels


def write_volume(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_labelled(root: Path, count: int, split: str = "", first: int = 0, **size) -> Path:
    """images/ and labels/ below `root`, with 000.nii.gz ..."""
    for number in range(first, first + count):
        values, labels = volume(number, **size)
        for folder, array in (("images", values), ("labels", labels)):
            write_volume(root / folder / split / f"{number:03d}.nii.gz", array)
    return root


def turned(array: np.ndarray) -> np.ndarray:
    """An array of AFFINE as it is stored with TURNED."""
    from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

    return apply_orientation(array, ornt_transform(io_orientation(AFFINE), io_orientation(TURNED)))


def volume_encoder(size: tuple[int, int, int] = (8, 8, 8), patch: int = 4, depth: int = 2):
    encoder = create_encoder(
        f"vit_tiny_patch16_224(depth={depth}, embed_dim=24, num_heads=2)",
        image_size=size,
        patch_size=(patch,) * 3,
        channels=1,
        mean=(0.3,),
        std=(0.3,),
        modality=make_modality("volume").text,
    )
    return encoder.eval()
