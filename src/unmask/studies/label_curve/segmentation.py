"""How many segmented images does pretraining save? Trainings on parts of the images, the same for every rival.

As the label curve of classification (`labelling.py`), with mIoU instead of accuracy and images instead of labels per
class. Every size is trained several times: another part of the images each time, and where that is all of them,
another seed, since a single mIoU has no interval.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from unmask.cli.continue_run import results_folder
from unmask.cli.options.labels import Labels
from unmask.data.datasets.segmentation import Segmented
from unmask.errors import Interrupted
from unmask.files import write_json
from unmask.models.encoder import Encoder
from unmask.models.state import at_random, weights_hash
from unmask.plain import plain, texts
from unmask.planning.build import make_fit
from unmask.planning.plan import Plan
from unmask.report.training_page import write_report
from unmask.runs.run import CONFIG, load_encoder
from unmask.runtime.distributed.fabric import make_fabric
from unmask.runtime.machine import machine, tune
from unmask.runtime.settings import runtime_of
from unmask.studies.label_curve.curve import ALL, PRETRAINED, RANDOM, SCRATCH, Curve, draw_curve, make_point, worths
from unmask.studies.label_curve.study import Cell, Records
from unmask.tasks.segmentation.finetune import make_segment_loader, make_segment_task, read_segmented, score_split
from unmask.tasks.segmentation.plan import plan_segment
from unmask.training.log import Silent, make_console
from unmask.training.loop import fit
from unmask.training.speed.compile import ready

RESULT, IMAGE, RECORDS = "labels.json", "labels.png", "labels.jsonl"
ASKED = ("head", "crop_size", "side", "epochs")  # of every training


def segment_labelling(options: Labels) -> Curve:
    """The work of `unmask labels --to segment`; finished trainings are kept, and the same command goes on."""
    console, out = make_console(), results_folder(options.run, options.out)
    here = machine(options.device, options.precision)
    tune(here.device)
    say: Callable[[str], Any] = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
    encoder = load_encoder(options.run)
    data = read_segmented(_Reading(options), encoder, console)
    count = len(data.splits["train"])
    sizes = [f"{100 * fraction:g} %" for fraction in options.fractions] + [ALL]  # type: ignore[union-attr]
    cells = list(_cells(options, sizes))
    out.mkdir(parents=True, exist_ok=True)
    records = Records(out / RECORDS, _fingerprint(options, encoder, data, here))
    todo = [cell for cell in cells if cell not in records.found]
    if len(todo) < len(cells):
        say(f"{len(cells) - len(todo)} of {len(cells)} trainings were done before and are not repeated.")
    try:
        for cell in todo:
            records.add(cell, _score(cell, options, encoder, data, here))
            images = f"{len(rows_of(cell, count, options.seed)):,} images"
            say(f"{cell.protocol} {cell.competitor}, {images}, draw {cell.draw}: mIoU {records.found[cell]:.1%}")
    except (KeyboardInterrupt, Interrupted) as error:
        signum = 2 if isinstance(error, KeyboardInterrupt) else error.exit_code - 128
        kept = f"stopped; {len(records.found)} of {len(cells)} trainings are kept in {out}, the same command goes on"
        raise Interrupted(kept, signum) from error
    curve = _curve(records, data, options)
    content = curve.to_json() | {"on": list(texts(options.on)), "run": str(options.run), "draws": options.draws}
    write_json(out / RESULT, content | {"seed": options.seed, "to": "segment"})
    draw_curve(curve, out / IMAGE)
    if (out / CONFIG).exists():
        write_report(out)
    say(curve.sentence())
    say(f"Written: {out / RESULT}, {out / IMAGE}")
    return curve


def rows_of(cell: Cell, count: int, seed: int) -> np.ndarray:
    """Places in the training split, in order: the same for every rival, and fewer are part of more."""
    if cell.size == ALL:
        return np.arange(count)
    number = max(1, round(float(cell.size[:-2]) / 100 * count))
    return np.sort(np.random.default_rng([seed, cell.draw, 0x5E6]).permutation(count)[:number])


class _Reading:
    """The options of `transfer` that reading data asks for."""

    def __init__(self, options: Labels):
        self.on, self.images, self.classes, self.void = options.on, options.images, options.classes, None
        self.side, self.crop_size, self.most, self.seed = options.side, options.crop_size, options.most, options.seed
        self.max_bad = None


def _cells(options: Labels, sizes: list[str]) -> Iterator[Cell]:
    for protocol in texts(options.protocols):
        for size in sizes:
            for draw in range(options.draws):
                for competitor in (PRETRAINED, SCRATCH if protocol == "full" else RANDOM):
                    yield Cell(protocol, competitor, size, draw)


def _score(cell: Cell, options: Labels, encoder: Encoder, data: Segmented, here: Any) -> float:
    scratch = cell.competitor == SCRATCH
    start = at_random(encoder, options.seed + cell.draw) if cell.competitor == RANDOM else encoder
    rows = rows_of(cell, len(data.splits["train"]), options.seed)
    asked = {name: getattr(options, name) for name in ASKED}
    asked |= {"protocol": cell.protocol, "seed": options.seed + cell.draw, "compile": "off"}
    if cell.protocol == "linear":
        asked["head"] = None  # the linear one: what the features say by themselves
    plan = Plan(dict(asked))
    plan_segment(plan, len(rows), start, scratch, data.sheet, here)
    settings = plan.settings
    task = make_segment_task(start, data, settings, scratch)
    segments = data.segments("train", encoder.channels, [int(row) for row in rows])
    ready(task, runtime_of(settings))
    loader = make_segment_loader(segments, start, settings)
    fit(task, loader, make_fit(settings, len(rows)), None, make_fabric(runtime_of(settings)), Silent())
    model = task.result.eval().to(torch.device(settings["device"]))
    return score_split(model, data, "test", settings)["miou"]


def _fingerprint(options: Labels, encoder: Encoder, data: Segmented, here: Any) -> dict[str, str]:
    asked = {name: str(plain(options)[name]) for name in (*ASKED, "seed", "most")}
    found = {"task": "segment", "weights": weights_hash(encoder), "data": data.sheet.fingerprint}
    return found | asked | {"device": here.device, "precision": here.precision}


def _curve(records: Records, data: Segmented, options: Labels) -> Curve:
    count = len(data.splits["train"])
    groups: dict[tuple[str, str, str], list[float]] = {}
    order = sorted(records.found, key=lambda c: (c.protocol, c.competitor != PRETRAINED, c.competitor, c.size, c.draw))
    for cell in order:
        groups.setdefault((cell.protocol, cell.competitor, cell.size), []).append(records.found[cell])
    points = [
        make_point(protocol, rival, size, float(len(rows_of(Cell(protocol, rival, size, 0), count, 0))), draws, None)
        for (protocol, rival, size), draws in groups.items()
    ]
    counts = {split: len(data.splits[split]) for split in ("train", "test")}
    shape = {"unit": "training images", "score": "mIoU"}
    return Curve(points, worths(points, None, options.seed), data.classes, counts, [], **shape)
