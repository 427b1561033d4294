"""The tokenizer of captions: byte pairs that are merged as often as they occur, learnt from the captions of a run.

Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) of the library `tokenizers`: any text of any script can be
written with it, so no word is unknown. Capital letters are made small, as in SigLIP.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from unmask.errors import UserError
from unmask.files import parse_json
from unmask.plain import PositiveInt
from unmask.version import install_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, END = 0, 1  # a row of nothing but padding: no caption
SPECIAL = ["<pad>", "<end>"]
LEAST = len(SPECIAL) + 256  # tokens: every byte is one
LEARNT_FROM = 1_000_000  # captions at the most, spread over all


@dataclass(frozen=True)
class CaptionSettings:
    """What a method needs to know of captions."""

    vocabulary: PositiveInt  # tokens at the most
    context: PositiveInt  # tokens of a caption at the most, its end included

    def __post_init__(self):
        if self.vocabulary < LEAST:
            raise UserError(f"vocabulary={self.vocabulary} is less than the {LEAST} tokens that all texts need")
        if self.context < 2:
            raise UserError(f"context={self.context} leaves no room for words: give 2 or more")


@dataclass(frozen=True)
class CaptionTokenizer:
    """Texts to rows of tokens. Its JSON is what the library `tokenizers` reads and writes."""

    json: str
    context: int

    def __getstate__(self) -> dict[str, object]:
        return {"json": self.json, "context": self.context}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        return _library().Tokenizer.from_str(self.json)

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "n l"]:
        """A row for each text: its tokens, the end, and padding; longer texts are cut."""
        rows = torch.zeros(len(texts), self.context, dtype=torch.long)
        for row, encoding in zip(rows, self._tokenizer.encode_batch(list(texts))):
            ids = [*encoding.ids[: self.context - 1], END]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text is, with its end, if nothing is cut."""
        return [len(encoding.ids) + 1 for encoding in self._tokenizer.encode_batch(list(texts))]

    def long(self, texts: Sequence[str]) -> list[str]:
        """The texts that are cut."""
        return [text for text, length in zip(texts, self.lengths(texts)) if length > self.context]


def train_tokenizer(texts: Iterable[str], settings: CaptionSettings) -> CaptionTokenizer:
    """A function of the texts, whatever their order and number of threads."""
    library = _library()
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = library.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=2,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    captions = sorted(texts)
    tokenizer.train_from_iterator(captions[:: max(1, len(captions) // LEARNT_FROM)], trainer)
    content = parse_json(tokenizer.to_str())
    return CaptionTokenizer(json.dumps(content, ensure_ascii=False, indent=1), settings.context)


def opened_tokenizer(text: str, context: int, where: str) -> CaptionTokenizer:
    """The tokenizer in a JSON text. Raises UserError for what is none."""
    tokenizer = CaptionTokenizer(text, context)
    try:
        tokenizer(["a"])
    except UserError:
        raise
    except Exception as error:  # whatever the library raises is an Exception and nothing narrower
        raise UserError(f"{where} holds no tokenizer that can be read ({str(error)[:100]})") from error
    return tokenizer


def _library():
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns in every process that loads images
    try:
        import tokenizers
    except ImportError as error:
        line = install_line("unmask[text]")
        raise UserError(f"captions are read by tokenizers, which is not installed: {line}") from error
    return tokenizers
