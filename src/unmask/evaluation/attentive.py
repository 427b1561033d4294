"""The attentive probe: one learned query over the tokens of a frozen encoder, as CAE (Chen et al. 2022) judges masked
models, whose class token and mean say little before fine-tuning.

The tokens of training and validation images are computed once and kept; several learning rates are tried side by side,
and the validation split chooses.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unmask.data.datasets.classification import Labelled
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.errors import UserError
from unmask.evaluation.features import judged
from unmask.models.classifier import AttentivePool
from unmask.models.encoder import Encoder
from unmask.seeds import mix

RATES = (1e-3, 4e-3)  # of AdamW, from which the validation split chooses
EPOCHS, BATCH, WEIGHT_DECAY = 20, 128, 0.05
MOST = 8 * 2**30  # bytes of tokens that are kept


@dataclass(frozen=True)
class Probed:
    """What the probe answered."""

    correct: Bool[np.ndarray, "n"]  # for each test image
    setting: str  # e.g. "attentive(lr=0.001)"


class AttentiveProbe(nn.Module):
    """Attention by one query, BatchNorm without parameters, a linear layer: as `transfer --protocol attentive`."""

    def __init__(self, dim: int, classes: int):
        super().__init__()
        self.pool, self.norm = AttentivePool(dim), nn.BatchNorm1d(dim, affine=False, eps=1e-6)
        self.head = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b k"]:
        return self.head(self.norm(self.pool(tokens)))


def attentive_probe(
    encoder: Encoder,
    labelled: Labelled,
    device: torch.device | str,
    autocast: torch.dtype | None,
    seed: int,
    tell: Callable[[float], object] = lambda share: None,
) -> Probed:
    """Trains on the training split and answers the test split; the encoder must be on `device`, and is not changed.

    tell: called with the share that is done. Raises UserError where the tokens would not fit into memory.
    """
    encoder.eval()
    train_x, train_y = _all_tokens(encoder, labelled, "train", device, autocast)
    val_x, val_y = _all_tokens(encoder, labelled, "val", device, autocast)
    with torch.random.fork_rng():
        torch.manual_seed(mix(seed, 0xA77))
        probe = AttentiveProbe(train_x.shape[-1], len(labelled.classes)).to(device)
        probes = [(rate, copy.deepcopy(probe)) for rate in RATES]
        for number, (rate, member) in enumerate(probes):
            _train(member, train_x, train_y, rate, seed, device, lambda s, n=number: tell((n + s) / len(RATES)))
    scored = [(float((_answers(member, [val_x], device) == val_y.numpy()).mean()), rate) for rate, member in probes]
    best = max(scored, key=lambda pair: pair[0])[1]
    chosen = next(member for rate, member in probes if rate == best)
    predicted = _answers(chosen, _tokens(encoder, labelled, "test", device, autocast), device)
    return Probed(predicted == labelled.labels("test"), f"attentive(lr={best:g})")


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
def _answers(
    probe: AttentiveProbe, batches: Iterator[Tensor] | list[Tensor], device: torch.device | str
) -> Int[np.ndarray, "n"]:
    """The classes answered, batch by batch."""
    parts = (part for batch in batches for part in batch.split(BATCH))
    return np.concatenate([probe(part.to(device).float()).argmax(dim=1).cpu().numpy() for part in parts])


def _tokens(
    encoder: Encoder, labelled: Labelled, split: str, device: torch.device | str, autocast: torch.dtype | None
) -> Iterator[Float[Tensor, "b u d"]]:
    """Unit tokens of a split's images, each seen whole, in order, in half precision."""
    size = (encoder.grid.size[0], encoder.grid.size[1])
    kind = torch.device(device).type
    with judged(encoder), torch.autocast(kind, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        for batch in labelled.loader(split, encoder.channels, WholeImage(size)):
            tokens = encoder(batch["views"][0].to(device)).units
            yield tokens.float().clamp(-6e4, 6e4).half().cpu()


def _all_tokens(
    encoder: Encoder, labelled: Labelled, split: str, device: torch.device | str, autocast: torch.dtype | None
) -> tuple[Float[Tensor, "n u d"], Int[Tensor, "n"]]:
    need = 2 * len(labelled.splits[split]) * encoder.grid.num_units * encoder.dim
    if need > MOST:
        raise UserError(
            f"the attentive probe keeps the tokens of its images, {need / 2**30:.0f} GiB for"
            f" {len(labelled.splits[split]):,} of them: judge on fewer with --labels"
        )
    tokens = torch.cat(list(_tokens(encoder, labelled, split, device, autocast)))
    return tokens, torch.from_numpy(labelled.labels(split))
