"""Tiny data of every modality: two classes that differ in something to be seen, heard or measured."""

from pathlib import Path

import nibabel as nib
import numpy as np
import rasterio
import soundfile
from PIL import Image

from support.clipmaking import clip

RATE = 4_000  # samples per second of the recordings


def write_image(path: Path, label: int, number: int) -> Path:
    chance = np.random.default_rng([label, number])
    pixels = chance.integers(0, 60, (24, 24, 3), dtype=np.uint8)
    pixels[4 + 8 * label : 12 + 8 * label, 4:20] += 180
    path = path.with_suffix(".png")
    Image.fromarray(pixels).save(path)
    return path


def write_clip(path: Path, label: int, number: int) -> Path:
    path = path.with_suffix(".mp4")
    path.write_bytes(clip(count=8 + 2 * label, size=(16, 32), mark=bool(label)))
    return path


def write_recording(path: Path, label: int, number: int) -> Path:
    chance = np.random.default_rng([label, number])
    seconds = np.arange(RATE * (2 + number % 2) // 8) / RATE  # some are shorter than others
    tone = np.sin(2 * np.pi * (300 + 700 * label) * seconds) + 0.01 * chance.standard_normal(len(seconds))
    path = path.with_suffix(".wav")
    soundfile.write(path, 0.5 * tone, RATE)
    return path


def write_volume(path: Path, label: int, number: int) -> Path:
    chance = np.random.default_rng([label, number])
    values = chance.normal(100, 5, (16, 20, 12)).astype(np.float32)
    values[4:10, 6 : 10 + 6 * label, 3:9] += 80
    path = path.with_name(path.name + ".nii.gz")
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


def write_signal(path: Path, label: int, number: int) -> Path:
    """A table of two channels and their times."""
    chance = np.random.default_rng([label, number])
    seconds = np.arange(120 + 20 * (number % 2)) / 50
    waves = [np.sin(2 * np.pi * (1 + 4 * label) * seconds), np.cos(2 * np.pi * (1 + 4 * label) * seconds)]
    table = np.stack([seconds, *waves], axis=1) + 0.01 * chance.standard_normal((len(seconds), 3)) * (0, 1, 1)
    path = path.with_suffix(".csv")
    np.savetxt(path, table, delimiter=",", header="time,x,y", comments="", fmt="%.5f")
    return path


def write_scene(path: Path, label: int, number: int) -> Path:
    """Five bands of 16 bits, somewhere on the Earth; a corner has no data, in some of them."""
    chance = np.random.default_rng([label, number])
    values = chance.integers(100, 400, (5, 24, 32)).astype(np.uint16)
    values[3 * label, 6:18, 8:24] += 3000
    values[:, : 6 * (number % 2), :8] = 0
    path = path.with_suffix(".tif")
    place = {"crs": "EPSG:32614", "transform": rasterio.transform.from_origin(440280, 3159720, 30, 30)}
    form = {"driver": "GTiff", "count": 5, "height": 24, "width": 32, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", **form, **place) as file:
        file.write(values)
    return path


def write_joint(path: Path, label: int, number: int) -> Path:
    """A folder for each sample: an image, its brightness as a depth, and a tone, which some lack."""
    path.mkdir()
    Image.open(write_image(path / "rgb", label, number)).convert("L").save(path / "depth.png")
    if number % 3 or not label:
        write_recording(path / "sound", label, number)
    return path


def write_cloud(path: Path, label: int, number: int) -> Path:
    """The surface of a ball, or of a stick."""
    chance = np.random.default_rng([label, number])
    points = chance.standard_normal((150 + 10 * number, 3))
    points *= (1, 1, 1 - 0.8 * label) / np.linalg.norm(points, axis=1, keepdims=True)
    path = path.with_suffix(".ply")
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}", *(f"property float {a}" for a in "xyz")]
    rows = [" ".join(f"{value:.5f}" for value in point) for point in points]
    path.write_text("\n".join([*head, "end_header", *rows, ""]))
    return path


WRITERS = {"image": write_image, "video": write_clip, "audio": write_recording, "volume": write_volume}
WRITERS |= {"signal": write_signal, "bands": write_scene, "multimodal": write_joint, "points": write_cloud}
BROKEN = {"image": "broken.png", "video": "broken.mp4", "audio": "broken.wav", "volume": "broken.nii.gz"}
BROKEN |= {"bands": "broken.tif", "points": "broken.ply"}
NAMED = ("signal",)  # told by their names too


def write_samples(folder: Path, kind: str, each: int = 6) -> Path:
    """`each` samples of two classes, in a folder for each class."""
    for label, name in enumerate(("calm", "loud")):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            WRITERS[kind](folder / name / f"{number:02d}", label, number)
    return folder
