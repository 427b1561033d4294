"""Label-efficiency of classifiers: how many labels does pretraining save?

Frozen protocols extract features once per encoder; fine-tuning uses `finetune`, in parallel processes that each open
the data themselves. Data, draws and encoders are the same in every process.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int

from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.draws import draw_rows
from unmask.errors import UserError
from unmask.evaluation.features import split_features
from unmask.evaluation.frozen.knn import Knn
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.models.state import at_random, weights_hash
from unmask.planning.plan import Plan
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.machine import autocast_dtype, machine, tune
from unmask.studies.engine import Key, Work, most_jobs, opened_once
from unmask.studies.label_curve.curve import ALL, PRETRAINED, RANDOM, SCRATCH
from unmask.studies.label_curve.forecast import penalty
from unmask.studies.label_curve.study import Cell, Design, Study
from unmask.tasks.classification.classifier import ImageClassifier
from unmask.tasks.classification.finetune import answers, finetune
from unmask.tasks.classification.plan import plan_transfer
from unmask.tasks.open import load_encoder

POOLING = "mean4"  # of kNN and linear, fixed: choosing one takes labels
FROZEN = ("knn", "linear")  # that are fitted on features taken once


@dataclass(frozen=True)
class Setting:
    """What a process needs to open data and encoders; compared, so that it does so once."""

    run: str
    reading: tuple[tuple[str, Any], ...]  # options for weights
    on: tuple[str, ...]
    most: int | None
    most_test: int | None
    seed: int
    device: str
    precision: str
    epochs: float | None


class ClassificationStudy(Study):
    """Data, encoders and draws; the same in every process."""

    def __init__(self, setting: Setting, jobs: int | None = None, say: Callable[[str], None] = lambda text: None):
        """jobs: trainings side by side; by default as many as cores and memory allow."""
        tune(setting.device)
        self.setting, self.seed, self.jobs = setting, setting.seed, jobs
        self.pretrained = load_encoder(setting.run, **dict(setting.reading))
        self.data = Labelled(
            setting.on,
            max_side=4 * max(self.pretrained.grid.size),
            modality=self.pretrained.modality,
            most=setting.most,
            most_test=setting.most_test,
            seed=setting.seed,
            hold_out_val=False,
            say=say,
        )
        for line in self.data.sheet.unlike(*self.pretrained.statistics):
            say(line)
        self.word = self.data.source.modality.word
        if self.data.multi_label:
            raise UserError(f"label curves are for one label per {self.word}; this data has several")
        self.train_labels, self.truth = self.data.labels("train"), self.data.labels("test")
        self.classes, self.said = self.data.classes, f"{self.data.said} {self.word}s"
        self.counts = {split: len(self.data.splits[split]) for split in ("train", "test")}
        self.num_test = self.counts["test"]
        self.majority = float((self.truth == np.bincount(self.train_labels).argmax()).mean())
        self.features: dict[str, dict[str, np.ndarray]] = {}
        self.hashes: dict[str, str] = {}

    def cells(self, design: Design) -> list[Cell]:
        """All cells; loads every competitor, so that an unknown name fails before the slow part."""
        for name in (PRETRAINED, *design.against):
            self.hashes[f"weights of {name}"] = weights_hash(self.encoder(name))
        sizes, self.skipped = self._sizes(design)
        if not sizes:
            text = f"nothing to draw: {'; '.join(self.skipped)}. Give smaller numbers, {ALL}, or --fractions"
            raise UserError(text)
        return [
            Cell(protocol, competitor, size, draw)
            for protocol in design.protocols
            for size in sizes
            for draw in range(1 if size == ALL else design.draws)
            for competitor in (PRETRAINED, SCRATCH if protocol == "full" else RANDOM, *design.against)
        ]

    def fingerprint(self) -> dict[str, str]:
        facts = {k: str(v) for k, v in asdict(self.setting).items() if k not in ("run", "on")}
        return self.hashes | {"data": self.data.sheet.fingerprint} | facts

    def rows(self, size: str, draw: int) -> Int[np.ndarray, "n"]:
        if size == ALL:
            return np.arange(len(self.train_labels))
        number = float(size[:-2]) / 100 if size.endswith("%") else int(size)
        return draw_rows(self.train_labels, number, draw, self.seed)

    def labels(self, size: str) -> float:
        return len(self.rows(size, 0)) / len(self.classes)

    def cost(self, cell: Cell) -> float:
        """Cost in units of a frozen fit; of a training, by its number of images."""
        if cell.protocol in FROZEN:
            return 1.0
        count = len(self.rows(cell.size, cell.draw))
        return 40.0 + count * min(150.0, 20 * (2000 / count) ** 0.5) * (2 if cell.competitor == SCRATCH else 1) / 100

    def in_memory(self, cell: Cell) -> bool:
        return cell.protocol in FROZEN

    def work(self) -> Work:
        return replace(super().work(), there=_Elsewhere(self.setting), jobs=self._jobs())

    def encoder(self, competitor: str) -> Encoder:
        """The weights that a competitor starts from."""
        if competitor in (PRETRAINED, SCRATCH):
            return self.pretrained
        return at_random(self.pretrained, self.seed) if competitor == RANDOM else load_encoder(competitor)

    def measure(self, cell: Cell) -> float:
        rows = self.rows(cell.size, cell.draw)
        predicted = self._fit(cell, rows) if cell.protocol in FROZEN else self._train(cell, rows)
        return float((predicted == self.truth).mean())

    def _fit(self, cell: Cell, rows: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
        if cell.competitor not in self.features:
            encoder, autocast = self.encoder(cell.competitor).to(self.setting.device).eval(), self._autocast()
            pools = {
                s: split_features(self.data, encoder, s, self.setting.device, autocast).pools for s in ("train", "test")
            }
            self.features[cell.competitor] = {split: features[POOLING] for split, features in pools.items()}
        x, y = self.features[cell.competitor]["train"][rows], self.train_labels[rows]
        evaluator = Knn() if cell.protocol == "knn" else penalty(x, y)
        return evaluator.fit_predict(x, y, self.features[cell.competitor]["test"])

    def _train(self, cell: Cell, rows: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
        encoder, scratch = self.encoder(cell.competitor), cell.competitor == SCRATCH
        hardware = machine(self.setting.device, self.setting.precision)
        chosen = {"protocol": cell.protocol, "seed": self.seed + cell.draw, "epochs": self.setting.epochs}
        plan = Plan(chosen | {"compile": "off"})  # trainings are many and short
        settings = plan_transfer(plan, len(rows), encoder, scratch, self.data.sheet, hardware)
        samples = self.data.samples("train", encoder.channels, [int(row) for row in rows])
        task = finetune(encoder, samples, settings, make_devices(settings), scratch=scratch)
        classifier = cast(ImageClassifier, task.result)
        loader = self.data.loader("test", encoder.channels, classifier.views)
        return answers(classifier, loader, self.setting.device, self._autocast()).argmax(axis=1)

    def _autocast(self) -> torch.dtype | None:
        return autocast_dtype(self.setting.precision)

    def _jobs(self) -> int:
        if self.jobs is not None:
            return self.jobs
        cached = sum(image.nbytes for image in self.data.cache.values())
        return most_jobs(machine(self.setting.device, self.setting.precision).device, cached)

    def _sizes(self, design: Design) -> tuple[list[str], list[str]]:
        """The sizes that the data supports, and a remark for each other one."""
        fewest, total = int(np.bincount(self.train_labels).min()), len(self.train_labels)
        sizes, skipped = [], []
        for size in design.labels_per_class:
            if size == ALL or (int(size) <= fewest and int(size) * len(self.classes) < total):
                sizes.append(str(size))
            elif int(size) > fewest:
                skipped.append(f"{size} labels per class: left out, the smallest class has {fewest}")
            else:
                each = total // len(self.classes)
                skipped.append(f"{size} labels per class: left out, that is all of them ({each})")
        return sizes + [f"{100 * fraction:g} %" for fraction in design.fractions], skipped


@dataclass(frozen=True)
class _Elsewhere:
    """Trains in another process, which opens data and encoders itself, once."""

    setting: Setting

    def __call__(self, key: Key) -> Json:
        return opened_once(self.setting, lambda: ClassificationStudy(self.setting)).line(Cell(*key))  # type: ignore[arg-type]
