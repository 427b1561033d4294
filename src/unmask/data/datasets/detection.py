"""Images with boxes, and masks if there are any, checked for training, in train, val and test."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from unmask.data.annotations.find import open_annotations
from unmask.data.annotations.geometry import drawn, look_at
from unmask.data.annotations.objects import Fault, Id, Instance, Scene, Shown, Target, photographs
from unmask.data.annotations.repair import check_faults, leave_unmasked_out, mend
from unmask.data.datasets.images import Samples
from unmask.data.datasets.splits import split_images
from unmask.data.labels import learnt_and_tested, some
from unmask.data.sheet import Sheet, inspect
from unmask.errors import DataError, UserError

KEEP = 2**31  # bytes of decoded images that are kept in memory
MOSTLY = 0.95  # share of objects with a mask from which on masks are learnt


@dataclass(frozen=True)
class BoxSheet(Sheet):
    """The data sheet of the images and of their annotations."""

    annotations: str = ""  # "coco", "voc" or "yolo"
    masks: bool = False  # masks are learnt too
    boxes: dict[str, dict[str, int]] = field(default_factory=dict)  # split -> class -> objects that can be used
    images: dict[str, int] = field(default_factory=dict)  # split -> images that can be used
    empty_images: int = 0  # with nothing in them
    fault_counts: dict[str, int] = field(default_factory=dict)  # kind -> number
    faults: list[dict[str, str]] = field(default_factory=list)  # each: kind, file, detail, and what it is of


@dataclass(frozen=True)
class Boxes:
    """Images of a split with their targets; an index counts within the split."""

    images: Samples
    scenes: list[Scene]
    classes: list[str]
    masks: bool
    category_ids: Mapping[str, Mapping[str, Id]] = field(default_factory=dict)  # of a file, by class

    labels = None  # of whole images there are none; what `Loader` asks

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> list[str]:
        return self.images.names

    @property
    def channels(self) -> int:
        return self.images.channels

    def image(self, i: int) -> Shown:
        """Image `i`, or if it turned out bad since it was checked, the next good one, with what is in it."""
        image, place = self.images.substitute(i)
        return Shown(image, self.target(place, (image.shape[1], image.shape[2])))

    def size(self, i: int) -> tuple[int, int]:
        """Height and width of image `i` as shown at its full size."""
        stated = self.scenes[i].stated
        assert stated is not None  # `mend` settled it
        return stated

    def target(self, i: int, size: tuple[int, int] | None = None) -> Target:
        """What is in image `i`, in the pixels of a copy of this height and width; None: of its full size."""
        scene, shown = self.scenes[i], self.size(i)
        size = size or shown
        y, x = size[0] / shown[0], size[1] / shown[1]
        boxes = torch.tensor([instance.box for instance in scene.instances], dtype=torch.float32).view(-1, 4)
        return Target(
            boxes * torch.tensor([x, y, x, y]),
            torch.tensor([self.classes.index(instance.name) for instance in scene.instances], dtype=torch.int64),
            torch.tensor([instance.crowd for instance in scene.instances], dtype=torch.bool),
            drawn(scene.instances, size, shown) if self.masks else None,
        )


class Boxed:
    """The splits of annotated data; a test split that the data lacks is its val split, or held out."""

    def __init__(
        self,
        places: Sequence[str],
        *,
        max_side: int,  # pixels, as for `decode`
        form: str = "auto",  # of the annotations
        images: str | None = None,  # folder of the images
        masks: str = "auto",  # on, off, or auto: where nearly all objects have one
        crowds: str = "ignore",  # learn: a region that is marked as a crowd is an object as any other
        most: int | None = None,  # training images
        seed: int = 0,
        max_bad: float | None = None,  # share of images or of boxes that may be left out; None: a quarter, or a few
        say: Callable[[str], Any] = lambda text: None,
        progress: Callable[[int, int], None] | None = None,
    ):
        """Raises UserError and DataError like `open_annotations`, and if too much must be left out."""
        annotated = open_annotations(places, form, images)
        if crowds == "learn":
            for scene in annotated.scenes:
                scene.instances = [replace(instance, crowd=False) for instance in scene.instances]
        self.annotated, self.classes, self.ids = annotated, annotated.classes, annotated.ids
        self.max_side = max_side
        total = len(annotated.scenes) + sum(fault.of == "image" for fault in annotated.faults)
        boxes = sum(len(s.instances) for s in annotated.scenes) + sum(f.of == "box" for f in annotated.faults)
        scenes = annotated.scenes
        if not scenes:
            raise DataError(f"no image of {', '.join(places)} was found{_first(annotated.faults)}")
        sheet, cache = inspect(
            photographs(", ".join(places), scenes),
            max_side=max_side, limit=len(scenes), keep_bytes=KEEP, progress=progress,
        )  # fmt: skip
        bad = {index: reason for index, _, reason in sheet.bad}
        for index, reason in bad.items():
            annotated.fault("unreadable image", scenes[index].path, reason, of="image")
        good = []
        for index, scene in enumerate(scenes):
            if index not in bad and mend(annotated, scene, *look_at(scene.path)) is not None:
                good.append(index)
        annotated.scenes = [scenes[index] for index in good]
        self.masks = self._has_masks(masks)
        if self.masks:
            leave_unmasked_out(annotated)
        self.source = photographs(", ".join(places), annotated.scenes)
        self.cache = {place: cache[index] for place, index in enumerate(good) if index in cache}
        self.remarks = annotated.remarks
        for remark in self.remarks:
            say(remark)
        lines = check_faults(annotated, total, boxes, max_bad)
        if lines:
            say("Left out or mended (data_sheet.json has all):\n" + "\n".join(lines))
        self.channels = sheet.channels
        self.splits = split_images(
            [scene.split for scene in annotated.scenes], range(len(annotated.scenes)), most=most, seed=seed, say=say
        )
        files = {split: [annotated.scenes[i].path for i in places] for split, places in self.splits.items()}
        for remark in learnt_and_tested(files["train"], files["val"] + files["test"]):
            say(remark)
        self.sheet = self._sheet(sheet)
        self.said = ", ".join(f"{len(indices):,} {split}" for split, indices in self.splits.items())

    def samples(self, split: str, channels: int) -> Boxes:
        """The images of a split with what is in them."""
        indices = self.splits[split]
        images = Samples(self.source, indices, channels=channels, max_side=self.max_side, cache=self.cache)
        scenes = [self.annotated.scenes[i] for i in indices]
        return Boxes(images, scenes, self.classes, self.masks, self.annotated.category_ids)

    def objects(self, split: str = "train") -> list[tuple[Scene, Instance]]:
        """All objects of a split that are learnt, with their images."""
        scenes = (self.annotated.scenes[i] for i in self.splits[split])
        return [(scene, instance) for scene in scenes for instance in scene.instances if not instance.crowd]

    def class_counts(self, split: str = "train") -> dict[str, int]:
        """Objects of each class in a split."""
        counts = Counter(instance.name for _, instance in self.objects(split))
        return {name: counts[name] for name in self.classes}

    def check(self) -> list[str]:
        """Remarks for the user before training. Raises DataError if there is nothing to learn from."""
        train = self.class_counts("train")
        crowds = sum(instance.crowd for scene in self.annotated.scenes for instance in scene.instances)
        if not sum(train.values()):
            if crowds:
                every = all(instance.crowd for scene in self.annotated.scenes for instance in scene.instances)
                raise DataError(
                    f"{'all ' if every else ''}{crowds:,} objects of {self.source.where} are marked as crowds"
                    " (iscrowd 1, as CVAT writes masks that are painted): regions of many objects, which are neither"
                    " learnt nor judged. If each is one object, count them with --crowds learn"
                )
            raise DataError(f"no training image of {self.source.where} has a box that can be used")
        if not self.splits["test"]:
            raise DataError(f"{self.source.where} has too few images to test on; annotate more, or give a test split")
        lines, test = [], self.class_counts("test")
        if crowds:
            lines.append(
                f"{crowds:,} objects are marked as crowds (iscrowd 1) and are neither learnt nor judged; --crowds learn"
                " takes each for one object"
            )
        unseen = [name for name in self.classes if not train[name]]
        if unseen:
            lines.append(f"{len(unseen):,} of {len(self.classes):,} classes have no box to learn from: {some(unseen)}")
        missing = [name for name in self.classes if train[name] and not test[name]]
        if missing:
            lines.append(f"the test split has no box of {some(missing)}: learnt, but not tested")
        if self.sheet.test_in_train:
            lines.append(f"{self.sheet.test_in_train:,} val or test images are also in train: scores will be too high")
        return lines

    def _sheet(self, sheet: Sheet) -> BoxSheet:
        faults, scenes = self.annotated.faults, self.annotated.scenes
        total = hashlib.blake2b(sheet.fingerprint.encode(), digest_size=16)
        for scene in scenes:
            total.update(repr((scene.name, scene.split, scene.instances)).encode())
        more = {
            "fingerprint": total.hexdigest(),
            "annotations": self.annotated.form,
            "masks": self.masks,
            "boxes": {split: self.class_counts(split) for split in self.splits},
            "images": {split: len(indices) for split, indices in self.splits.items()},
            "empty_images": sum(not scene.instances for scene in scenes),
            "fault_counts": dict(Counter(fault.kind for fault in faults)),
            "faults": [asdict(fault) for fault in faults],
            "remarks": [*sheet.remarks, *self.remarks],
        }
        return BoxSheet(**vars(sheet) | more)

    def _has_masks(self, setting: str) -> bool:
        have_masks = [i.has_mask for scene in self.annotated.scenes for i in scene.instances]
        share = sum(have_masks) / max(1, len(have_masks))
        if setting == "on" and not any(have_masks):
            raise UserError(f"--masks on, but no object of {self.annotated.form} annotations here has a polygon or RLE")
        if setting == "auto" and 0 < share < MOSTLY:
            self.annotated.remarks.append(f"{share:.0%} of the objects have masks, too few: boxes only (--masks on)")
        return setting == "on" or (setting == "auto" and share >= MOSTLY)


def _first(faults: Sequence[Fault]) -> str:
    return f": {faults[0].kind}, {os.path.basename(faults[0].file)} {faults[0].detail}" if faults else ""
