"""Trains a classifier with labels, from settings: once in `transfer`, many times in studies."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.data.batch import Batch
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import Loader
from unmask.data.modality import make_modality
from unmask.data.transforms.labelled.classification import TrainView
from unmask.errors import UserError
from unmask.evaluation.features import judged
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder
from unmask.models.state import copied
from unmask.runtime.distributed.data_parallel import Devices
from unmask.seeds import mix
from unmask.tasks.classification.classifier import ImageClassifier, ImagePredictor
from unmask.tasks.classification.objective import Classify
from unmask.tasks.classification.settings import ClassifySettings
from unmask.training.log import Silent
from unmask.training.loop import fit
from unmask.training.speed.compile import ready


def finetune(
    encoder: Encoder,
    samples: Samples,
    settings: ClassifySettings,
    devices: Devices,
    *,
    scratch: bool = False,  # take only the architecture of `encoder`, with fresh weights
) -> Classify:
    """Trains a copy of `encoder` with a head on labelled samples; `encoder` itself is not changed. Nothing is saved.

    The same arguments give the same result. Returns the task; its `result` is the classifier.
    """
    task = make_task(encoder, samples.classes, settings, scratch=scratch, multi_label=samples.source.multi_label)
    loader = make_loader(samples, settings, encoder)
    fit(ready(task, settings), loader, settings.fit(len(samples)), None, devices, Silent())
    return task


def make_task(
    encoder: Encoder,
    classes: list[str],
    settings: ClassifySettings,
    *,
    scratch: bool = False,
    multi_label: bool = False,
) -> Classify:
    """The classifier before training: weights of `encoder`, or new ones, and a head initialised from the seed."""
    torch.manual_seed(mix(settings.seed, 0xC1A55))
    return Classify(
        make_classifier(copied(encoder, settings.drop_path, scratch), classes, settings, multi_label),
        protocol=settings.protocol,
        blocks=settings.blocks,
        layer_decay=settings.layer_decay,
        smoothing=settings.smoothing,
        mixup=settings.mixup,
        cutmix=settings.cutmix,
        ema=settings.ema,
    )


def make_classifier(
    encoder: Encoder, classes: Sequence[str], settings: ClassifySettings, multi_label: bool
) -> ImageClassifier:
    """On this very encoder, with a head drawn from torch's global generator."""
    classifier = ImageClassifier(
        encoder,
        classes,
        pooling=settings.pooling,
        norm=settings.norm,
        eval_crop=settings.eval_crop,
        multi_label=multi_label,
    )
    classifier.clips = settings.clips
    return classifier


def make_loader(samples: Samples, settings: ClassifySettings, encoder: Encoder, micro: int | None = None) -> Loader:
    """Augmented training batches. Raises UserError for BatchNorm over a single image, which has no deviation."""
    modality, flip = make_modality(encoder.modality), settings.flip == "on"
    crop = modality.window("random", encoder.grid.size, settings.crop, flip, "exact")
    mean, std = tuple(encoder.mean.tolist()), tuple(encoder.std.tolist())
    view = TrainView(crop, mean, std, settings.randaug, settings.erase, modality)
    weights = class_weights(samples) if settings.balanced == "on" else None
    loader = Loader(samples=samples, view=view, weights=weights, **settings.loading(micro))
    alone = settings.batch // settings.accumulate == 1 or (micro is None and loader.batch == 1)  # also while measuring
    if settings.norm == "batch" and alone:
        raise UserError(
            f"--protocol {settings.protocol} has BatchNorm before its head, which needs two images or more at a time:"
            f" --batch {settings.batch} and --accumulate {settings.accumulate} leave one per process. Give a larger"
            " --batch or a smaller --accumulate"
        )
    return loader


def class_weights(samples: Samples) -> Tensor:
    """Sampling weights that make all classes equally frequent; with several labels per image, by its rarest one."""
    assert samples.labels is not None
    if samples.labels.ndim == 1:
        return (1.0 / torch.bincount(samples.labels).clamp(min=1))[samples.labels].double()
    rarity = 1.0 / samples.labels.sum(dim=0).clamp(min=1)
    none = 1.0 / (samples.labels.sum(dim=1) == 0).sum().clamp(min=1)
    rarest = (samples.labels * rarity).amax(dim=1)
    return torch.where(samples.labels.sum(dim=1) > 0, rarest, none).double()


def answers(
    classifier: Classifier | ImagePredictor,
    loader: Iterable[Batch],
    device: torch.device | str,
    autocast: torch.dtype | None,
) -> Float[np.ndarray, "n k"]:
    """Probabilities for all batches of a loader, in its order, in eval mode."""
    kind = torch.device(device).type
    with judged(classifier), torch.autocast(kind, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        probabilities = [classifier.probabilities(batch["views"][0].to(device)).float().cpu() for batch in loader]
    return torch.cat(probabilities).numpy()
