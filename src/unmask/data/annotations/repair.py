"""Repairs annotations: boxes are clipped to the image, and impossible ones are left out, counted and named, so that one
wrong line neither ends a training nor enters it silently."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from unmask.data.annotations.geometry import pixels_in, scaled, turned
from unmask.data.annotations.objects import Annotated, Fault, Instance, Scene
from unmask.errors import DataError

LEAST = 0.5  # pixels that a box must be wide and high
SAME = 1.5  # pixels by which a stated size may be off
QUARTER, FEW = 0.25, 5  # share and number of boxes or images that may be left out where nothing else was asked
AS_SHOWN = "boxes are taken to be of the image as shown"
NAMED = 5  # faults of each kind that a message names


def mend(annotated: Annotated, scene: Scene, stored: tuple[int, int], orientation: int) -> tuple[int, int] | None:
    """Brings the boxes of an image to its own pixels as shown, and leaves out what cannot be right; counts both.

    Returns height and width as shown; None for an image that the annotation cannot mean, since its size differs.
    """
    shown = stored if orientation < 5 else (stored[1], stored[0])
    scene.instances = [i for i in scene.instances if _readable(annotated, scene, i, (shown, stored))]
    if scene.relative:
        moved = [scaled(instance, shown[1], shown[0]) for instance in scene.instances]
        if orientation > 1 and moved:
            _fault(annotated, scene, "turned by EXIF", AS_SHOWN, "nothing")
    elif fits(scene.stated, shown):
        moved = scene.instances
        if orientation > 1 and shown == stored:  # mirrored or on its head: the size cannot tell
            _fault(annotated, scene, "turned by EXIF", AS_SHOWN, "nothing")
    elif turn_of(scene.stated, stored, orientation) > 1:
        scene.turn = orientation
        moved = [turned(instance, stored, orientation) for instance in scene.instances]
        _fault(annotated, scene, "turned by EXIF", "boxes were of the image as stored, and are turned", "nothing")
    else:
        assert scene.stated is not None  # else it fits
        told = f"{scene.stated[1]} x {scene.stated[0]} stated, the image is {shown[1]} x {shown[0]} (width x height)"
        _fault(annotated, scene, "wrong size", told, "image")
        return None
    scene.relative, scene.stated = False, shown
    kept: list[Instance] = []
    seen: set[tuple] = set()
    for place, instance in enumerate(moved, 1):
        good = _good(annotated, scene, instance, shown, f"object {place}, {instance.name}: {_text(instance)}")
        if good is None:
            continue
        key = (good.name, tuple(round(v, 2) for v in good.box), good.polygons, str(good.rle))
        if key in seen:
            _fault(annotated, scene, "duplicate box", f"object {place}, {instance.name}: {_text(instance)}")
            continue
        seen.add(key)
        kept.append(good)
    scene.instances = kept
    return shown


def fits(stated: tuple[int, int] | None, shown: tuple[int, int]) -> bool:
    """Whether an annotation may mean an image of this height and width."""
    return stated is None or _same(stated, shown)


def turn_of(stated: tuple[int, int] | None, stored: tuple[int, int], orientation: int) -> int:
    """EXIF's orientation by which annotations of an image of this height and width have to be turned; 1: not at all."""
    shown = stored if orientation < 5 else (stored[1], stored[0])
    return orientation if not fits(stated, shown) and fits(stated, stored) else 1


def leave_unmasked_out(annotated: Annotated) -> None:
    """Leaves out objects without a mask, which cannot train a mask head."""
    for scene in annotated.scenes:
        for instance in scene.instances:
            if not instance.has_mask:
                _fault(annotated, scene, "no mask", f"{instance.name}: {_text(instance)}")
        scene.instances = [instance for instance in scene.instances if instance.has_mask]


