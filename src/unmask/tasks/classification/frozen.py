"""A classifier on frozen features: the best of `unmask evaluate` on the validation split, kept for `predict`.

evaluation.safetensors, in the run's folder, holds the classifier and the attentive pooling that was learnt.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from unmask import registry
from unmask.errors import UserError
from unmask.evaluation.attentive import AttentiveProbe, Probed
from unmask.evaluation.best_features import LEARNT, attach_pool
from unmask.evaluation.features import ATTENTIVE, Features, pooled
from unmask.evaluation.frozen.knn import Knn
from unmask.evaluation.frozen.linear import Linear, StandardisedLinear
from unmask.files import Json, parse_json
from unmask.models.encoder import Encoder
from unmask.models.state import load_strictly, weights_hash
from unmask.runs.run import Run
from unmask.tasks.classification.classifier import ImagePredictor
from unmask.weights.files import read_weights, save_state

KNN, LINEAR = "knn", "linear"
MOST = 2**28  # bytes of training features that are kept for neighbours


class Neighbours(nn.Module):
    """kNN as `evaluate` judges it, with the training features that it looks among."""

    features: Tensor  # n d
    labels: Tensor  # n

    def __init__(self, setting: str, features: Float[Tensor, "n d"], labels: Int[Tensor, "n"]):
        super().__init__()
        self.setting = setting
        self.register_buffer("features", features)
        self.register_buffer("labels", labels)
        self._shares: Callable[[np.ndarray], np.ndarray] | None = None

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logarithms of the shares of votes."""
        if self._shares is None:
            knn: Knn = registry.build("evaluator", self.setting)
            self._shares = knn.fitted(self.features.cpu().numpy(), self.labels.cpu().numpy())[1]
        return torch.from_numpy(self._shares(x.cpu().numpy())).log().to(x.device)


class FrozenClassifier(ImagePredictor):
    """softmax(head(features of a frozen encoder))."""

    def __init__(self, encoder: Encoder, pooling: str, head: nn.Module, facts: Mapping[str, str]):
        """facts: "by", "on" (JSON), "val_accuracy", "classes" (JSON) and "clips", as the file has them."""
        super().__init__()
        self.encoder, self.pooling, self.head, self.facts = encoder, pooling, head, facts
        self.classes, self.clips = list(parse_json(facts["classes"])), int(facts.get("clips", 1))
        self.pool = encoder.learnt_pool.pool if pooling == ATTENTIVE and encoder.learnt_pool else None  # goes along

    def probabilities(self, x: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        return self.head(pooled(self.encoder, x, [self.pooling])[self.pooling]).softmax(dim=1)

    def sentence(self) -> str:
        """What it is, for people."""
        on, share = ", ".join(parse_json(self.facts["on"])), float(self.facts["val_accuracy"])
        whitened = ", whitened" if "whiten=True" in self.facts["setting"] else ""
        return (
            f"By {self.facts['by']} on frozen {self.pooling} features{whitened}, the best that evaluate found on the"
            f" validation split of {on} ({share:.1%}); unmask transfer trains a classifier that is usually better"
        )


def keep_learnt(
    out: Path,
    best: dict[str, Json],
    probed: Probed | None,
    train: Features | None,
    facts: Mapping[str, str],
    classes: Sequence[str],
) -> None:
    """Writes evaluation.safetensors: the attentive pooling where there is one, and the classifier of the highest
    accuracy on the validation split among linear, attentive and kNN, but for the latter where its features are many.

    train: features of the subject. facts: "weights", "on" and "clips", as in `FrozenClassifier`.
    """
    content, header = nn.Module(), dict(facts)
    if probed is not None:
        content.pool = probed.probe.pool
    tried = sorted((n for n in (LINEAR, ATTENTIVE, KNN) if n in best), key=lambda n: -best[n]["val_accuracy"])
    for by in tried:
        if by == ATTENTIVE and probed is not None:
            head, numbers = _attentive_head(probed.probe), np.arange(len(classes))
        elif train is not None and by != ATTENTIVE:
            x, labelled = train.pools[best[by]["pooling"]], train.labels >= 0
            x, y = x[labelled], train.labels[labelled]
            if by == KNN and x.nbytes > MOST:
                continue
            numbers, head = np.unique(y), Neighbours(best[by]["setting"], torch.from_numpy(x), torch.from_numpy(y))
            if by == LINEAR:
                linear: Linear = registry.build("evaluator", best[by]["setting"])
                numbers, head = linear.fitted(x, y)
        else:
            continue
        content.head = head
        header |= {name: str(best[by][name]) for name in ("pooling", "setting", "val_accuracy")}
        header |= {"by": by, "classes": json.dumps([classes[n] for n in numbers.tolist()], ensure_ascii=False)}
        break
    if header.keys() == dict(facts).keys() and probed is None:
        (out / LEARNT).unlink(missing_ok=True)  # of an earlier call, and of other features
        return
    save_state(content, out / LEARNT, header)


def _attentive_head(probe: AttentiveProbe) -> StandardisedLinear:
    """BatchNorm and linear layer of the probe as one."""
    head = StandardisedLinear(probe.head.in_features, probe.head.out_features)
    norm = dict(probe.norm.named_buffers())
    head.mean, head.std = norm["running_mean"].clone(), (norm["running_var"] + probe.norm.eps).sqrt()
    head.weight, head.bias = probe.head.weight.detach().clone(), probe.head.bias.detach().clone()
    return head


def open_frozen(run: Path) -> FrozenClassifier:
    """The classifier that `evaluate` left in the folder of a run, in eval mode on the CPU. Raises UserError where it is
    of other weights than the run's own."""
    encoder = Run(run).encoder()
    state, facts = read_weights(run / LEARNT)
    if facts["weights"] != weights_hash(encoder):
        raise UserError(
            f"{run / LEARNT} belongs to other weights than the run's own, which was trained on since, or evaluated with"
            " other options: unmask evaluate RUN --on LABELLED makes it anew"
        )
    attach_pool(run, encoder)
    own = {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
    if facts["by"] == KNN:
        head: nn.Module = Neighbours(facts["setting"], own["features"], own["labels"])
    else:
        head = StandardisedLinear(own["weight"].shape[1], own["weight"].shape[0])
        load_strictly(head, own, str(run / LEARNT))
    return FrozenClassifier(encoder, facts["pooling"], head, facts).eval()
