"""The attentive probe: one learned query over the tokens of a frozen encoder, as CAE (Chen et al. 2022) judges masked
models, whose class token and mean say little before fine-tuning.

The tokens of training images are computed once and kept; several learning rates are tried side by side, and the
validation split chooses.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unmask.data.datasets.classification import Labelled
from unmask.errors import UserError
from unmask.evaluation.features import judged
from unmask.models.classifier import AttentivePool
from unmask.models.encoder import Encoder
from unmask.seeds import mix

RATES = (1e-3, 4e-3)  # of AdamW, from which the validation split chooses
EPOCHS, BATCH, WEIGHT_DECAY = 20, 128, 0.05
MOST = 8 * 2**30  # bytes of tokens that are kept


@dataclass(frozen=True)
class Pooled:
    """The vectors that the probe's query makes of n images, and their labels."""

    vectors: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, "n"]


@dataclass(frozen=True)
class Probed:
    """What the probe learnt and answered."""

    correct: Bool[np.ndarray, "n"]  # for each test image
    setting: str  # e.g. "attentive(lr=0.001)"
    val_accuracy: float
    probe: "AttentiveProbe"  # in eval mode
    train: Pooled  # what it learnt from
    val: Pooled


class AttentiveProbe(nn.Module):
    """Attention by one query, BatchNorm without parameters, a linear layer: as `transfer --protocol attentive`."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.pool, self.norm = AttentivePool(dim), nn.BatchNorm1d(dim, affine=False, eps=1e-6)
        self.head = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b k"]:
        return self.judge(self.pool(tokens))

    def judge(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logits of what the query gathered."""
        return self.head(self.norm(pooled))


def attentive_probe(
    encoder: Encoder,
    labelled: Labelled,
    device: torch.device | str,
    autocast: torch.dtype | None,
    seed: int,
    tell: Callable[[float], object] = lambda share: None,
    rows: Sequence[int] | None = None,
) -> Probed:
    """Trains on the training split and answers the test split; the encoder must be on `device`, and is not changed.

    tell: called with the share that is done. rows: of the training split to learn from; all unless given. Raises
    UserError where their tokens would not fit into memory.
    """
    encoder.eval()
    train_x, train_y = _all_tokens(encoder, labelled, device, autocast, rows)
    val_y, test_y = labelled.labels("val"), labelled.labels("test")
    with torch.random.fork_rng():
        torch.manual_seed(mix(seed, 0xA77))
        probe = AttentiveProbe(train_x.shape[-1], len(labelled.classes)).to(device)
        probes = [(rate, copy.deepcopy(probe)) for rate in RATES]
        for number, (rate, member) in enumerate(probes):
            _train(member, train_x, train_y, rate, seed, device, lambda s, n=number: tell((n + s) / len(RATES)))
    members = [member for _, member in probes]
    pooled = _pooled(members, _tokens(encoder, labelled, "val", device, autocast), device)
    accuracies = [float((_answers(m, vectors, device) == val_y).mean()) for m, vectors in zip(members, pooled)]
    best = int(np.argmax(accuracies))
    chosen = members[best]
    (test_x,) = _pooled([chosen], _tokens(encoder, labelled, "test", device, autocast), device)
    (train_vectors,) = _pooled([chosen], [train_x], device)
    return Probed(
        _answers(chosen, test_x, device) == test_y,
        f"attentive(lr={RATES[best]:g})",
        accuracies[best],
        chosen,
        Pooled(train_vectors, train_y.numpy()),
        Pooled(pooled[best], val_y),
    )


def rows_that_fit(encoder: Encoder, count: int, memory: int, seed: int) -> list[int] | None:
    """Which of `count` training images a probe can learn from, where their tokens may take `memory` bytes: drawn at
    random, or None for all."""
    most = max(1, min(memory, MOST) // _token_bytes(encoder))
    if count <= most:
        return None
    return sorted(np.random.default_rng([seed, 0xA79]).permutation(count)[:most].tolist())


def _train(
    probe: AttentiveProbe,
    tokens: Float[Tensor, "n u d"],
    labels: Int[Tensor, "n"],
    rate: float,
    seed: int,
    device: torch.device | str,
    tell: Callable[[float], object],
) -> None:
    generator = torch.Generator().manual_seed(mix(seed, 0xA78))
    per_epoch = max(1, len(tokens) // BATCH)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * per_epoch)
    probe.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(tokens), generator=generator)
        for rows in order.tensor_split(per_epoch):
            if len(rows) < 2:  # BatchNorm over a single image has no deviation
                continue
            optimizer.zero_grad()
            cross_entropy(probe(tokens[rows].to(device).float()), labels[rows].to(device)).backward()
            optimizer.step()
            schedule.step()
        tell((epoch + 1) / EPOCHS)
    probe.eval()


@torch.inference_mode()
def _pooled(
    probes: Sequence[AttentiveProbe], batches: Iterable[Tensor], device: torch.device | str
) -> list[Float[np.ndarray, "n d"]]:
    """What each probe's query gathers, batch by batch."""
    parts: list[list[np.ndarray]] = [[] for _ in probes]
    for tokens in (part.to(device).float() for batch in batches for part in batch.split(BATCH)):
        for probe, vectors in zip(probes, parts):
            vectors.append(probe.pool(tokens).cpu().numpy())
    return [np.concatenate(vectors) for vectors in parts]


@torch.inference_mode()
def _answers(
    probe: AttentiveProbe, vectors: Float[np.ndarray, "n d"], device: torch.device | str
) -> Int[np.ndarray, "n"]:
    """The classes answered."""
    return probe.judge(torch.from_numpy(vectors).to(device)).argmax(dim=1).cpu().numpy()


def _tokens(
    encoder: Encoder,
    labelled: Labelled,
    split: str,
    device: torch.device | str,
    autocast: torch.dtype | None,
    rows: Sequence[int] | None = None,
) -> Iterator[Float[Tensor, "b u d"]]:
    """Unit tokens of a split's images, or of some, each seen whole, in order, in half precision."""
    view, kind = labelled.source.modality.whole(encoder.grid.size), torch.device(device).type
    for batch in labelled.loader(split, encoder.channels, view, rows=rows):
        # left again before each yield: until then a generator's contexts would also hold where its tokens are used
        with judged(encoder), torch.autocast(kind, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            tokens = encoder(batch["views"][0].to(device)).units.float()
        yield tokens.clamp(-6e4, 6e4).half().cpu()


def _token_bytes(encoder: Encoder) -> int:
    """What the tokens of an image take."""
    return 2 * encoder.grid.num_units * encoder.dim


def _all_tokens(
    encoder: Encoder,
    labelled: Labelled,
    device: torch.device | str,
    autocast: torch.dtype | None,
    rows: Sequence[int] | None,
) -> tuple[Float[Tensor, "n u d"], Int[Tensor, "n"]]:
    """Of the training images."""
    labels = labelled.labels("train")
    labels = labels if rows is None else labels[np.asarray(rows)]
    need = len(labels) * _token_bytes(encoder)
    if need > MOST:
        raise UserError(
            f"the attentive probe keeps the tokens of its images, {need / 2**30:.0f} GiB for {len(labels):,} of them:"
            " judge on fewer with --labels"
        )
    tokens = torch.cat(list(_tokens(encoder, labelled, "train", device, autocast, rows)))
    return tokens, torch.from_numpy(labels)
