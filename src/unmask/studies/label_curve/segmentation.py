"""Label-efficiency of segmenters: how many annotated images does pretraining save?

Like the study of classifiers, with mIoU instead of accuracy and images instead of labels per class. Subsets of the
images are the same for every rival. Every size is trained several times: on another subset each time, or with another
seed if it is all images, since a single mIoU has no interval.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from rich.console import Console

from unmask.data.codecs.decode import decode_side
from unmask.data.datasets.segmentation import Segmented
from unmask.data.loaders.map_style import Loader
from unmask.data.modality import make_modality
from unmask.models.encoder import Encoder
from unmask.models.segmenter import Segmenter
from unmask.models.state import at_random, weights_hash
from unmask.planning.plan import Plan
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.machine import machine, tune
from unmask.studies.label_curve.curve import ALL, PRETRAINED, RANDOM, SCRATCH
from unmask.studies.label_curve.study import Cell, Design, Study
from unmask.tasks.segmentation.finetune import make_segment_loader, make_segment_task, score_split
from unmask.tasks.segmentation.objective import Segment
from unmask.tasks.segmentation.plan import plan_segment
from unmask.tasks.segmentation.reading import read_labelled
from unmask.tasks.segmentation.settings import SegmentOptions
from unmask.tasks.task import DataOptions
from unmask.tasks.training_settings import TaskSettings
from unmask.training.log import Silent
from unmask.training.loop import fit
from unmask.training.speed.compile import ready


@dataclass(frozen=True)
class SegmentSetting:
    """The data, and the settings that all trainings share."""

    run: str
    reading: tuple[tuple[str, Any], ...]  # options for weights
    on: tuple[str, ...]
    images: Path | None  # folder of the images, where they do not lie by the masks
    classes: Path | None  # file that names the classes
    void: tuple[str, ...] | None  # names or numbers that are no class; None: what the masks' format says
    max_bad: float | None  # share of bad images that may be left out
    crop_size: tuple[int, int] | None
    side: int | None  # pixels of an image's shorter side
    most: int | None  # training images
    head: str | None
    epochs: float | None
    seed: int
    device: str
    precision: str

    @property
    def data(self) -> DataOptions:
        return DataOptions(self.on, self.most, self.seed)

    @property
    def options(self) -> SegmentOptions:
        """Those that say how the data is read."""
        return SegmentOptions(images=self.images, classes=self.classes, void=self.void, max_bad=self.max_bad)


class SegmentationStudy(Study):
    """Data, encoder and draws."""

    score = "mIoU"
    num_test = None

    data: Segmented

    def __init__(self, setting: SegmentSetting, encoder: Encoder, console: Console):
        self.setting, self.seed, self.encoder = setting, setting.seed, encoder
        self.hardware = machine(setting.device, setting.precision)
        tune(self.hardware.device)
        self.word = make_modality(self.encoder.modality).word
        self.unit = f"training {self.word}s"
        self.read(setting, console)
        self.classes, self.said = self.data.classes, f"{self.data.said} {self.word}s"
        self.counts = {split: len(self.data.splits[split]) for split in ("train", "test")}

    def read(self, setting: SegmentSetting, console: Console) -> None:
        """Opens the data and prints remarks."""
        side = setting.side or min(setting.crop_size or self.encoder.input_size)
        make = partial(Segmented, max_side=decode_side(side))
        self.data = read_labelled(make, setting.data, setting.options, self.encoder, console, f"{self.word}s and masks")

    def cells(self, design: Design) -> list[Cell]:
        return [
            Cell(protocol, competitor, size, draw)
            for protocol in design.protocols
            for size in [*(f"{100 * fraction:g} %" for fraction in design.fractions), ALL]
            for draw in range(design.draws)
            for competitor in (PRETRAINED, SCRATCH if protocol == "full" else RANDOM)
        ]

    def fingerprint(self) -> dict[str, str]:
        setting, weights = self.setting, weights_hash(self.encoder)
        crop = None if setting.crop_size is None else list(setting.crop_size)
        facts = {"head": setting.head, "crop_size": crop, "side": setting.side, "epochs": setting.epochs}
        facts |= {"seed": setting.seed, "most": setting.most}
        facts |= {"device": self.hardware.device, "precision": self.hardware.precision}
        return {"task": "segment", "weights": weights, "data": self.data.sheet.fingerprint} | {
            name: str(value) for name, value in facts.items()
        }

    def rows(self, size: str, draw: int) -> Int[np.ndarray, "n"]:
        count = self.counts["train"]
        if size == ALL:
            return np.arange(count)
        number = max(1, round(float(size[:-2]) / 100 * count))
        return np.sort(np.random.default_rng([self.seed, draw, 0x5E6]).permutation(count)[:number])

    def cost(self, cell: Cell) -> float:
        return float(len(self.rows(cell.size, cell.draw)))

    def in_memory(self, cell: Cell) -> bool:
        return False

    def measure(self, cell: Cell) -> float:
        setting, seed = self.setting, self.seed + cell.draw
        scratch = cell.competitor == SCRATCH
        start = at_random(self.encoder, seed) if cell.competitor == RANDOM else self.encoder
        rows = [int(row) for row in self.rows(cell.size, cell.draw)]
        chosen = {"head": setting.head, "crop_size": setting.crop_size, "side": setting.side, "epochs": setting.epochs}
        chosen |= {"protocol": cell.protocol, "seed": seed, "compile": "off"}
        if cell.protocol == "linear":
            chosen["head"] = None  # the linear one: what the features say by themselves
        return self.trained(start, scratch, rows, Plan(chosen))

    def trained(self, start: Encoder, scratch: bool, rows: list[int], plan: Plan) -> float:
        """The score on the test split of what was trained on some of the training images."""
        settings = plan_segment(plan, len(rows), start, scratch, self.data.sheet, self.hardware)
        task = make_segment_task(start, self.data, settings, scratch)
        loader = make_segment_loader(self.data.segments("train", start.channels, rows), start, settings)
        model = self.fitted(task, loader, settings, len(rows))
        return score_split(model, self.data, "test", settings.precision)["miou"]

    def fitted(self, task: Segment, loader: Loader, settings: TaskSettings, count: int) -> Segmenter:
        """The model after training on so many samples, on its device."""
        fit(ready(task, settings), loader, settings.fit(count), None, make_devices(settings), Silent())
        return task.result.eval().to(torch.device(settings.device))
