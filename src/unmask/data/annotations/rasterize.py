"""Objects as the readers in `annotations/` find them, drawn as classes of pixels.

Pixels inside no outline are the class `background`. Where outlines overlap, the smaller lies on top. An image with an
object that cannot be drawn is left out: it would be learnt as background.
"""

from pathlib import Path

import numpy as np

from unmask.data.annotations.geometry import drawn
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.objects import Annotated, Fault
from unmask.data.annotations.objects import Scene as Annotation
from unmask.data.annotations.semantic import Found, Scene, Scenes
from unmask.data.codecs.image import BadImage
from unmask.data.labels import printable

BARE = "has an object with a box and no outline: to segment, it needs a polygon or RLE; with boxes: --to detect"


class Outlined(Scenes):
    """Parts call `take` with what a reader found; the truth of a scene is what was annotated in its image."""

    numbers: dict[str, int]  # of each class by its name in the annotations

    def take(self, place: Path, parts: list[Annotated], legend: Legend | None) -> None:
        """Numbers of classes are those of the data, one higher where 0 is among them, since 0 is the background."""
        names = {id_: name for part in parts for id_, name in zip(part.ids, part.classes)}
        shift = 1 if 0 in names else 0
        self.numbers = {name: id_ + shift for id_, name in names.items()}
        named = {0: "background"} | {id_ + shift: printable(name) for id_, name in sorted(names.items())}
        self.where, self.legend, self.found = str(place), legend or Legend(named, {}, str(place)), Found([])
        for part in parts:
            self._add(part)

    def truth(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        told: Annotation = scene.truth
        if told.stated not in (None, size):
            raise BadImage(f"is {size[0]} x {size[1]}, its annotations are for {told.stated[0]} x {told.stated[1]}")
        for instance in told.instances:
            if instance.rle is not None and tuple(instance.rle["size"]) != size:
                raise BadImage(f"is {size[0]} x {size[1]}, its run lengths are for {instance.rle['size']}")
        try:
            shapes = drawn(told.instances, size, (1, 1) if told.relative else size).bool().numpy()
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise BadImage(f"has an outline that cannot be drawn ({' '.join(str(error).split())[:80]})") from error
        found = np.zeros(size, dtype=np.int32)
        for instance, shape in sorted(zip(told.instances, shapes), key=lambda pair: -int(pair[1].sum())):
            found[shape] = self.numbers[instance.name]
        return found

    def _add(self, part: Annotated) -> None:
        faults: dict[str, Fault] = {}
        for fault in part.faults:
            if fault.of in ("image", "file"):
                self.found.lost.append((fault.file, f"{fault.kind}: {fault.detail}"))
            else:
                faults.setdefault(fault.file, fault)
        for told in part.scenes:
            name = f"{told.split}/{told.name}" if told.relative else told.name
            fault = faults.pop(printable(told.told_in if told.relative else told.name), None)
            if fault is not None:
                self.found.lost.append((printable(name), f"{fault.kind}: {fault.detail}"))
            elif not all(instance.has_mask for instance in told.instances):
                self.found.lost.append((printable(name), BARE))
            else:
                self.found.scenes.append(Scene(printable(name), told.path, told, told.split))
        self.found.remarks += [*part.remarks, *(f"{f.file}: {f.kind}: {f.detail}" for f in faults.values())]
