"""Evaluates a classifier on corrupted images: one corruption and severity after the other, each saved when finished."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from joblib import Parallel, delayed
from rich.console import Console
from torch import Tensor

from unmask.data.codecs.decode import to_channels
from unmask.errors import Interrupted
from unmask.evaluation.features import judged
from unmask.files import parse_json, write_json
from unmask.models.classifier import Classifier
from unmask.models.state import weights_hash
from unmask.runtime.progress import progress
from unmask.studies.robustness.corrupt import corrupt
from unmask.studies.robustness.test_images import EvaluationSet
from unmask.training.log import clock
from unmask.version import __version__

Key = tuple[str, int]  # corruption and severity


@dataclass
class Bench:
    """A classifier and its test images, to be corrupted."""

    classifier: Classifier  # on `device`
    images: EvaluationSet
    device: torch.device
    batch: int
    seed: int
    threads: int

    def probabilities(self, batches: Iterable[Sequence[Tensor]]) -> Float[np.ndarray, "n k"]:
        """For batches of images in the data's own channels, in order."""
        channels, parts = self.classifier.encoder.channels, []
        with judged(self.classifier):
            for batch in batches:
                x = torch.stack([to_channels(image.float(), channels) for image in batch])
                parts.append(self.classifier.probabilities(x.to(self.device)).float().cpu())
        return torch.cat(parts).numpy()

    def clean(self) -> Float[np.ndarray, "n k"]:
        """Probabilities for the images as they are."""
        pixels = self.images.pixels
        return self.probabilities(pixels[i : i + self.batch] for i in range(0, len(pixels), self.batch))

    def right(self, name: str, severity: int) -> Bool[np.ndarray, "n"]:
        """True for images that are classified correctly under a corruption."""
        with Parallel(n_jobs=self.threads, prefer="threads") as parallel:
            rows = range(len(self.images))
            batches = (
                cast(list[Tensor], parallel(delayed(self.damaged)(row, name, severity) for row in portion))
                for portion in (rows[start : start + self.batch] for start in rows[:: self.batch])
            )
            return self.images.right(self.probabilities(batches))

    def damaged(self, row: int, name: str, severity: int) -> Tensor:
        """One corrupted image; the same in every run."""
        number = self.images.numbers[row]
        return corrupt(self.images.pixels[row], name, severity, seed=self.seed, number=number)

    def fingerprint(self) -> str:
        """Changes with anything that affects the predictions."""
        facts = f"{__version__} {self.seed} {weights_hash(self.classifier)} {self.images.numbers} "
        digest = hashlib.blake2b(facts.encode() + self.images.truth.tobytes(), digest_size=16)
        for image in self.images.pixels:
            digest.update(f"{image.dtype} {tuple(image.shape)} ".encode() + image.numpy().tobytes())
        return digest.hexdigest()


class FinishedCells:
    """A file of finished corruptions and severities, with one bit per image."""

    def __init__(self, path: Path, bench: Bench, say: Callable[[str], None]):
        self.path, self.fingerprint, self.count = path, bench.fingerprint(), len(bench.images)
        self.bits: dict[str, str] = {}
        if not path.exists():
            return
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
            self.bits = dict(content["cells"]) if content["fingerprint"] == self.fingerprint else {}
            reason = "is of other weights, images or another seed"
        except (ValueError, KeyError, TypeError):
            reason = "is damaged"
        if not self.bits:
            say(f"{path} {reason}; everything is computed anew")

    def __contains__(self, key: Key) -> bool:
        return f"{key[0]} {key[1]}" in self.bits

    def keep(self, key: Key, right: Bool[np.ndarray, "n"]) -> None:
        """Appends a result and flushes it to disk."""
        self.bits[f"{key[0]} {key[1]}"] = np.packbits(right).tobytes().hex()
        write_json(self.path, {"fingerprint": self.fingerprint, "cells": self.bits})

    def right(self, key: Key) -> Bool[np.ndarray, "n"]:
        packed = np.frombuffer(bytes.fromhex(self.bits[f"{key[0]} {key[1]}"]), np.uint8)
        return np.unpackbits(packed, count=self.count).astype(bool)


def compute_missing(bench: Bench, keys: Sequence[Key], cells: FinishedCells, console: Console) -> None:
    """Evaluates each unfinished corruption and severity; raises Interrupted, with a note on what is saved."""
    missing = [key for key in keys if key not in cells]
    if len(missing) < len(keys):
        text = f"{len(keys) - len(missing)} of {len(keys)} results are there already and not computed again"
        console.print(text, soft_wrap=True)
    start = time.perf_counter()
    try:
        with progress(console, "corruptions", len(missing)) as update:
            for number, key in enumerate(missing, 1):
                update(number - 1, words=f"{key[0]} {key[1]}")
                cells.keep(key, bench.right(*key))
                eta = clock((time.perf_counter() - start) / number * (len(missing) - number)) + " left"
                if not console.is_terminal and (number == len(missing) or missing[number][0] != key[0]):
                    shares = [cells.right(k).mean() for k in keys if k[0] == key[0] and k in cells]
                    percentages = " ".join(f"{100 * share:.1f}" for share in shares)
                    console.print(f"{key[0]}: {percentages} % · {number}/{len(missing)} · {eta}", soft_wrap=True)
    except (KeyboardInterrupt, Interrupted) as error:
        signum = 2 if isinstance(error, KeyboardInterrupt) else error.exit_code - 128
        num_finished = sum(key in cells for key in keys)
        text = f"stopped; {num_finished} of {len(keys)} results are kept in {cells.path}; the same command resumes"
        raise Interrupted(text, signum) from error
