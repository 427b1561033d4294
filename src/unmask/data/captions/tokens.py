"""The captions of a data set as tokens, of which a batch holds one caption for each image."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from unmask.data.captions.tokenizer import CaptionSettings, CaptionTokenizer, train_tokenizer

DRAWN = 0xCA97  # keeps the chance by which a caption is drawn apart from that of crops


class Captions:
    """The captions of n images, each with any number of them."""

    def __init__(self, texts: Sequence[tuple[str, ...]]):
        self.texts = list(texts)
        self.tokenizer: CaptionTokenizer | None = None  # that of the run; trained where there is none
        self._tokens: CaptionTokens | None = None

    @cached_property
    def all(self) -> list[str]:
        return [caption for several in self.texts for caption in several]

    def trained(self, settings: CaptionSettings) -> CaptionTokenizer:
        """The tokenizer of the run, or one that is trained on these captions."""
        if self.tokenizer is None or self.tokenizer.context != settings.context:
            self.tokenizer, self._tokens = train_tokenizer(self.all, settings), None
        return self.tokenizer

    def tokens(self, settings: CaptionSettings) -> "CaptionTokens":
        tokenizer = self.trained(settings)
        if self._tokens is None:
            ends = list(accumulate(map(len, self.texts), initial=0))
            self._tokens = CaptionTokens(tokenizer(self.all).to(torch.int32), torch.tensor(ends))
        return self._tokens


class CaptionTokens:
    """Rows of tokens of all captions, and where those of each image begin."""

    def __init__(self, rows: Int[Tensor, "m l"], starts: Int[Tensor, "n1"]):
        self.rows, self.starts = rows, starts

    def draw(self, image: int, generator: Generator) -> Int[Tensor, "l"]:
        """A caption of an image, at random; zeros where it has none."""
        return self.drawn(torch.tensor([image]), torch.rand(1, generator=generator, dtype=torch.float64))[0]

    def drawn(self, images: Int[Tensor, "b"], chance: Float[Tensor, "b"]) -> Int[Tensor, "b l"]:
        """A caption of each image, by numbers in [0, 1)."""
        if not len(self.rows):
            return torch.zeros(len(images), self.rows.shape[1], dtype=torch.long)
        first, count = self.starts[images], self.starts[images + 1] - self.starts[images]
        rows = (first + (chance * count).long()).clamp(max=len(self.rows) - 1)
        return self.rows[rows].long() * (count > 0)[:, None]
