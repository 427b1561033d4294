"""`unmask predict` with a segmenter of clouds: a PLY file of the labelled points, a turning picture, and a row of
shares for each.

The points are those of the file, in its order and its coordinates, without those that are not finite; of a mesh, its
corners, with its faces.
"""

from pathlib import Path

import numpy as np
from rich.console import Console

from unmask.data.codecs.clouds.ply import write_ply
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.points import PointCloud
from unmask.data.source import open_source, why
from unmask.files import Json
from unmask.runtime.progress import progress
from unmask.tasks.segmentation.figures import Colours
from unmask.tasks.segmentation.points.figures import draw_turning
from unmask.tasks.segmentation.points.segmenter import CloudSegmenter, shares_of
from unmask.tasks.segmentation.predict import OVERLAYS, Written, conclude, file_for
from unmask.tasks.task import PredictOptions


def predict_clouds(
    model: CloudSegmenter, config: Json, options: PredictOptions, out: Path, console: Console
) -> Written:
    """See `TransferTask.predict`."""
    source, bad = open_source(options.images, model.encoder.modality), []
    names, shares, colours = [], [], config["colours"]
    files: dict[Path, None] = {}  # in order
    with progress(console, "segmenting", len(source.items)) as update:
        for index, item in enumerate(source.items):
            try:
                cloud, coordinates = model.modality.cloud(source.raw(index))
                map_ = model.map_of(cloud)
            except (BadImage, OSError) as error:
                bad.append((item.name, why(error)))
                continue
            file = file_for(item.name, files, ".ply")
            files[file] = None
            write_labelled(cloud, coordinates, map_, model.numbers, colours, out / file)
            picture = out / OVERLAYS / file.with_suffix(".gif")
            picture.parent.mkdir(parents=True, exist_ok=True)
            draw_turning(cloud, map_, colours, model.modality.upright, picture)
            names.append(item.name)
            shares.append(shares_of(map_, len(model.classes)))
            update(len(names) + len(bad))
    words = {"sample": "cloud", "maps": "labelled points as PLY", "pictures": "pictures"}
    return conclude(model, names, files, shares, bad, out, console, **words)


def write_labelled(
    cloud: PointCloud, coordinates: np.ndarray, map_: np.ndarray, numbers: list[int], colours: Colours, path: Path
) -> None:
    """Points with the number of the class of each as the property `label`, and its colour. Coordinates are written in
    64 bits where 32 do not hold them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with np.errstate(over="ignore"):
        single = coordinates.astype(np.float32)
    exact = single if (single == coordinates).all() else coordinates.astype(np.float64)
    classes = map_[cloud.of_file.numpy()]
    columns: dict[str, np.ndarray] = {axis: exact[:, place] for place, axis in enumerate("xyz")}
    painted = np.array(colours, dtype=np.uint8)[classes]
    columns |= {name: painted[:, place] for place, name in enumerate(("red", "green", "blue"))}
    kind = np.uint8 if max(numbers) < 256 else np.int32
    columns["label"] = np.array(numbers, dtype=kind)[classes]
    write_ply(path, columns, None if cloud.faces is None else cloud.faces.numpy())
