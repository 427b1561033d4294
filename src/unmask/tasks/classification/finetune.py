"""One training of a classifier with labels, from settings: what `transfer` does once and studies do many times."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import Loader
from unmask.data.transforms.classification import TrainView
from unmask.data.transforms.crops import RandomCrop
from unmask.evaluation.features import judged
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder
from unmask.models.state import copied
from unmask.planning.build import make_fit
from unmask.runtime.distributed.fabric import Fabric
from unmask.runtime.settings import runtime_of
from unmask.seeds import mix
from unmask.tasks.classification.classifier import ImageClassifier
from unmask.tasks.classification.objective import Classify
from unmask.tasks.training_settings import TrainingSettings, loader_options, typed
from unmask.training.log import Log, Silent
from unmask.training.loop import fit
from unmask.training.speed.compile import ready


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(TrainingSettings):
    """What fine-tuning a classifier needs, when everything has been chosen."""

    pooling: str
    norm: str  # between pooling and head: layer, batch or none
    eval_crop: float
    smoothing: float
    mixup: float
    cutmix: float
    randaug: str
    erase: float
    crop: float
    balanced: str  # on or off
    blocks: float | None = None
    ema: float | None = None


def finetune(
    encoder: Encoder,
    samples: Samples,
    settings: dict[str, Any],  # as `plan_transfer` fills them in
    fabric: Fabric,
    *,
    scratch: bool = False,  # take only the architecture of `encoder`, with fresh weights
    out: Path | None = None,  # None: nothing is saved, and an interruption loses this training
    log: Log | None = None,
    watch: Callable[[Classify], Callable[[int, int], dict[str, Any]]] | None = None,
    fit_options: dict[str, Any] | None = None,  # further ones of the loop, such as log_every
) -> Classify:
    """Trains a copy of `encoder` with a head on labelled samples; `encoder` itself stays as it is.

    The same arguments give the same result. Returns the task; its `result` is the classifier.
    """
    chosen = typed(ClassifySettings, settings)
    task = make_task(encoder, samples.classes, chosen, scratch=scratch, multi_label=samples.source.multi_label)
    loader = make_loader(samples, chosen, encoder)
    ready(task, runtime_of(settings))
    watching = {} if watch is None else {"watch": watch(task)}
    fit(task, loader, make_fit(settings, len(samples), **(fit_options or {})), out, fabric, log or Silent(), **watching)
    return task


def make_task(
    encoder: Encoder,
    classes: list[str],
    settings: ClassifySettings,
    *,
    scratch: bool = False,
    multi_label: bool = False,
) -> Classify:
    """The classifier before training: weights of `encoder`, or fresh ones, and a head, drawn from the seed."""
    torch.manual_seed(mix(settings.seed, 0xC1A55))
    classifier = ImageClassifier(
        copied(encoder, settings.drop_path, scratch),
        classes,
        pooling=settings.pooling,
        norm=settings.norm,
        eval_crop=settings.eval_crop,
        multi_label=multi_label,
    )
    return Classify(
        classifier,
        protocol=settings.protocol,
        blocks=settings.blocks,
        layer_decay=settings.layer_decay,
        smoothing=settings.smoothing,
        mixup=settings.mixup,
        cutmix=settings.cutmix,
        ema=settings.ema,
    )


def make_loader(samples: Samples, settings: ClassifySettings, encoder: Encoder, micro: int | None = None) -> Loader:
    """Augmented training batches."""
    height, width = encoder.grid.size
    crop = RandomCrop((height, width), scale=(settings.crop, 1.0), flip=settings.flip == "on")
    mean, std = tuple(encoder.mean.tolist()), tuple(encoder.std.tolist())
    view = TrainView(crop, mean, std, settings.randaug, settings.erase)
    weights = class_weights(samples) if settings.balanced == "on" else None
    return Loader(samples=samples, view=view, weights=weights, **loader_options(settings, micro))


def class_weights(samples: Samples) -> Tensor:
    """How often each sample is to be drawn so that every class comes equally often; with several labels per image,
    by its rarest."""
    assert samples.labels is not None
    if samples.labels.ndim == 1:
        return (1.0 / torch.bincount(samples.labels).clamp(min=1))[samples.labels].double()
    rarity = 1.0 / samples.labels.sum(dim=0).clamp(min=1)
    none = 1.0 / (samples.labels.sum(dim=1) == 0).sum().clamp(min=1)
    rarest = (samples.labels * rarity).amax(dim=1)
    return torch.where(samples.labels.sum(dim=1) > 0, rarest, none).double()


def answers(
    classifier: Classifier,
    loader: Iterable[dict[str, Any]],
    device: torch.device | str,
    autocast: torch.dtype | None,
) -> Float[np.ndarray, "n k"]:
    """Probabilities for all batches of a loader, in its order, in eval mode."""
    kind = torch.device(device).type
    with judged(classifier), torch.autocast(kind, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        found = [classifier.probabilities(batch["views"][0].to(device)).float().cpu() for batch in loader]
    return torch.cat(found).numpy()
