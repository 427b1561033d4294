"""A frozen tokenizer: the ids of a codebook that a method predicts, for the units of a student's grid.

It lies outside of the objective's parameters like a frozen teacher, and a run records the same of it.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, islice

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.data.sheet import far_channels
from unmask.errors import UserError
from unmask.files import Json
from unmask.masking.grid import Grid
from unmask.models.encoder import Encoder
from unmask.models.tokenizer import Autoencoder, Tokenizer
from unmask.weights.canonical import hash_of
from unmask.weights.content import stamp
from unmask.weights.frozen_teacher import Frozen
from unmask.weights.licence import licence_of
from unmask.weights.tokenizers import OpenedTokenizer, open_tokenizer


class FrozenTokenizer(Frozen):
    """Ids of raw samples for the units of a student's grid. The network follows its input to its device."""

    word = "tokenizer"

    def __init__(self, source: "str | Tokenizer", student: Encoder):
        """source: the folder of a run, or a file, as `open_tokenizer` takes them; or a network that is ready.

        student: tells the channels of the samples with their mean and std, and the usual grid. Raises UserError where
        the tokenizer cannot be opened, or cannot see such samples.
        """
        super().__init__()
        # plans are made on the meta device, where weights have no values; a network that is opened draws random numbers
        # before it is filled, which must not change what the student gets
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            opened, self.sha256 = _open(source, stamp(source)) if isinstance(source, str) else _ready(source)
        self._tokenizer = [opened.tokenizer.requires_grad_(False)]  # in a list: no child of this module
        self.source = source if isinstance(source, str) else opened.model
        self.opened, self.usual = opened, student.grid
        self.num_codes = self.tokenizer.num_codes
        self.lines: Sequence[str] = (f"{self.source}: {opened.layout}, {opened.model}",)
        if self.tokenizer.channels != student.channels:
            raise UserError(
                f"the tokenizer {self.source} sees {self.tokenizer.channels} channels, the images have"
                f" {student.channels}: give --channels {self.tokenizer.channels}, or train a tokenizer on these images"
                " (unmask pretrain DATA --method vqvae)"
            )
        self._data = None if student.mean.is_meta else student.statistics
        self.own_units = self._data is None or not far_channels(self._data, self.tokenizer.statistics)
        self.size_for(student.grid)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer[0]

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c h w"], grid: Grid) -> Int[Tensor, "b n"]:
        """Ids of the units of `grid`, in reading order, for raw samples of any size that show what it covers."""
        network = self.tokenizer
        if any(tensor.device != x.device for tensor in islice(chain(network.parameters(), network.buffers()), 1)):
            network.to(x.device)
            if isinstance(network, Autoencoder):
                network.encoder.to(x.device)
        size = self.size_for(grid)
        if size != tuple(x.shape[2:]):
            x = interpolate(x.float(), size, mode="bilinear", antialias=True)
        if not self.own_units:
            x = self._in_its_units(x)
        with torch.autocast(x.device.type, enabled=False):
            return network.ids(x)

    def size_for(self, grid: Grid) -> tuple[int, ...]:
        """Height and width at which the tokenizer has an id for each unit of a grid. Raises UserError where it cannot
        see such an image."""
        own = self.tokenizer.grid
        size = tuple(count * side for count, side in zip(grid.shape, own.unit))
        try:
            own.covering(size)
        except UserError as error:
            what = f"the tokenizer {self.source} has no ids for {_text(grid.shape)} patches"
            raise UserError(f"{what}: {error}") from error
        return size

    def _in_its_units(self, x: Tensor) -> Tensor:
        """Samples of other units, such as 16 bits, brought to the mean and std that it was made for."""
        assert self._data is not None
        (mean, std), (own_mean, own_std) = self._data, self.tokenizer.statistics
        columns = [torch.tensor(values, device=x.device).view(-1, 1, 1) for values in (mean, std, own_mean, own_std)]
        return (x.float() - columns[0]) / columns[1] * columns[3] + columns[2]

    @property
    def facts(self) -> Json:
        opened = self.opened
        facts = {"source": self.source, "model": opened.model, "licence": opened.licence}
        return facts | {"layout": opened.layout, "sha256": self.sha256}

    @property
    def note(self) -> str:
        size = self.size_for(self.usual)
        seen = f"frozen; {self.num_codes:,} ids; sees images at {_text(size)} pixels"
        if size != self.usual.size:
            seen += f", so that each of the {_text(self.usual.shape)} patches has one id"
        if not self.own_units:
            seen += "; brought to the mean and std that it was made for"
        return f"{seen}; licence: {licence_of(self.facts)}"


@lru_cache(maxsize=2)
def _open(source: str, times: tuple[float, ...]) -> tuple[OpenedTokenizer, str]:
    """times: of the files, so that changed ones are opened anew."""
    opened = open_tokenizer(source)
    return opened, hash_of(opened.state)


def _ready(network: Tokenizer) -> tuple[OpenedTokenizer, str]:
    state = dict(network.state_dict())
    text = getattr(network, "text", type(network).__name__)
    return OpenedTokenizer(network.eval(), state, text, "a part", None), hash_of(state)


def _text(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
