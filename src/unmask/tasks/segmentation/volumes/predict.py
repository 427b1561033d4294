"""`unmask predict` with a segmenter of volumes: a NIfTI file of class numbers, slices with contours and a row of
volumes and shares for each.

The file lies where the input lies: its orientation, affine and codes. Nothing else of the input's header is kept.
"""

import csv
import math
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volume import write_volume
from unmask.data.modalities.volume import Located
from unmask.data.source import open_source, why
from unmask.errors import many
from unmask.files import Json, write_atomically, write_json
from unmask.runtime.progress import progress
from unmask.tasks.prediction import say_first, say_left_out
from unmask.tasks.segmentation.predict import CLASSES, OVERLAYS, SHARES, Written, below
from unmask.tasks.segmentation.volumes.figures import draw_one
from unmask.tasks.segmentation.volumes.segmenter import VolumeSegmenter
from unmask.tasks.task import PredictOptions


@dataclass(frozen=True)
class WrittenVolumes(Written):
    """The same with a segmenter of volumes."""

    millilitres: np.ndarray  # n k: NaN where a file does not say how large its voxels are


def predict_volumes(
    model: VolumeSegmenter, config: Json, options: PredictOptions, out: Path, console: Console
) -> WrittenVolumes:
    """See `TransferTask.predict`."""
    source, bad = open_source(options.images, model.encoder.modality), []
    names, counts, voxels = [], [], []
    files: dict[Path, None] = {}  # in order
    with progress(console, "segmenting", len(source.items)) as update:
        for index, item in enumerate(source.items):
            try:
                located = model.modality.located(source.raw(index))
                map_ = model.map_of(located, options.batch)
            except (BadImage, OSError) as error:
                bad.append((item.name, why(error)))
                continue
            file = place_of(item.name, files)
            files[file] = None
            _write(located, map_, model, config, out, file)
            names.append(item.name)
            counts.append(np.bincount(map_.ravel(), minlength=len(model.classes)))
            voxels.append(math.prod(located.spacing) / 1000 if located.spacing else math.nan)
            update(len(names) + len(bad))
    say_left_out(bad, len(names), console)
    table = np.array(counts, dtype=np.float64)
    shares, millilitres = table / table.sum(axis=1, keepdims=True), table * np.array(voxels)[:, None]
    _write_shares(names, shares, millilitres, model.classes, out / SHARES)
    write_json(out / CLASSES, {str(number): name for number, name in zip(model.numbers, model.classes)})
    say_first([f"{name}: {_said(row, ml, model)}" for name, row, ml in zip(names, shares, millilitres)], console)
    told = f"{many(len(names), 'volume')}: class numbers as NIfTI in {out}, slices in {out / OVERLAYS}, {out / SHARES}"
    console.print(told, soft_wrap=True, markup=False)
    paths = [out / file for file in files]
    return WrittenVolumes(out, names, paths, model.classes, model.numbers, shares, millilitres)


def place_of(name: str, taken: Container[Path]) -> Path:
    """Path below the folder, mirroring the volume's; volumes that share a stem keep their endings."""
    whole = below(name, "volume")
    stem = whole.name.removesuffix(".gz")
    short = whole.with_name(f"{stem.rsplit('.', 1)[0] or stem}.nii.gz")
    return short if short not in taken else whole.with_name(f"{whole.name}.nii.gz")


def _said(shares: np.ndarray, millilitres: np.ndarray, model: VolumeSegmenter) -> str:
    structures = [place for place in np.argsort(-shares) if place != model.background and shares[place] > 0]
    words = [
        f"{model.classes[place]} {shares[place]:.1%}"
        + ("" if np.isnan(millilitres[place]) else f" ({millilitres[place]:.3g} ml)")
        for place in structures[:3]
    ]
    return ", ".join(words) or "no structure"


def _write(located: Located, map_: np.ndarray, model: VolumeSegmenter, config: Json, out: Path, file: Path) -> None:
    path, aside = out / file, out / OVERLAYS / file.with_name(file.name.removesuffix(".nii.gz") + ".png")
    for place in (path, aside):
        place.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.array(model.numbers)[map_]
    write_volume(path, torch.from_numpy(numbers), located.geometry)
    values, laid = located.content[0].numpy(), located.laid(map_).numpy()
    draw_one(values, laid, located.steps, model.classes, config["colours"], model.background, aside)


def _write_shares(
    names: list[str], shares: np.ndarray, millilitres: np.ndarray, classes: list[str], path: Path
) -> None:
    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", *classes, *(f"{name} (ml)" for name in classes)])
            for name, row, volumes in zip(names, shares, millilitres):
                ml = ["" if np.isnan(volume) else f"{volume:.6g}" for volume in volumes]
                table.writerow([name, *(f"{share:.6f}" for share in row), *ml])

    write_atomically(path, write)
