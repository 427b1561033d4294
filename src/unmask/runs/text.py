"""What a run keeps of captions beside its encoder: their tokenizer, and the network that compares images with words.

text.safetensors holds the text tower and the two heads, and in its header how they are built and the tokenizer.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from unmask.data.captions.tokenizer import CaptionTokenizer, opened_tokenizer
from unmask.errors import UserError
from unmask.files import TEXT, Json, parse_json
from unmask.methods.align import Align
from unmask.methods.siglip import SigLIP
from unmask.models.state import load_strictly
from unmask.models.text.tower import TextTower
from unmask.weights.files import read_weights, require_finite, save_state

TOKENIZER_JSON = "tokenizer.json"  # in the folder of a run
POOLING = "mean"  # of the features that the head of images takes
HOW = "make one that has: unmask pretrain DATA --method siglip, where DATA has captions (docs/text.md)"


class Words(nn.Module):
    """Compares images with words: vectors of both, of unit length."""

    def __init__(self, text: TextTower, text_head: nn.Linear, image_head: nn.Linear, scale: Tensor):
        super().__init__()
        self.text, self.text_head, self.image_head = text, text_head, image_head
        self.register_buffer("scale", scale)  # of the cosines, as learnt

    def of_images(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        """features: of the pooling POOLING."""
        return normalize(self.image_head(features.float()), dim=1)

    def of_tokens(self, tokens: Tensor) -> Float[Tensor, "n o"]:
        return normalize(self.text_head(self.text(tokens)).float(), dim=1)


@dataclass(frozen=True)
class TextModel:
    """The words that a run has learnt, opened; in eval mode on the CPU."""

    words: Words
    tokenizer: CaptionTokenizer

    @torch.no_grad()
    def of_texts(self, texts: list[str]) -> Float[Tensor, "n o"]:
        """A vector of unit length for each text."""
        return self.words.of_tokens(self.tokenizer(texts))

    def cut(self, texts: list[str]) -> list[str]:
        """A sentence for each text that is longer than what was trained."""
        return [
            f"only the first {self.tokenizer.context - 1} tokens are read of {text[:60]!r}"
            for text in self.tokenizer.long(texts)
        ]


def save_text(objective: SigLIP, out: Path) -> None:
    """Writes the text tower and its heads, for the encoder as it is now; not for a training that keeps no tokenizer,
    as those of studies."""
    file = out / TOKENIZER_JSON
    if not file.exists():
        return
    tower = objective.text
    shape = {"vocabulary": tower.vocabulary, "context": tower.context, "dim": tower.dim, "depth": tower.depth}
    shape |= {"out": objective.out, "image": objective.encoder.dim}
    facts = {"text": json.dumps(shape), "tokenizer": file.read_text(encoding="utf-8")}
    words = Words(tower, objective.text_head, objective.image_head, objective.log_scale.detach().exp())
    save_state(words, out / TEXT, facts)


def hand_on_text(objective: Align, out: Path) -> None:
    """Writes the words of the teacher, compared with vectors of this encoder; nothing where it knows none."""
    space = objective.space
    if space is None:
        return
    words = _loaded(space.state, space.shape, objective.teacher.source)
    words.image_head = objective.head
    words.get_buffer("scale").copy_(objective.scale.detach())
    facts = space.header | {"text": json.dumps(space.shape | {"image": objective.encoder.dim})}
    save_state(words, out / TEXT, facts)


def has_text(run: Path) -> bool:
    return (run / TEXT).exists()


def open_text(run: Path) -> TextModel:
    """What a run learnt of words. Raises UserError for a run without."""
    file = run / TEXT
    if not file.exists():
        raise UserError(f"{run} knows no words: it was not trained with captions; {HOW}")
    state, header = read_weights(file)
    require_finite(state, file)
    shape = parse_json(header["text"])
    words = _loaded(state, shape, str(file))
    return TextModel(words.eval(), opened_tokenizer(header["tokenizer"], shape["context"], str(file)))


def _loaded(state: Mapping[str, Tensor], shape: Json, source: str) -> Words:
    """shape: of the networks, as the header of the file says it."""
    tower = TextTower(shape["vocabulary"], shape["context"], shape["dim"], shape["depth"])
    heads = nn.Linear(shape["dim"], shape["out"]), nn.Linear(shape["image"], shape["out"])
    words = Words(tower, *heads, torch.ones(()))
    load_strictly(words, dict(state), source)
    return words
