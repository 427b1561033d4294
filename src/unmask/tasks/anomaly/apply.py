"""Applies a finder to images: their labels and masks, their anomaly maps, and the files that show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image
from rich.console import Console

from unmask.data.datasets.images import Samples
from unmask.errors import DataError
from unmask.files import write_atomically
from unmask.report.reconstruction import displayed, value_range
from unmask.runtime.progress import tracked
from unmask.tasks.anomaly.figures import MapOnImage, Scale, draw_heatmap
from unmask.tasks.anomaly.inputs import good, opened, read
from unmask.tasks.anomaly.labels import check_both, labels_of, normal_classes, read_masks
from unmask.tasks.anomaly.model import Finder, ImageMaps
from unmask.tasks.anomaly.results import AnomalyResults

GALLERY = 24  # images in each gallery of the report


@dataclass(frozen=True)
class ImagesToJudge:
    samples: Samples
    labels: Int[np.ndarray, "n"]  # 0 normal, 1 anomalous, -1 unknown
    masks: Sequence[Bool[np.ndarray, "_ _"] | None]  # of defects, on the map's canvas; None where unknown


def read_images(
    places: Sequence[str], labelled: bool, normal: Sequence[str], masks: Path | None, finder: Finder, console: Console
) -> ImagesToJudge:
    """labelled: what is normal must be known, and of labelled data the test split is judged. normal: names of classes.
    masks: folder of masks."""
    source = opened(places, console)
    rows = list(range(len(source.items)))
    if labelled and any(item.split == "test" for item in source.items):
        rows = [i for i in rows if source.items[i].split == "test"]
        console.print(f"judged is the test split, {len(rows):,} of {len(source.items):,} images", soft_wrap=True)
    normal = normal_classes(source, normal)
    if labelled and not normal and masks is None:
        classes = sorted({name for i in rows for name in source.classes(i) or ()})
        what = f"its classes are {', '.join(classes[:20])}" if classes else "no image has a label"
        raise DataError(f"{source.where} does not say which images are normal: {what}. Name them: --normal NAME")
    all_labels = labels_of(source, rows, normal) if normal else np.full(len(rows), -1)
    samples = read(source, rows, finder.encoder, finder.max_side, console, "images")
    label_of = dict(zip(rows, all_labels))
    labels = np.array([label_of[i] for i in samples.indices], dtype=np.int64)
    defects: Sequence[np.ndarray | None] = [None] * len(samples)
    if masks is not None:
        say = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
        defects, labels = read_masks(masks, samples, finder.tiling, labels, say)
    if labelled or masks is not None:
        check_both(labels, source.where)
    return ImagesToJudge(samples, labels, defects)


def judge(finder: Finder, samples: Samples, batch: int, console: Console) -> list[ImageMaps]:
    images = tracked(console, "judging", good(samples, range(len(samples))), len(samples))
    return list(finder.maps(images, batch))


@dataclass(frozen=True)
class Drawer:
    """Writes raw maps and heat maps into a results folder, named after their images."""

    results: AnomalyResults
    finder: Finder
    images: ImagesToJudge
    maps: Sequence[ImageMaps]

    @property
    def scale(self) -> Scale:
        calibration = self.finder.calibrations[self.results.method]
        return Scale(calibration.median, calibration.image.threshold, calibration.pixel)

    def save_maps(self, ending: str | None) -> None:
        """Writes maps as npy or tif, or not at all for None. Maps of an earlier call are deleted, so that results do
        not mix."""
        folder, method = self.results.path / "maps", self.results.method
        stale = set(folder.rglob("*.*"))
        for name, map_ in zip(_file_names(self.results.names), self.maps if ending else ()):
            path = folder / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = map_.full(method).numpy()
            write_atomically(path, lambda part: _save(values, part, ending))  # noqa: B023  # called at once
            stale.discard(path)
        for path in stale:
            path.unlink()

    def draw_heatmaps(self, most: int, console: Console) -> int:
        """Draws mistakes and the most anomalous images; returns their number. Heat maps of an earlier call are
        deleted."""
        folder, names = self.results.path / "heatmaps", _file_names(self.results.names)
        stale, rows = set(folder.rglob("*.*")), self.results.drawing_order()[:most]
        for row in tracked(console, "drawing", rows):
            path = folder / f"{names[row]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_heatmap(self._map_on_image(row), self.scale, path)
            stale.discard(path)
        for path in stale:
            path.unlink()
        return len(rows)

    def galleries(self) -> dict[str, list[MapOnImage]]:
        galleries = self.results.galleries().items()
        return {title: [self._map_on_image(row) for row in rows[:GALLERY]] for title, rows in galleries if rows}

    def _map_on_image(self, row: int) -> MapOnImage:
        results = self.results
        whole = self.finder.tiling.whole(self.images.samples.image(row))
        score, verdict = results.scores[results.method][row], results.verdicts[row]
        title, pixels = f"{results.names[row]}: {score:.3g}, {verdict}", displayed(whole, *value_range(whole))
        return MapOnImage(title, pixels, self.maps[row].full(results.method).numpy(), self.images.masks[row])


def _save(values: np.ndarray, path: Path, ending: str | None) -> None:
    with open(path, "wb") as file:
        np.save(file, values) if ending == "npy" else Image.fromarray(values).save(file, format="TIFF")


def _file_names(names: Sequence[str]) -> list[str]:
    """Relative paths of the files of each image: its own path without the suffix, made safe and unique."""
    paths: dict[str, None] = {}
    for name in names:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        whole = PurePosixPath(*parts or ["image"])
        text = str(whole.with_suffix("")) if str(whole.with_suffix("")) not in paths else str(whole)
        while text in paths:
            text += "_"
        paths[text] = None
    return list(paths)
