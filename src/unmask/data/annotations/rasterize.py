"""Draws annotated objects as class maps.

Pixels outside of all outlines have the class `background`. Where outlines overlap, the smaller one is on top. An image
with an object that cannot be drawn is left out, since that object would be learned as background.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from unmask.data.annotations.geometry import drawn
from unmask.data.annotations.legend import Legend
from unmask.data.annotations.maps import Maps
from unmask.data.annotations.objects import Annotated, Fault, Scene
from unmask.data.codecs.image import BadImage
from unmask.data.labels import printable

BARE = "has an object with a box and no outline: to segment, it needs a polygon or RLE; with boxes: --to detect"


class Rasterised(Maps):
    """Class numbers are those of the data, plus one if 0 is among them, since 0 is the background."""

    def __init__(self, form: str, place: Path, annotated: Annotated, legend: Legend | None):
        shift = 1 if 0 in annotated.ids else 0
        self.numbers = {name: id_ + shift for id_, name in zip(annotated.ids, annotated.classes)}
        names = {0: "background"} | {number: name for name, number in self.numbers.items()}
        super().__init__(form, place, legend or Legend(names, {}, str(place)))
        self._add(annotated)

    def truth(self, scene: Scene, size: tuple[int, ...]) -> np.ndarray:
        size = (size[0], size[1])
        if scene.stated == size[::-1]:  # of the image as stored, before EXIF turns it: so it is drawn
            size = size[1], size[0]
        if scene.stated is not None and scene.stated != size:
            raise BadImage(f"is {size[0]} x {size[1]}, its annotations are for {scene.stated[0]} x {scene.stated[1]}")
        for instance in scene.instances:
            if instance.rle is not None and tuple(instance.rle["size"]) != size:
                raise BadImage(f"is {size[0]} x {size[1]}, its run lengths are for {instance.rle['size']}")
        try:
            shapes = drawn(scene.instances, size, (1, 1) if scene.relative else size).bool().numpy()
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise BadImage(f"has an outline that cannot be drawn ({' '.join(str(error).split())[:80]})") from error
        numbers = np.zeros(size, dtype=np.int32)
        for instance, shape in sorted(zip(scene.instances, shapes), key=lambda pair: -int(pair[1].sum())):
            numbers[shape] = self.numbers[instance.name]
        return numbers

    def _add(self, part: Annotated) -> None:
        faults: dict[str, Fault] = {}
        for fault in part.faults:
            if fault.of in ("image", "file"):
                self.lost.append((fault.file, f"{fault.kind}: {fault.detail}"))
            else:
                faults.setdefault(fault.file, fault)
        for scene in part.scenes:
            name = f"{scene.split}/{scene.name}" if scene.relative else scene.name
            fault = faults.pop(printable(scene.told_in if scene.relative else scene.name), None)
            if fault is not None:
                self.lost.append((printable(name), f"{fault.kind}: {fault.detail}"))
            elif not all(instance.has_mask for instance in scene.instances):
                self.lost.append((printable(name), BARE))
            else:
                self.scenes.append(replace(scene, name=printable(name)))
        self.remarks += [*part.remarks, *(f"{f.file}: {f.kind}: {f.detail}" for f in faults.values())]
