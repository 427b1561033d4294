"""The probe: evaluates a run's encoder on labelled images at intervals during training."""

from pathlib import Path

import torch

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.classification import Labelled
from unmask.data.modality import IMAGE
from unmask.evaluation.compare import judge
from unmask.evaluation.features import split_features
from unmask.models.encoder import Encoder


class Probe:
    """Reads the labelled data once; every call evaluates an encoder on it with all labels."""

    def __init__(self, place: str | Path, size: tuple[int, ...], seed: int, modality: str = IMAGE):
        self.labelled = Labelled((str(place),), max_side=decode_side(size), seed=seed, modality=modality)

    def __call__(self, encoder: Encoder, device: torch.device, autocast: torch.dtype | None) -> dict[str, float]:
        """Accuracy on the test split by evaluator, as `probe_knn` and `probe_linear`."""
        competitors = {"pretrained": lambda split: split_features(self.labelled, encoder, split, device, autocast)}
        verdict = judge(competitors, classes=self.labelled.classes, labels_per_class=())
        return {f"probe_{score.evaluator}": score.accuracy for score in verdict.scores}
