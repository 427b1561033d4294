"""Classification by words alone: each class is described in a few words, and an image is of the class that fits best.

Radford et al. 2021 (CLIP), section 3.1: the vectors of several templates are averaged.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from unmask.errors import UserError
from unmask.evaluation.features import Features
from unmask.evaluation.intervals import wilson
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.report.words import percent
from unmask.runs.text import POOLING, TextModel, Words, open_text
from unmask.tasks.classification.frozen import FrozenClassifier

TEMPLATES = ("{}", "a photo of a {}")
ZERO_SHOT = "zero-shot"


def prompts(name: str, templates: Sequence[str]) -> list[str]:
    """The templates with the name of a class in place of {}: of a folder 007.red_shirt `red shirt`."""
    words = " ".join(re.sub(r"^\d+[._ -]+(?=\D)", "", name).replace("_", " ").split())
    return [template.replace("{}", words) for template in templates]


def class_vectors(model: TextModel, classes: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "k d"]:
    """A vector of unit length for each class."""
    return torch.stack([normalize(model.of_texts(prompts(name, templates)).mean(dim=0), dim=0) for name in classes])


@dataclass(frozen=True)
class ZeroShotScore:
    """How often the words of the right class fit an image best."""

    templates: tuple[str, ...]
    accuracy: float
    low: float  # 95 % interval over test images
    high: float
    balanced_accuracy: float  # mean over the classes of the test split
    chance: float

    def row(self, subject: str, width: int) -> list[str]:
        """Cells as in the table of a verdict, which has so many columns."""
        accuracy, balanced = percent(self.accuracy, self.low, self.high, unit=""), f"{100 * self.balanced_accuracy:.1f}"
        setting = f"{POOLING}, {' '.join(map(repr, self.templates))}"
        return [subject, ZERO_SHOT, accuracy, balanced, *[""] * (width - 5), setting]

    def sentence(self) -> str:
        return (
            f"By words alone, without a label: {percent(self.accuracy, self.low, self.high)} of the test images fit the"
            f" name of their class best; chance is {percent(self.chance)}."
        )

    def to_json(self) -> Json:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def zero_shot(model: TextModel, test: Features, classes: Sequence[str], templates: Sequence[str]) -> ZeroShotScore:
    """Judges the features of the test images. Raises UserError where classes are named by numbers alone."""
    if all(name.strip().lstrip("-").isdigit() for name in classes):
        raise UserError("the classes are named by numbers, which say nothing of what they show")
    test = test.take(test.labels >= 0)
    with torch.no_grad():
        images = model.words.of_images(torch.from_numpy(test.pools[POOLING]))
        answers = (images @ class_vectors(model, classes, templates).T).argmax(dim=1).numpy()
    right = answers == test.labels
    recalls = [right[test.labels == label].mean() for label in np.unique(test.labels)]
    share, (low, high) = float(right.mean()), wilson(int(right.sum()), len(right))
    return ZeroShotScore(tuple(templates), share, low, high, float(np.mean(recalls)), 1 / len(classes))


class _Fit(nn.Module):
    """How well each class fits, of features of an encoder."""

    def __init__(self, words: Words, classes: Float[Tensor, "k d"]):
        super().__init__()
        self.words = words
        self.register_buffer("classes", classes)

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        return self.words.of_images(features) @ self.get_buffer("classes").T * self.words.get_buffer("scale")


class ZeroShotClassifier(FrozenClassifier):
    """Classes that are told in words."""

    def sentence(self) -> str:
        return "By words alone: the shares of the classes say which of these words fits best, and never that none does"


def classifier_of_words(run: Path, encoder: Encoder, classes: Sequence[str]) -> ZeroShotClassifier:
    """A classifier of these words, in eval mode on the CPU. Raises UserError for a run that knows none."""
    model = open_text(run)
    head = _Fit(model.words, class_vectors(model, classes, ("{}",)))
    return ZeroShotClassifier(encoder, POOLING, head, {"classes": json.dumps(list(classes))}).eval()
