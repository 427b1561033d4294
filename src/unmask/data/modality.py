"""The contract of modalities: what a sample is, and how it is recognised, decoded, cut to size, planned for and drawn.

Nothing above `data/` knows an axis: it asks the modality of the source, or of the encoder. A part in `modalities/` is
one kind of data, such as images, clips or recordings.
"""

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Shaped
from torch import Generator, Tensor

from unmask import registry
from unmask.choice import Choice
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.scenes.piece import Division, Piece
from unmask.data.transforms.kernels.window import WholeWindow, Window
from unmask.data.value_range import Ends
from unmask.errors import UserError, many
from unmask.masking.grid import Part

IMAGE = "image"  # the modality of what says nothing
Sample = Float[Tensor, "c *size"]  # what a model sees
Cover = Bool[Tensor, "*size"]  # True in some places of it
Raw = bytes | np.ndarray | str | tuple[str, ...] | Piece
# content; array; path, or several of one sample ("": one is missing), of files read where they lie; a piece of one


@dataclass(frozen=True)
class Decoded:
    """A sample as its modality decodes it."""

    content: Any  # a tensor `c *size`; or an object that reads parts of itself when they are asked for
    format: str  # "JPEG", "WAV", "array", ...
    size: tuple[int, ...]  # of the original along the modality's axes
    channels: int
    bits: int  # per value as stored
    notes: tuple[str, ...] = ()  # what was done to it
    ends: Ends | None = None  # smallest and largest value, where values are as stored, in any units
    lost: tuple[str, ...] = ()  # parts of it that cannot be used, each with the reason

    @cached_property
    def nbytes(self) -> int:
        """What it takes to keep the content in memory."""
        return int(getattr(self.content, "nbytes", 0))


@runtime_checkable
class Facts(Protocol):
    """What a choice of sizes and crops depends on: the data sheet."""

    @property
    def count(self) -> int: ...

    @property
    def min_size(self) -> tuple[int, ...]: ...

    @property
    def median_size(self) -> tuple[int, ...]: ...

    @property
    def max_size(self) -> tuple[int, ...]: ...

    @property
    def share_extreme(self) -> float: ...


