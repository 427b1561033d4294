"""A study of labels: the same data, draws and encoders in every process, and a file of what is finished.

Used by the verb `labels`. Frozen protocols take features once per encoder; trainings go through `finetune`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask.cli.options.labels import Labels
from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.draws import draw_rows, hold_out
from unmask.data.transforms.crops import WholeImage
from unmask.errors import UserError
from unmask.evaluation.frozen.knn import Knn
from unmask.evaluation.frozen.linear import Linear
from unmask.files import write_atomically
from unmask.models.encoder import Encoder
from unmask.models.state import at_random, weights_hash
from unmask.planning.plan import Plan
from unmask.runs.run import load_encoder
from unmask.runtime.distributed.fabric import make_fabric
from unmask.runtime.machine import autocast_dtype, machine, tune
from unmask.runtime.settings import runtime_of
from unmask.studies.label_curve.curve import ALL, PRETRAINED, RANDOM, SCRATCH
from unmask.tasks.classification.finetune import answers, finetune
from unmask.tasks.classification.plan import plan_transfer

POOLING = "mean4"  # of kNN and linear, fixed: choosing one takes labels
CHOOSE = 5  # labels per class from which the linear strength is chosen, on a fifth of them


@dataclass(frozen=True)
class Cell:
    """One training or fit, and its place in the curve."""

    protocol: str
    competitor: str
    size: str
    draw: int


@dataclass(frozen=True)
class Setting:
    """What a process needs to open data and encoders for itself; hashable, so that it does so once."""

    run: str
    on: tuple[str, ...]
    most: int | None
    most_test: int | None
    seed: int
    device: str
    precision: str
    epochs: float | None
    threads: int


class Study:
    """Data, encoders and draws; the same in every process."""

    def __init__(self, setting: Setting, say: Callable[[str], Any] = lambda text: None):
        tune(setting.device)
        self.setting = setting
        self.runs = load_encoder(setting.run)
        self.labelled = Labelled(
            setting.on,
            max_side=4 * max(self.runs.grid.size),
            most=setting.most,
            most_test=setting.most_test,
            seed=setting.seed,
            hold_out_val=False,
            max_bad=0.05,
            say=say,
        )
        if self.labelled.multi_label:
            raise UserError("label curves are for one label per image; this data has several")
        self.labels = self.labelled.labels("train")
        self.truth = self.labelled.labels("test")
        self.features: dict[str, dict[str, np.ndarray]] = {}

    def encoder(self, competitor: str) -> Encoder:
        """The weights that a competitor starts from."""
        if competitor in (PRETRAINED, SCRATCH):
            return self.runs
        return at_random(self.runs, self.setting.seed) if competitor == RANDOM else load_encoder(competitor)

    def fingerprint(self, competitors: dict[str, Encoder]) -> dict[str, str]:
        """What finished trainings must have in common with what is asked now."""
        found = {f"weights of {name}": weights_hash(encoder) for name, encoder in competitors.items()}
        settings = asdict(self.setting)
        for name in ("run", "on", "threads"):
            settings.pop(name)
        return found | {"data": self.labelled.sheet.fingerprint} | {k: str(v) for k, v in settings.items()}

    def sizes(self, options: Labels) -> tuple[list[str], list[str]]:
        """The sizes that the data has, and a line for each that it has not."""
        fewest = int(np.bincount(self.labels).min())
        every = len(self.labels) // len(self.labelled.classes)
        sizes, skipped = [], []
        for size in options.labels_per_class:  # type: ignore[union-attr]
            if size == ALL or (int(size) <= fewest and int(size) * len(self.labelled.classes) < len(self.labels)):
                sizes.append(str(size))
            elif int(size) > fewest:
                skipped.append(f"{size} labels per class: left out, the smallest class has {fewest}")
            else:
                skipped.append(f"{size} labels per class: left out, that is all of them ({every})")
        return sizes + [f"{100 * fraction:g} %" for fraction in options.fractions], skipped  # type: ignore[union-attr]

    def rows(self, size: str, draw: int) -> np.ndarray:
        """Places in the training split: the same for every competitor, and fewer are part of more."""
        if size == ALL:
            return np.arange(len(self.labels))
        number = float(size[:-2]) / 100 if size.endswith("%") else int(size)
        return draw_rows(self.labels, number, draw, self.setting.seed)

    def accuracy(self, cell: Cell) -> float:
        """Trains and tests."""
        rows = self.rows(cell.size, cell.draw)
        found = self._frozen(cell, rows) if cell.protocol in ("knn", "linear") else self._trained(cell, rows)
        return float((found == self.truth).mean())

    def _frozen(self, cell: Cell, rows: np.ndarray) -> np.ndarray:
        if cell.competitor not in self.features:
            encoder, autocast = self.encoder(cell.competitor).to(self.setting.device).eval(), self._autocast()
            taken = {s: self.labelled.features(encoder, s, self.setting.device, autocast) for s in ("train", "test")}
            self.features[cell.competitor] = {s: features.pools[POOLING] for s, features in taken.items()}
        x, y = self.features[cell.competitor]["train"][rows], self.labels[rows]
        part = Knn() if cell.protocol == "knn" else _chosen(x, y)
        return part.fit_predict(x, y, self.features[cell.competitor]["test"])

    def _trained(self, cell: Cell, rows: np.ndarray) -> np.ndarray:
        encoder, scratch = self.encoder(cell.competitor), cell.competitor == SCRATCH
        here = machine(self.setting.device, self.setting.precision)
        asked = {"protocol": cell.protocol, "seed": self.setting.seed + cell.draw, "epochs": self.setting.epochs}
        asked["compile"] = "off"  # trainings are many and short
        plan = Plan(dict(asked))
        plan_transfer(plan, len(rows), encoder, scratch, self.labelled.sheet, here)
        samples = self.labelled.samples("train", encoder.channels, [int(row) for row in rows])
        task = finetune(encoder, samples, plan.settings, make_fabric(runtime_of(plan.settings)), scratch=scratch)
        size = encoder.grid.size
        loader = self.labelled.loader("test", encoder.channels, WholeImage((size[0], size[1])))
        return answers(task.result, loader, self.setting.device, self._autocast()).argmax(axis=1)

    def _autocast(self) -> torch.dtype | None:
        return autocast_dtype(self.setting.precision)


class Records:
    """Accuracies of finished cells, one JSON line each, below a line that says what they were made of."""

    def __init__(self, path: Path, fingerprint: dict[str, str]):
        self.path, self.found = path, {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        known = [record for line in lines if (record := _parsed(line))]
        before = known[0].get("made_of", {}) if known else {}
        other = [name for name in before if name in fingerprint and before[name] != fingerprint[name]]
        if other:
            raise UserError(
                f"{path} holds results of other {', '.join(other)}; give another folder with --out, or remove the file"
            )
        for record in known[1:]:
            self.found[Cell(*(record[k] for k in ("protocol", "competitor", "size", "draw")))] = record["accuracy"]
        head = json.dumps({"made_of": before | fingerprint})
        text = "".join(f"{line}\n" for line in [head, *(json.dumps(record) for record in known[1:])])
        write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))

    def add(self, cell: Cell, accuracy: float) -> None:
        """At once on disk."""
        self.found[cell] = accuracy
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(cell) | {"accuracy": accuracy}) + "\n")


def _chosen(x: np.ndarray, y: np.ndarray) -> Linear:
    """The penalty that does best on a fifth of the labels, where there are enough; the default where there are not."""
    if np.bincount(y).min() < CHOOSE:
        return Linear()
    keep, held = hold_out(y)
    scores = [(float((c.fit_predict(x[keep], y[keep], x[held]) == y[held]).mean()), c) for c in Linear().candidates()]
    return max(scores, key=lambda pair: pair[0])[1]


def _parsed(line: str) -> dict[str, Any] | None:
    """A record; None for a line that a crash cut off."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
