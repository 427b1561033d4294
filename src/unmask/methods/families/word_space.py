"""The space in which a run trained on captions compares images with words, for methods that bring other data to it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from unmask.files import TEXT, Json, parse_json
from unmask.weights.canonical import State
from unmask.weights.files import read_weights, require_finite


@dataclass(frozen=True)
class WordSpace:
    state: State  # of the networks of images and words, as `runs/text.py` builds them
    header: dict[str, str]

    @cached_property
    def shape(self) -> Json:
        """The sizes of these networks."""
        return parse_json(self.header["text"])

    def of_images(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b o"]:
        """features: the mean over an image's patches, of the run's own encoder."""
        weight, bias = (self.state[f"image_head.{name}"].to(features.device) for name in ("weight", "bias"))
        return linear(features, weight, bias)


def open_word_space(source: str) -> WordSpace | None:
    """Of a run folder; None where it knows no words."""
    file = Path(source).expanduser() / TEXT
    if not file.exists():
        return None
    with torch.device("cpu"):  # plans are made on the meta device
        state, header = read_weights(file)
    require_finite(state, file)
    return WordSpace(state, header)