class Modality(ABC):
    """Parts in `modalities/`; their options are written in their text, `audio(rate=16000)`."""

    word: ClassVar[str] = "image"  # one sample, for people; the plural adds an s
    axes: tuple[str, ...] = ("height", "width")  # of what a model sees
    sizes: ClassVar[tuple[str, ...]] = ("height", "width")  # what the size of a file's sample says, in this order
    colour: ClassVar[bool] = False  # one and three channels can stand for each other: grey and RGB
    gaps: ClassVar[bool] = False  # what a model sees may hold NaN, where there is no value
    mirrored: ClassVar[bool] = True  # a sample may be mirrored at random
    by_path: ClassVar[bool] = False  # files are read in parts, from where they lie
    weak: ClassVar[bool] = False  # where as many files are of another kind, that one counts
    divides: ClassVar[bool] = False  # files may have `pieces`,
    piece: ClassVar[str] = ""  # which are called so
    labelled: ClassVar[str] = ""  # what a map of labels has labels of: "pixel", "voxel", "point"; "": there are no maps
    placed: bool = False  # its units have places of their own, which differ from sample to sample: see Grid.places
    lines: ClassVar[bool] = False  # drawn as a curve for each channel over its one axis
    pictured: ClassVar[bool] = False  # drawn as a picture of its own (`drawn`), not as values laid out (`flat`)
    endings: ClassVar[tuple[str, ...]] = ()  # a file called so whose content no kind knows is a bad one of this kind
    keys: ClassVar[tuple[str, ...]] = ()  # names of arrays of samples in one .npz file
    array_axes: ClassVar[tuple[int, ...]] = ()  # that such an array may have, the first of which is the sample
    written: ClassVar[str] = ""  # what `write` makes of a sample, for people
    cheaper: ClassVar[str] = "smaller files"  # to read, for people; {side}: half as much again as a model sees
    planes: int = 0  # channels at the end of a view that hold one value each, told of the sample as a whole
    text: str  # as `build` was given it, so that it can be built again
    parts: tuple[Part, ...] = ()  # that what a model sees consists of, one after the other; see `Grid.parts`

    @property
    def for_encoder(self) -> dict[str, Any]:
        """What `create_encoder` is told of the inputs."""
        return {"modality": self.text, "gaps": self.gaps, "parts": self.parts, "placed": self.placed}

    @classmethod
    @abstractmethod
    def claims(cls, name: str, head: bytes) -> bool:
        """True if a file is of this kind, by its first `signature.HEAD` bytes; by its name only where they cannot
        tell."""

    @classmethod
    def claims_if_wanted(cls, name: str, head: bytes) -> bool:
        """As `claims`, where a person asked for this kind: files that are usually of another one too."""
        return cls.claims(name, head)

    def grouped(self, paths: Sequence[str], root: str | None) -> tuple[list[tuple[str, ...]], list[str]]:
        """The files of each sample, in order, of relative paths that were claimed: usually a sample for each file. And
        remarks on files that are in none. root: the folder that they lie in; None: an archive, a list or a shard, where
        a sample is one file; UserError for a kind of which none is."""
        return [(path,) for path in paths], []

    @classmethod
    def together(cls, files: Mapping[str, Sequence[str]], root: str, wanted: str | None) -> str | None:
        """The text of this kind where files in a folder make samples of it by how they lie beside each other; None
        where they do not. files: relative paths by the name of their kind; wanted: as for `Sorting`."""
        return None

    def sample_names(self, groups: Sequence[tuple[str, ...]]) -> list[str]:
        """What samples are called, by the relative paths of their files."""
        return [sample_name(group) for group in groups]

    def own_labels(self, root: str) -> bytes | None:
        """Labels and splits of the samples in a folder as a `labels.csv`, where their own files say them."""
        return None

    def around(self, path: str) -> tuple[str, ...]:
        """The files of the sample that a file belongs to: usually itself."""
        return (path,)

    def settled(self, raws: Sequence[Callable[[], Raw]]) -> "Modality":
        """The same kind with options that were left open chosen for these data, of which a few samples may be read."""
        return self

    def pieces(self, raw: Raw) -> Division:
        """Where in a file's content, or at its path, the parts lie that are samples of their own; none where the whole
        is one, or where it cannot be read, which `decode` says."""
        return Division()

    def row(self, array: np.ndarray, place: int) -> np.ndarray:
        """One of the samples in an array, along its first axis, with axes as `decode` takes them."""
        return array[place]

    def columns(self, raw: Raw) -> Mapping[str, str]:
        """What tables of predictions say of a sample besides its name: where it lies on the Earth ..."""
        return {}

    @abstractmethod
    def decode(self, raw: Raw, max_side: int | None = None) -> Decoded:
        """The sample in a file's content, at its path, or in an array. Raises BadImage with the reason, and nothing
        else. max_side: larger samples may be shrunk to this while they are decoded."""

    def fitted(self, content: Any, channels: int) -> Any:
        """The same content with as many channels as a run uses. Raises BadImage where they cannot be had."""
        have = self.num_channels(content)
        if have != channels:
            raise BadImage(f"has {have} channel{'s' * (have != 1)}, the run uses {channels}")
        return content

    def num_channels(self, content: Any) -> int:
        return int(content.shape[0])

    def values(self, content: Any) -> Shaped[Tensor, "c *size"]:
        """What of a sample counts in the statistics of its data, in a model's units. NaN: no value."""
        return content

    def normalisation(self, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation by which an encoder is to normalise, of those of `values`."""
        return mean, std

    @abstractmethod
    def window(self, kind: str, size: tuple[int, ...], share: float, flip: bool, resize: str) -> Window:
        """What training sees of a sample. kind: "random", "fixed" or "whole"; share: the least of a sample that a
        random part covers; flip: mirror it by chance, where that has a meaning; resize: "exact" or "fast"."""

    @abstractmethod
    def whole(self, size: tuple[int, ...]) -> WholeWindow:
        """What judging sees of a sample: all of it, or the middle."""

    def num_views(self, sheet: Facts, size: tuple[int, ...]) -> Choice | None:
        """How many views of a sample are judged together in tests, where that is more than `whole` sees; None for kinds
        of which one view is all there is."""
        return None

    def views_at_test(self, size: tuple[int, ...], count: int) -> Callable[[Any], Tensor]:
        """So many views of a sample without chance, `n c *size`. Raises UserError for kinds that have one."""
        raise UserError(f"--clips is for videos; a {self.word} is seen whole")

    def repeated(self, content: Any, generator: Generator) -> Any:
        """A sample of which several random views are made: what has to be decoded for all of them is decoded once."""
        return content

    @abstractmethod
    def choices(
        self, sheet: Facts, patch: int | None, small: bool, size: tuple[int, ...] | None = None
    ) -> Mapping[str, Choice]:
        """What this kind of data wants: image_size, and whatever else is not as for images (patch_size, mask, decoder
        ...), each with its reason. patch, size: what the user asked for; small: without a CUDA GPU."""

    @abstractmethod
    def augmentation(self, sheet: Facts, channels: int) -> Mapping[str, Choice]:
        """crop and flip, once it is known how many channels a model sees."""

    def full_size(self, given: Sequence[int]) -> tuple[int, ...]:
        """The size of a sample along all axes, of what a user gives with --image-size, where one number stands for
        two equal ones. Raises UserError for a wrong number of sides."""
        if len(given) != len(self.axes) and len(set(given)) == 1 and len(given) <= 2:
            return tuple(given[:1]) * len(self.axes)
        if len(given) != len(self.axes):
            raise UserError(
                f"--image-size of {self.word}s is {' '.join(self.axes).upper()} or one number for all;"
                f" got {' '.join(map(str, given))}"
            )
        return tuple(given)

    def unit(self, patch: int, size: tuple[int, ...]) -> int | tuple[int, ...]:
        """The sides of a unit that --patch-size means; of two equal ones, one number."""
        return patch if len(size) == 2 else (patch,) * len(size)

    def as_drawn(self, x: Shaped[Tensor, "c *size"], like: Tensor | None = None) -> Shaped[Tensor, "c *size"]:
        """The same with all values on one scale, by which they are drawn: what the model is given, usually. like: the
        sample that sets the scale, where each has its own; None: x."""
        return x

    def flat(self, x: Shaped[Tensor, "c *size"]) -> Shaped[Tensor, "k p q"]:
        """What a model sees laid out as an image, values unchanged: frames side by side, slices ..."""
        return x

    def drawn(self, x: Shaped[Tensor, "c *size"]) -> Shaped[Tensor, "k p q"]:
        """A picture of what a model sees; if it is `pictured`, 0..255, without the parts that are NaN."""
        return self.flat(self.as_drawn(x))

    def distance(self, x: Sample, rebuilt: Sample, hidden: Cover) -> str:
        """How far hidden parts were rebuilt from the truth, in words; of what is `pictured`."""
        return ""

    def shown(self, content: Any, view: Shaped[Tensor, "c *size"]) -> Shaped[Tensor, "k p q"]:
        """How one sample is shown among others, in lists and galleries: by what a model sees of it."""
        return self.drawn(view)

    def legend(self, channels: int) -> str:
        """What of a sample pictures show, as a sentence without its full stop; "" where they show all of it."""
        return ""

    def network(self, channels: int) -> Mapping[str, object]:
        """Options of the encoder that this kind of data needs."""
        return {}

    def colours(self, channels: int) -> Sequence[str] | None:
        """Names of the channels for weights that know red, green and blue; None where they say nothing."""
        return None

    def write(self, x: Shaped[Tensor, "c *size"], path: Path) -> Path | None:
        """Writes what a model sees, or has rebuilt, as a file to be played; None where a picture says it all. path:
        without an ending."""
        return None

    def animate(self, x: Sample, rebuilt: Sample, hidden: Cover, path: Path) -> Path | None:
        """Writes input, visible and rebuilt side by side as one moving picture; None where a still says it all. path:
        without an ending."""
        return None

    def masked_for_labels(self, x: Shaped[Tensor, "c *size"], generator: Generator) -> Shaped[Tensor, "c *size"]:
        """A view as it is changed at random when a classifier is trained, beside its crop."""
        return x

    def many(self, count: int) -> str:
        return many(count, self.word)


def by_share(size: tuple[int, ...], patch: int) -> tuple[int, ...]:
    """The nearest size of whole patches, at least two along each side."""
    return tuple(max(2, round(side / patch)) * patch for side in size)


def sample_name(paths: Sequence[str]) -> str:
    """The name of a sample by its relative paths: the folder that its files lie in, if there are several."""
    return paths[0] if len(paths) == 1 else posixpath.commonpath([posixpath.dirname(path) for path in paths]) or "."


def make_modality(text: str) -> Modality:
    """The part that the text names. Raises UserError for an unknown one."""
    modality: Modality = registry.build("modality", text)
    modality.text = text
    return modality


def kinds() -> dict[str, type[Modality]]:
    """Every modality by name, images first."""
    names = sorted(registry.names("modality"), key=lambda name: (name != IMAGE, name))
    return {name: registry.find("modality", name) for name in names}
