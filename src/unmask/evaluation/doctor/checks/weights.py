"""Faults of weights: damage, collapse, parts that were never trained."""

import torch
from torch import Tensor

from unmask.evaluation.doctor.subject import Finding, Subject, Unknown
from unmask.evaluation.features import pooled
from unmask.training.checkpoint import ASIDE, Damaged, verify
from unmask.weights.files import ENCODER, read_state

__all__ = ["checkpoints", "decoder", "features", "numbers", "positions"]
MIN_SPREAD, MIN_RANK = 1e-3, 1.2  # of features: spread over length; effective number of dimensions
MIN_IMAGES = 8  # of fewer, a rank says little
MANY_NONFINITE = 0.001  # share of steps
SAME = 1e-6  # largest difference between positions that counts as none


def checkpoints(subject: Subject) -> list[Finding]:
    """Damaged checkpoints: all are read and their checksums compared."""
    if subject.kind != "run":
        raise Unknown("it is no run")
    paths = sorted(subject.path.glob("*.ckpt"))
    broken = [path.name for path in subject.path.glob(f"*{ASIDE}")]
    if not paths and not broken:
        raise Unknown("the run has not saved anything yet")
    for path in paths:
        try:
            verify(path)
        except Damaged as error:
            broken.append(f"{path.name} ({error})")
    if not broken:
        return []
    remedy = (
        "check the disk (smartctl, dmesg); the run goes on from the newest good one by itself; then delete the others"
    )
    return [Finding(f"damaged: {', '.join(broken)}", remedy)]


def decoder(subject: Subject) -> list[Finding]:
    """A decoder that was never trained: it draws noise, however good the encoder is.

    This happens when weights without a decoder are loaded into a model that has one. An untrained decoder is recognised
    by biases of exactly zero and norm scales of exactly one; the first training step changes them all.
    """
    opened = subject.opened
    if opened.whole:  # of an objective: its own, or that of the tokenizer which it trains
        state = {key: value for key, value in opened.whole.items() if "decoder" in key.split(".")[:-1]}
    else:
        state = opened.decoder
    if not state:
        raise Unknown("there is no decoder: features are all that these weights are good for")
    if not _fresh(state):
        return []
    if all(key.startswith("tokenizer.") for key in state):
        remedy = "train the tokenizer: its run ended before its first step that counts, or its weights were replaced"
        return [Finding("the tokenizer's decoder is at its random start: its ids mean nothing", remedy)]
    remedy = "do not judge by images; train the decoder: unmask pretrain DATA --init WEIGHTS --decoder-warmup 500"
    return [Finding("the decoder is at its random start: what it draws is noise", remedy)]


def _fresh(state: dict[str, Tensor]) -> bool:
    biases = [value for key, value in state.items() if key.endswith("bias") and value.ndim == 1]
    scales = [value for key, value in state.items() if "norm" in key and key.endswith("weight") and value.ndim == 1]
    return bool(biases) and all(not value.any() for value in biases) and all(bool((v == 1).all()) for v in scales)


@torch.no_grad()
def features(subject: Subject) -> list[Finding]:
    """Collapse: features that are the same for every image, or vary along few directions.

    The effective rank is the participation ratio of the variances; like RankMe (Garrido et al. 2023), it needs no
    labels.
    """
    if subject.kind == "data":
        raise Unknown("it is data, without weights")
    x = subject.images
    if float((x - x[:1]).abs().max()) == 0:
        raise Unknown("all images to try it on are the same")
    pooled_features = torch.cat([pooled(subject.encoder, part, ("mean",))["mean"] for part in x.split(16)]).double()
    if not pooled_features.isfinite().all():
        return [Finding("features are not finite", "the weights are broken: go back to an earlier checkpoint")]
    centred = pooled_features - pooled_features.mean(dim=0)
    spread = float(centred.norm(dim=1).mean() / pooled_features.norm(dim=1).mean().clamp(min=1e-30))
    remedy = "do not use these features: train anew with a lower --lr or longer --warmup, and look at the data first"
    if spread < MIN_SPREAD:
        return [Finding(f"features hardly differ between images (by {spread:.1e} of their length): constant", remedy)]
    variances = torch.linalg.svdvals(centred).square()
    rank = float(variances.sum() ** 2 / variances.square().sum())
    if len(x) >= MIN_IMAGES and rank < MIN_RANK:
        return [Finding(f"features of all images lie along one line (effective rank {rank:.2f}): collapsed", remedy)]
    return []


def numbers(subject: Subject) -> list[Finding]:
    """Weights, losses or gradients that are not finite, for example from a precision of too small a range."""
    if subject.kind == "data":
        raise Unknown("it is data, without weights")
    findings = []
    weights = subject.opened.weights
    of_decoder = {f"decoder: {key}": value for key, value in (weights.decoder or {}).items()}  # names that both have
    state = subject.opened.whole or {**weights.encoder, **of_decoder}
    if subject.kind == "run" and (subject.path / ENCODER).is_file():
        state = state | {f"{ENCODER}: {key}": value for key, value in read_state(subject.path / ENCODER).items()}
    broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        findings.append(
            Finding(f"weights are not finite: {broken[0]}{more}", "go back to an earlier checkpoint of the run")
        )
    if subject.kind == "run":
        events = [r for r in subject.records if r.get("event") == "skipped" and r.get("why", "non-finite") != "spike"]
        last = subject.steps[-1]["step"]
        if len(events) > MANY_NONFINITE * last:
            precision = subject.config["settings"].get("precision")
            remedy = "--precision 32" if precision != "32" else "a lower --lr, or --clip 1"
            fault = (
                f"{len(events):,} of {last:,} steps had a loss or gradient that is not finite, in precision {precision}"
            )
            findings.append(Finding(fault, f"start again from its last good weights with --init and {remedy}"))
    return findings


def positions(subject: Subject) -> list[Finding]:
    """Constant position tables, in encoder or decoder: the network cannot tell where a patch is.

    A known trap of models whose fixed tables are filled by code that did not run: zeros load without an error.
    """
    weights = subject.opened.weights
    tables = {f"encoder's {key}": value for key, value in weights.encoder.items() if "pos_embed" in key}
    if weights.decoder and "position" in weights.decoder:
        tables["decoder's table"] = weights.decoder["position"]
    tables = {name: table for name, table in tables.items() if table.ndim >= 2 and table.shape[-2] > 2}
    if not tables:
        raise Unknown("the weights bring no position tables")
    constant = [name for name, table in tables.items() if _constant(table)]
    if not constant:
        return []
    remedy = "fill in the fixed sine-cosine table before use, or fetch the weights again with a version that does"
    return [Finding(f"the {' and the '.join(constant)} is the same at every position", remedy)]


def _constant(table: Tensor) -> bool:
    rows = table.float().reshape(-1, table.shape[-1])[1:]  # the first may belong to the class token
    return bool((rows - rows.mean(dim=0)).abs().max() < SAME)
