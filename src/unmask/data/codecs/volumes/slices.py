"""Slices of DICOM: how each lies by its header, their order along the normal, what is missing or doubled, and the
affine of the volume that they make. Nothing of a header but this is read here."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.volumes.stack import MAX_VALUES
from unmask.data.transforms.kernels.volume import even_layers
from unmask.errors import many

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes lead left and to the back
UNEVEN = 0.05  # share of a step by which a slice may be off its place
MAX_FRAMES = 1 << 16
APART = 1e-3  # mm by which what is at the same place may differ


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice, or one frame of a file of several, as its header says it lies."""

    source: int  # which file
    frame: int | None  # None in a file of one
    size: tuple[int, int]  # rows, columns
    position: tuple[float, float, float] | None  # of the centre of the first voxel, mm to the left, back, head
    across: tuple[float, ...] | None  # 6 cosines: where columns count up to, and where rows do
    spacing: tuple[float, float] | None  # mm from row to row, from column to column
    thickness: float | None  # mm from slice to slice, as far as one slice can say
    place: float | None  # along the normal, where only this is known
    number: int
    slope: float
    intercept: float


def slices_of(header: Any, source: int) -> list[Slice]:
    """Every frame of a file. Raises BadImage for what has no pixels."""
    try:
        size = (int(header.Rows), int(header.Columns))
        frames = int(header.get("NumberOfFrames") or 1)
        if size[0] * size[1] * frames > MAX_VALUES or frames > MAX_FRAMES:
            raise BadImage(f"{frames} x {size[0]} x {size[1]} values, the limit is {MAX_VALUES:,}")
        shared = (header.get("SharedFunctionalGroupsSequence") or [{}])[0]
        each = header.get("PerFrameFunctionalGroupsSequence") or []
        first = _slice(header, (each[0] if each else {}, shared), size, source)
        if frames == 1:
            return [first]
        if len(each) == frames:
            return [replace(_slice(header, (own, shared), size, source), frame=n) for n, own in enumerate(each)]
        offsets = header.get("GridFrameOffsetVector") or []
        if len(offsets) != frames or first.position is None:
            return [replace(first, frame=n, position=None, place=None) for n in range(frames)]
        along = [np.asarray(first.position) + (float(n) - float(offsets[0])) * _normal(first) for n in offsets]
        return [replace(first, frame=n, position=tuple(map(float, place))) for n, place in enumerate(along)]
    except BadImage:
        raise
    except AttributeError:
        raise BadImage("DICOM without an image") from None
    except Exception as error:
        raise BadImage(f"damaged ({type(error).__name__})") from None


