"""Outlines as YOLO keeps them: a .yaml that names folders and classes, and for each picture a .txt with a line per
object, `class x y x y ...` as shares of width and height. Pixels inside no outline are the class `background`."""

from pathlib import Path

import numpy as np

from unmask.decode import BadPicture
from unmask.errors import DataError
from unmask.scene import Found, Scene, Scenes, described, name_of, pictures_below
from unmask.segmentation.legend import Legend, read_legend
from unmask.segmentation.truth import drawn
from unmask.source import read_regular

__all__ = ["Yolo"]


class Yolo(Scenes):
    def __init__(self, place: Path, pictures: Path | None = None, legend: Legend | None = None):
        splits, file = described(place)
        assert file is not None
        self.where, self.found = str(place), Found([])
        names = read_legend(file).names
        self.known, self.shift = set(names), 1 if 0 in names else 0
        named = {0: "background"} | {number + self.shift: name for number, name in sorted(names.items())}
        self.legend = legend or Legend(named, {}, str(file))
        for split in splits:
            assert split.images is not None
            images = split.images if pictures is None else pictures / split.images.name
            images = images if images.is_dir() else pictures or images
            labels = _labels(split.images)
            if not images.is_dir() or not labels.is_dir():
                raise DataError(f"pictures in {images}, labels in {labels}: there is no such folder")
            for path in pictures_below(images):
                text, name = (labels / path).with_suffix(".txt"), f"{split.split}/{name_of(images / path, images)}"
                if text.is_file():
                    self.found.scenes.append(Scene(name, str(images / path), str(text), split.split))
                else:
                    self.found.lost.append((name, f"has no {text.name}"))

    @classmethod
    def accepts(cls, place: Path) -> bool:
        splits = described(place)[0]
        return bool(splits) and all(s.masks is None and s.annotations is None and s.images for s in splits)

    def truth(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        shapes = []
        for line in read_regular(scene.truth).decode("utf-8", "replace").splitlines():
            if line.split():
                shapes.append(self._shape(line, size))
        found = np.zeros(size, dtype=np.int32)
        for number, shape in sorted(shapes, key=lambda pair: -int(pair[1].sum())):
            found[shape] = number + self.shift
        return found

    def _shape(self, line: str, size: tuple[int, int]) -> tuple[int, np.ndarray]:
        try:
            number, *shares = [float(word) for word in line.split()]
        except ValueError as error:
            raise BadPicture(f"has a line that is not class x y x y ...: {line[:40]!r}") from error
        if len(shares) == 4:
            raise BadPicture(
                "has boxes, no outlines: to segment, a line is class x y x y x y ...; with boxes: --to detect"
            )
        if len(shares) < 6 or len(shares) % 2:
            raise BadPicture(f"has a line that is not class x y x y ...: {line[:40]!r}")
        if int(number) not in self.known:
            raise BadPicture(f"has an outline of the unknown class {int(number)}")
        points = [share * size[1 - place % 2] for place, share in enumerate(shares)]  # x, y in turn
        return int(number), drawn([points], size)


def _labels(images: Path) -> Path:
    """The folder of labels that mirrors one of pictures: the last `images` in the path becomes `labels`."""
    parts = list(images.parts)
    for place in reversed(range(len(parts))):
        if parts[place] == "images":
            return Path(*parts[:place], "labels", *parts[place + 1 :])
    return images