def check_faults(annotated: Annotated, images: int, boxes: int, max_bad: float | None) -> list[str]:
    """Remarks on what was left out or repaired, in lines.

    images, boxes: how many were annotated, the left out included. Raises DataError where more than the share
    `max_bad` of either is left out; None: more than a quarter, and more than a few.
    """
    lines = [f"  {line}" for line in told(annotated.faults)]
    for what, whats, total in (("image", "images", images), ("box", "boxes", boxes)):
        lost = sum(fault.of == what for fault in annotated.faults)
        if lost > (max(FEW, QUARTER * total) if max_bad is None else max_bad * total):
            share = f"{QUARTER if max_bad is None else max_bad:.0%}"
            raise DataError(
                f"{lost:,} of {total:,} annotated {whats} cannot be used, more than {share}: mend them, or allow more"
                " with --max-bad\n" + "\n".join(lines)
            )
    return lines


def told(faults: list[Fault]) -> list[str]:
    """Kinds of faults with their counts, what was done about them, and the first few by file."""
    counts, lines = Counter((fault.kind, fault.of) for fault in faults), []
    for (kind, of), count in counts.most_common():
        what = {"box": "left out", "image": "images left out", "file": "files left out"}.get(of, "mended or noted")
        some = [f"{f.file} ({f.detail})" if f.detail else f.file for f in faults if (f.kind, f.of) == (kind, of)]
        more = f" and {count - NAMED:,} more" if count > NAMED else ""
        lines.append(f"{kind}: {count:,} {what}: {'; '.join(some[:NAMED])}{more}")
    return lines


def _good(annotated: Annotated, scene: Scene, instance: Instance, size: tuple[int, int], told: str) -> Instance | None:
    """The object clipped to the image; None for one that cannot be used."""
    left, top, right, bottom = instance.box
    if right - left <= 0 or bottom - top <= 0:
        _fault(annotated, scene, "zero area", told)
        return None
    cut = (max(0.0, left), max(0.0, top), min(float(size[1]), right), min(float(size[0]), bottom))
    if cut[2] - cut[0] <= 0 or cut[3] - cut[1] <= 0:
        _fault(annotated, scene, "outside the image", f"{told}; the image is {size[1]} x {size[0]}")
        return None
    if cut[2] - cut[0] < LEAST or cut[3] - cut[1] < LEAST:
        _fault(annotated, scene, "zero area", f"{told}: below {LEAST:g} pixels")
        return None
    if max(abs(a - b) for a, b in zip(cut, instance.box)) > SAME:
        _fault(annotated, scene, "reaches over the edge", f"{told}; cut to {size[1]} x {size[0]}", "nothing")
    return replace(instance, box=cut)


def _readable(annotated: Annotated, scene: Scene, instance: Instance, sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether run lengths, if it has some, are of the image's size and not empty; counts those that are not."""
    if instance.rle is None:
        return True
    told, (height, width) = f"{instance.name}: {_text(instance)}", instance.rle["size"]
    if not any(_same((height, width), size) for size in sizes):  # before it is drawn: it may be too large for that
        told += f": its mask is {width} x {height}, the image {sizes[0][1]} x {sizes[0][0]}"
        _fault(annotated, scene, "unreadable mask", told)
        return False
    try:
        if pixels_in(instance.rle):
            return True
        _fault(annotated, scene, "zero area", f"{told}: its mask is empty")
    except (ValueError, TypeError, RuntimeError) as error:
        _fault(annotated, scene, "unreadable mask", f"{told}: {str(error).splitlines()[0]}")
    return False


def _fault(annotated: Annotated, scene: Scene, kind: str, detail: str, of: str = "box") -> None:
    annotated.fault(kind, scene.told_in if scene.told_in.endswith((".txt", ".xml")) else scene.name, detail, of)


def _same(first: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(first[0] - other[0]) <= SAME and abs(first[1] - other[1]) <= SAME


def _text(instance: Instance) -> str:
    return " ".join(f"{v:.5g}" for v in instance.box)