def _slice(header: Any, groups: tuple[Any, Any], size: tuple[int, int], source: int) -> Slice:
    """groups: what a frame says of itself, and what all frames share."""

    def numbers(count: int, group: str, *names: str) -> tuple[float, ...] | None:
        for holder in (*(part[group][0] for part in groups if part.get(group)), header):
            for name in names:
                value = holder.get(name)
                value = [value] if count == 1 else value or []
                if len(value) == count and all(str(n) not in ("", "None") for n in value):
                    if all(math.isfinite(float(n)) for n in value):
                        return tuple(float(n) for n in value)
        return None

    measures, rescale = "PixelMeasuresSequence", "PixelValueTransformationSequence"
    spacing = numbers(2, measures, "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    thickness = numbers(1, measures, "SpacingBetweenSlices", "SliceThickness")
    place = numbers(1, "", "SliceLocation")
    return Slice(
        source,
        None,
        size,
        numbers(3, "PlanePositionSequence", "ImagePositionPatient"),  # type: ignore[arg-type]
        numbers(6, "PlaneOrientationSequence", "ImageOrientationPatient"),
        spacing if spacing and min(spacing) > 0 else None,  # type: ignore[arg-type]
        thickness[0] if thickness and thickness[0] > 0 else None,
        place[0] if place else None,
        int((numbers(1, "", "InstanceNumber") or (0,))[0]),
        (numbers(1, rescale, "RescaleSlope") or (1.0,))[0] or 1.0,
        (numbers(1, rescale, "RescaleIntercept") or (0.0,))[0],
    )


def _normal(part: Slice) -> np.ndarray:
    across = np.asarray(part.across or (1, 0, 0, 0, 1, 0), np.float64)
    return np.cross(across[:3], across[3:])


def require_alike(slices: list[Slice], headers: list[Any]) -> None:
    """Raises BadImage for slices that make no volume."""
    sizes = sorted({part.size for part in slices})
    if len(sizes) > 1:
        raise BadImage(f"slices of {len(sizes)} sizes: " + ", ".join(f"{h} x {w}" for h, w in sizes[:4]))
    if not are_parallel(slices):
        raise BadImage("slices of several directions")
    bands = {int(header.get("SamplesPerPixel", 1)) for header in headers}
    if len(bands) > 1:
        raise BadImage("slices of grey and of colour")
    if len(slices) * math.prod(sizes[0]) * max(bands) > MAX_VALUES:
        raise BadImage(f"{len(slices)} slices of {sizes[0]} values, the limit is {MAX_VALUES:,}")


def are_parallel(slices: list[Slice]) -> bool:
    across = np.array([part.across or (0,) * 6 for part in slices], np.float64)
    return float(np.ptp(across, axis=0).max()) < 0.01


def _along(part: Slice) -> float | None:
    """mm along the normal, by the position or, without one, the slice location."""
    return part.place if part.position is None else float(np.dot(part.position, _normal(part)))


def in_order(slices: list[Slice]) -> tuple[list[Slice], list[str]]:
    """From the first along the normal to the last, those at one place by their number. What not all of them have, a
    position or a location, counts for none."""
    numbers, notes = {part: (part.number, part.source, part.frame or 0) for part in slices}, []
    if any(part.position is None for part in slices):
        all_placed = all(part.place is not None for part in slices)
        notes = [f"no positions in it: in the order of {'slice locations' if all_placed else 'instance numbers'}"]
        bare = {part: replace(part, position=None, place=part.place if all_placed else None) for part in slices}
        numbers = {bare[part]: number for part, number in numbers.items()}
    return sorted(numbers, key=lambda part: (round((_along(part) or 0.0) / APART), numbers[part])), notes


def once(slices: list[Slice]) -> tuple[list[Slice], np.ndarray | None, list[str]]:
    """Of ordered slices, the first at each place, and their places in mm; None where these are not known."""
    places = np.array([_along(part) for part in slices], np.float64)
    if np.isnan(places).any():
        return slices, None, []
    first = np.concatenate([[True], np.diff(places) > 10 * APART])
    left = int((~first).sum())
    notes = [f"{many(left, 'doubled slice')} left out"] if left else []
    return [part for part, keep in zip(slices, first) if keep], places[first], notes


def layers_of(places: np.ndarray | None, count: int) -> tuple[np.ndarray, list[str]]:
    """Where the layers of the volume lie, as indices of slices: even steps. Raises BadImage if most are missing."""
    if places is None or count < 3:
        return np.arange(count, dtype=np.float64), []
    steps = np.diff(places)
    depth = round(float(np.sum(steps)) / float(np.median(steps))) + 1
    if (missing := depth - count) > count:
        raise BadImage(f"{missing:,} of {depth:,} slices missing, by the places of the others")
    layers = even_layers(places, depth, UNEVEN)
    notes = [f"{many(missing, 'slice')} missing, interpolated between neighbours"] if missing > 0 else []
    gaps = steps[steps < 1.5 * np.median(steps)]
    if np.ptp(gaps) > 2 * UNEVEN * np.median(steps) or (missing <= 0 and (layers % 1).any()):
        notes.append(f"slices lie {steps.min():.3g} to {steps.max():.3g} mm apart: interpolated to even steps")
    return layers, notes


def affine_of(slices: list[Slice], depth: int) -> tuple[np.ndarray, list[str]]:
    """From column, row and slice to mm right, anterior, superior."""
    first, last, notes = slices[0], slices[-1], []
    across = np.asarray(first.across or (1, 0, 0, 0, 1, 0), np.float64)
    rows, columns = first.spacing or (1.0, 1.0)
    notes += [] if first.across else ["no direction in it: taken as axial"]
    notes += [] if first.spacing else ["no spacing of pixels in it: taken as 1 mm"]
    normal = _normal(first)
    step = normal * (first.thickness or 1.0)
    if depth > 1 and first.position and last.position:
        step = np.subtract(last.position, first.position) / (depth - 1)
        slant = math.degrees(math.acos(min(1.0, abs(float(step @ normal)) / float(np.linalg.norm(step)))))
        notes += [f"slices shifted by a tilt of {slant:.1f} degrees, which its affine has"] if slant > 0.5 else []
    elif depth > 1 and first.place is not None and last.place is not None and first.place != last.place:
        step = normal * (last.place - first.place) / (depth - 1)
    elif first.thickness is None:
        notes += ["no spacing of slices in it: taken as 1 mm"]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = across[:3] * columns, across[3:] * rows, step
    affine[:3, 3] = first.position or (0.0, 0.0, 0.0)
    return TO_RAS @ affine, notes
