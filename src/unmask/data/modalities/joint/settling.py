"""What is chosen for each part of samples of several kinds, from a few of them: its size, units, mean and deviation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.data.codecs.image import BadImage
from unmask.data.modalities.joint.classes import ClassMap
from unmask.data.modality import Modality, Raw
from unmask.data.moments import Moments
from unmask.data.regular_files import read_regular
from unmask.data.transforms.kernels.crop import resized
from unmask.errors import DataError, UserError
from unmask.masking.grid import Grid, Part

SIDE = 256  # pixels to which images are shrunk while they are looked at
ACROSS = 8, 14  # units along a side of an image, about, without and with a CUDA GPU
SMALLEST, LARGEST = 4, 16  # pixels of a unit
DIGITS = 5  # of means and deviations
TALLER = 0.03  # by how much the shapes of images of one sample may differ, as a share


@dataclass(frozen=True)
class Seen:
    """Facts on the samples of a part that were looked at."""

    count: int
    min_size: tuple[int, ...]
    median_size: tuple[int, ...]
    max_size: tuple[int, ...]
    share_extreme: float = 0.0


@dataclass(frozen=True)
class Chosen:
    """What is recorded of a part."""

    name: str
    text: str  # of its kind
    flat: bool
    size: tuple[int, ...]
    unit: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def is_flat(kind: Modality) -> bool:
    """True for images, scenes and maps of classes: those of one sample show the same, and are cropped alike."""
    return kind.axes == ("height", "width")


def read_part(kind: Modality, path: str) -> Raw:
    """What a kind decodes of a file."""
    return path if kind.by_path else read_regular(path)


def part_of(name: str, kind: Modality, size: tuple[int, ...], unit: tuple[int, ...], mean: tuple[float, ...]) -> Part:
    """A part of the row. Raises UserError for a size that is no whole number of units."""
    grid = Grid((1,) * len(unit), tuple(unit)).covering(size)
    return Part(name, grid, len(mean), (kind.count or 0) if isinstance(kind, ClassMap) else 0)


def choose(
    name: str,
    kind: Modality,
    paths: Sequence[str],
    side: int | None,
    patch: int | None,
    first: tuple[int, ...] | None,
) -> Chosen:
    """Reads the files and chooses. side, patch: asked for, of images and of units; first: size of the first part that
    is flat, which the others take. Raises DataError where no file of the part can be read."""
    kind = kind.settled([lambda path=path: read_part(kind, path) for path in paths])
    contents, sizes, reason = [], [], ""
    for path in paths:
        try:
            decoded = kind.decode(read_part(kind, path), SIDE)
        except (BadImage, OSError) as error:
            reason = f"{path}: {error}"
            continue
        contents.append(decoded.content)
        sizes.append(decoded.size)
    if not paths:
        raise DataError(
            f"no sample that was looked at has the part {name}: see whether its files are there and are called as those"
            f" of the other parts, or leave {name} out of --modality"
        )
    if not contents:
        raise DataError(f"no file of the part {name} could be read, such as {reason}")
    along = [sorted(sides) for sides in zip(*sizes)]
    low, middle, high = (tuple(pick(sides) for sides in along) for pick in (min, median_low, max))
    facts, small = Seen(len(sizes), low, middle, high), not torch.cuda.is_available()
    size, unit = _shape(kind, facts, side, patch, first, small)
    if isinstance(kind, ClassMap):
        count = kind.count or int(max(float(content.nan_to_num(0).max()) for content in contents))
        return Chosen(name, f"classes(count={max(1, count)})", True, size, unit, (0.0,), (1.0,))
    return Chosen(name, kind.text, is_flat(kind), size, unit, *_statistics(name, kind, contents))


def _shape(
    kind: Modality, facts: Seen, side: int | None, patch: int | None, first: tuple[int, ...] | None, small: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and unit of a part."""
    if is_flat(kind) and (first or side):
        size, choices = first or (side or 0,) * 2, {}
    else:
        choices = kind.choices(facts, patch, small)
        size = kind.full_size(choices["image_size"].value)
    wanted = min(LARGEST, max(SMALLEST, min(size[-2:]) / ACROSS[not small]))
    divisors = [n for n in range(2, LARGEST + 1) if all(length % n == 0 for length in size[-2:])]
    usual = min(divisors, key=lambda n: abs(n - wanted), default=min(size[-2:]))
    patch = patch or (int(choices["patch_size"].value) if "patch_size" in choices else usual)
    unit = kind.unit(patch, size)
    unit = (unit,) * len(size) if isinstance(unit, int) else tuple(unit)
    if is_flat(kind) and side and any(length % part for length, part in zip(size, unit)):
        near = max(1, round(side / unit[0])) * unit[0]
        raise UserError(f"multimodal: size={side} is no multiple of patch={unit[0]}; the nearest is {near}")
    return tuple(max(1, round(length / part)) * part for length, part in zip(size, unit)), unit


def _statistics(name: str, kind: Modality, contents: Sequence[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel, for as many channels as most have; for RGB where some images have colours."""
    counts = Counter(kind.num_channels(content) for content in contents)
    channels = 3 if kind.colour and counts.keys() <= {1, 3} and 3 in counts else counts.most_common(1)[0][0]
    moments = Moments.empty(channels)
    for content in contents:
        try:
            moments.add(kind.values(kind.fitted(content, channels)))
        except BadImage:
            continue
    mean, std = moments.mean_std()
    return tuple(float(f"{v:.{DIGITS}g}") for v in mean), tuple(float(f"{v:.{DIGITS}g}") for v in std)


def aligned(
    content: Shaped[Tensor, "c h w"],
    size: tuple[int, ...],
    other: str,
    other_size: tuple[int, ...],
    shape: tuple[int, int],
    exact: bool,
) -> Shaped[Tensor, "c p q"]:
    """An image at the size of another one of its sample. size, other_size: of the originals; exact: without values in
    between. Raises BadImage where they cannot show the same."""
    if abs(size[0] * other_size[1] / (size[1] * other_size[0]) - 1) > TALLER:
        shown = " and ".join(" x ".join(map(str, sides)) for sides in (size, other_size))
        raise BadImage(f"is of another shape than {other}, {shown}, and images of one sample show the same")
    if tuple(content.shape[1:]) == shape:
        return content
    exact = exact or bool(content.isnan().any())
    return interpolate(content[None], shape, mode="nearest-exact")[0] if exact else resized(content, shape)
