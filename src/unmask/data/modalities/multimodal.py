"""Samples of several kinds of data at once, such as a photograph, its depth and a sound. Bachmann et al. 2022
(MultiMAE), https://arxiv.org/abs/2204.01678.

Each part of a sample is decoded and cut by its own modality; a model sees all of them as one row of units, of which
each part has its own, and any part may be missing. How files make samples: `joint/pairing.py`; how they are packed:
`joint/packing.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.choice import Choice
from unmask.data.codecs.image import BadImage
from unmask.data.modalities.joint.classes import ClassMap
from unmask.data.modalities.joint.packing import Joint, JointWindow, Layout, NoWindow, stacked
from unmask.data.modalities.joint.pairing import (
    beside,
    find_parts,
    grouped,
    kinds_of_columns,
    labels_of,
    names_of,
    of_table,
    other_tables,
    place_of,
    read_table,
)
from unmask.data.modalities.joint.settling import Chosen, aligned, choose, is_flat, part_of, read_part
from unmask.data.modalities.joint.which import NAME, kind_of_file, kind_of_part
from unmask.data.modality import IMAGE, Decoded, Facts, Modality, Raw, Window, kinds, make_modality
from unmask.data.regular_files import head_of
from unmask.errors import UserError, many
from unmask.plain import PositiveInt, call_text
from unmask.registry import parse

__all__ = ["Multimodal"]
COUNTED = 4096  # values of each part that count in the statistics
SPREAD = 2.0  # deviations from the mean, to either side, that are drawn from black to white
Values = tuple[tuple[float, ...], ...]
Sizes = tuple[tuple[int, ...], ...]


class Multimodal(Modality):
    cheaper = "smaller images, and sounds resampled to their rate beforehand"
    word, axes, sizes = "sample", ("values",), ("parts",)
    gaps, by_path = True, True
    written = "of each part that can be played"

    def __init__(
        self,
        size: PositiveInt | None = None,
        patch: PositiveInt | None = None,
        sizes: Sizes | None = None,
        units: Sizes | None = None,
        means: Values | None = None,
        stds: Values | None = None,
        seen: Sequence[str] | None = None,
        **parts: object,
    ):
        """parts: the kind of each by its name, `multimodal(rgb=image, depth=image, sound=audio(rate=8000))`; maps of
        classes are `classes`. size: pixels along a side of images; patch: of a unit of any part. Chosen from the data
        and recorded: sizes, units (of each part along its axes), means and stds (of each part, per channel). seen:
        parts that are read, by default all; samples are as if they lacked the others."""
        self.kinds = {name: kind_of_part(name, text) for name, text in parts.items()}
        if len(parts) == 1:
            raise UserError(f"{NAME} is of two parts or more, and there is {next(iter(parts))} alone")
        if strange := [name for name in seen or () if name not in self.kinds]:
            raise UserError(f"{NAME}: seen names {strange[0]!r}, and the parts are {', '.join(self.kinds)}")
        self.size, self.patch, self.seen = size, patch, tuple(seen or self.kinds)
        self.layout: Layout | None = None
        if sizes and units and means and stds:
            if {len(sizes), len(units), len(means), len(stds)} != {len(parts)}:
                raise UserError(f"{NAME}: sizes, units, means and stds are of each of the {len(parts)} parts")
            made = zip(self.kinds.items(), sizes, units, means)
            self.parts = tuple(part_of(name, kind, sides, unit, mean) for (name, kind), sides, unit, mean in made)
            self.layout = Layout(self.parts, means, stds)

    @classmethod
    def claims(cls, name: str, head: bytes) -> bool:
        """Never one file alone: see `together`."""
        return False

    @classmethod
    def claims_if_wanted(cls, name: str, head: bytes) -> bool:
        return any(part.claims(name, head) for part in kinds().values() if part is not cls)

    @classmethod
    def together(cls, files: Mapping[str, Sequence[str]], root: str, wanted: str | None) -> str | None:
        options = parse(wanted)[1] if wanted else {}
        if wanted and any(isinstance(value, str) for value in options.values()):
            return wanted
        kind_of = partial(kind_of_file, root)
        if (rows := read_table(root)) is not None:
            parts = kinds_of_columns(rows, kind_of)
        else:
            paths = sorted(path for several in files.values() for path in several)
            parts = find_parts(paths, kind_of, sure=wanted is not None)
        return call_text(NAME, {**options, **parts}) if parts else None

    def grouped(self, paths: Sequence[str], root: str | None) -> tuple[list[tuple[str, ...]], list[str]]:
        if root is None:
            raise UserError("samples of several kinds are read from folders only; archives and shards: unpack them")
        rows = read_table(root)
        names = list(self.kinds)
        groups, remarks = grouped(paths, names, partial(self._fits, root)) if rows is None else of_table(rows, names)
        others = other_tables(root) if rows is None else []
        remarks += others
        together = sum(sum(map(bool, group)) > 1 for group in groups)
        if groups and not together and self.layout is None:
            present = [name for place, name in enumerate(names) if any(group[place] for group in groups)]
            raise UserError(
                f"no sample here has two of the parts {', '.join(names)}: there is {' and '.join(present)}, and files"
                " of one sample have one name" + "".join(f"; {remark}" for remark in others)
            )
        for place, name in enumerate(names):
            if missing := sum(not group[place] for group in groups):
                remarks.append(f"{name} is missing in {many(missing, 'sample')} of {len(groups):,}")
        return groups, remarks

    def sample_names(self, groups: Sequence[tuple[str, ...]]) -> list[str]:
        return names_of(groups, list(self.kinds))

    def own_labels(self, root: str) -> bytes | None:
        return labels_of(read_table(root) or [], list(self.kinds))

    def around(self, path: str) -> tuple[str, ...]:
        return beside(path, list(self.kinds))

    def settled(self, raws: Sequence[Callable[[], Raw]]) -> Modality:
        if self.layout is not None:
            return self
        samples = []
        for raw in raws:
            with suppress(BadImage, OSError):
                samples.append(self._files(raw()))
        chosen: list[Chosen] = []
        for name, kind in self.kinds.items():
            paths = [sample[name] for sample in samples if name in sample]
            flat = [own for own in chosen if own.flat]
            chosen.append(choose(name, kind, paths, self.size, self.patch, flat[0].size if flat else None))
        values = {"sizes": tuple(own.size for own in chosen), "units": tuple(own.unit for own in chosen)}
        values |= {"means": tuple(own.mean for own in chosen), "stds": tuple(own.std for own in chosen)}
        return make_modality(call_text(NAME, {own.name: own.text for own in chosen} | values))

    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        if self.layout is None:
            raise BadImage("of the samples that were looked at, none could be read")
        files, most = self._files(raw), 4 * max(max(part.grid.size) for part in self.parts)
        side = most if max_side is None else min(most, max_side)
        contents, decoded, lost, notes = {}, [], [], []
        shape: tuple[str, tuple[int, ...], tuple[int, int]] | None = None  # of the first image: size, and as decoded
        for part in self.parts:
            if part.name not in self.seen:
                continue
            if part.name not in files:
                notes.append(f"without {part.name}")
                continue
            kind = self.kinds[part.name]
            try:
                own = kind.decode(read_part(kind, files[part.name]), side)
                content = kind.fitted(own.content, part.channels)
                if is_flat(kind):
                    shape = shape or (part.name, own.size, (content.shape[1], content.shape[2]))
                    content = aligned(content, own.size, *shape, exact=isinstance(kind, ClassMap))
            except (BadImage, OSError) as error:
                lost.append(f"{part.name}: {error.strerror if isinstance(error, OSError) else error}")
                continue
            contents[part.name] = content
            decoded.append(own)
            notes += own.notes
        if not contents:
            raise BadImage("; ".join(lost) or f"has no {' and no '.join(self.seen)}")
        size = sum(int(getattr(content, "nbytes", 0)) for content in contents.values())
        formats = " + ".join(own.format for own in decoded)
        facts = (formats, (len(contents),), 1, max(own.bits for own in decoded), tuple(dict.fromkeys(notes)))
        return Decoded(Joint(contents, size), *facts, lost=tuple(lost))

    def num_channels(self, content: Joint) -> int:
        return 1

    def values(self, content: Joint) -> Float[Tensor, "1 n"]:
        """Some of each part, in its own deviations."""
        layout, values = self._layout, []
        for number, part in enumerate(self.parts):
            if part.name in content.contents:
                own = layout.normalised(number, self.kinds[part.name].values(content.contents[part.name])).flatten()
                values.append(own[:: max(1, len(own) // COUNTED)])
        return torch.cat(values)[None]

    def normalisation(self, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each part is normalised before it is packed."""
        return np.zeros_like(mean), np.ones_like(std)

    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        if self.layout is None:
            return NoWindow(size)
        own = [(self.kinds[part.name], part.grid.size) for part in self.parts]
        return JointWindow(self._layout, tuple(k.window(kind, s, share, flip and k.mirrored, resize) for k, s in own))

    def whole(self, size: tuple[int, ...]) -> JointWindow:
        return JointWindow(self._layout, tuple(self.kinds[part.name].whole(part.grid.size) for part in self.parts))

    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        layout, count = self._layout, len(self.parts)
        if patch not in (None, layout.width) or size not in (None, (layout.length,)):
            raise UserError(
                "sizes of several parts stand in the text of the modality, such as --modality"
                f' "{NAME}({", ".join(f"{name}=..." for name in self.kinds)}, size=96, patch=8)"; leave out'
                " --image-size and --patch-size"
            )
        shapes = [f"{part.name} {' x '.join(map(str, part.grid.size))}" for part in self.parts]
        shown = ", ".join(f"{part.name} {part.grid.num_units}" for part in self.parts)
        decoder = "dim=128, depth=1, heads=4" if small else "dim=256, depth=2, heads=8"
        return {
            "image_size": Choice([layout.length], f"values of all parts in a row: {'; '.join(shapes)}"),
            "patch_size": Choice(layout.width, f"values of a unit; units: {shown}"),
            "mask": Choice(
                f"dirichlet(ratio={0.75 if count < 3 else 0.83:g})",
                "as in MultiMAE: what is visible is shared out over the parts by chance",
            ),
            "decoder": Choice(f"per_part({decoder})", "as in MultiMAE: one for each part, all see every token"),
            "target": Choice("per_part", "the values of each part, and classes by cross-entropy"),
        }

    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        mirrored = all(kind.mirrored or not is_flat(kind) for kind in self.kinds.values())
        why = "all parts of a sample alike, as in MultiMAE"
        return {"crop": Choice(0.2, why), "flip": Choice("on" if mirrored else "off", why)}

    def full_size(self, given: Sequence[int]) -> tuple[int, ...]:
        return super().full_size(given[:1] if len(given) == 2 and given[0] == given[1] else given)

    def as_drawn(self, x: Float[Tensor, "_ length"], like: Tensor | None = None) -> Float[Tensor, "1 length"]:
        """0 to 255: images as they are, other parts from `SPREAD` deviations below their mean to as many above."""
        layout, views = self._layout, []
        for number, (part, view) in enumerate(zip(self.parts, layout.unpack(x))):
            if part.classes:
                views.append(self.kinds[part.name].as_drawn(view.float()))
            elif self.kinds[part.name].text == IMAGE and all(1 < mean < 254 for mean in layout.means[number]):
                views.append(layout.raw(number, view).clamp(0, 255))
            else:
                views.append(((view.float() + SPREAD) / (2 * SPREAD) * 255).clamp(0, 255))
        return layout.pack(views)

    def flat(self, x: Shaped[Tensor, "_ length"]) -> Shaped[Tensor, "3 p q"]:
        """The parts below each other."""
        return stacked([self.kinds[p.name].flat(view) for p, view in zip(self.parts, self._layout.unpack(x))])

    def shown(self, content: Joint, view: Float[Tensor, "1 length"]) -> Shaped[Tensor, "k p q"]:
        """By the first image, where the sample has one."""
        images = [name for name, kind in self.kinds.items() if kind.text == IMAGE and name in content.contents]
        return content.contents[images[0]] if images else self.flat(self.as_drawn(view))

    def write(self, x: Float[Tensor, "1 length"], path: Path) -> Path | None:
        written = None
        for number, (part, view) in enumerate(zip(self.parts, self._layout.unpack(x))):
            if not part.classes and not view.isnan().all():
                own = self.kinds[part.name].write(self._layout.raw(number, view), Path(f"{path}-{part.name}"))
                written = own or written
        return written

    @property
    def _layout(self) -> Layout:
        if self.layout is None:
            raise UserError(f"the sizes of the parts of {self.text} are not chosen yet: they are once data is opened")
        return self.layout

    def _files(self, raw: Raw) -> dict[str, str]:
        """The files of a sample by the name of their part. Raises BadImage where nothing says which part a file is."""
        if isinstance(raw, tuple):
            return {name: path for name, path in zip(self.kinds, raw) if path}
        if not isinstance(raw, str):
            raise BadImage("a sample of several parts consists of files")
        place = place_of(raw, self.kinds)
        fitting = [place[0]] if place else self._fits("", raw)
        if len(fitting) != 1:
            raise BadImage(f"nothing says which part it is: name the file, or its folder, {' or '.join(self.kinds)}")
        return {fitting[0]: raw}

    def _fits(self, root: str, path: str) -> list[str]:
        file = str(Path(root, path))
        return [name for name, kind in self.kinds.items() if kind.claims(path, head_of(file))]
