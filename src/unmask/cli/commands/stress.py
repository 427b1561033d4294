"""The verb `stress`, step by step: open the classifier, read the test images once, damage and judge, draw, say."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from unmask.cli.options.stress import StressTest
from unmask.cli.verb import verb
from unmask.data.codecs.decode import to_channels
from unmask.errors import Interrupted, UserError, closest
from unmask.evaluation.features import judged
from unmask.evaluation.intervals import wilson
from unmask.files import CLASSIFY, write_json
from unmask.models.state import weights_hash
from unmask.plain import numbers, plain, texts
from unmask.runs.run import CONFIG
from unmask.runtime.machine import machine, tune
from unmask.studies.robustness.corrupt import corrupt, corruptions
from unmask.studies.robustness.figures import draw_examples, draw_stress
from unmask.studies.robustness.groups import choose_columns, compare
from unmask.studies.robustness.results import Stress, group_rows, make_cell, rows, table
from unmask.studies.robustness.test_images import Tested, read_tested
from unmask.tasks.classification.classifier import ImageClassifier
from unmask.tasks.classification.metrics import scores
from unmask.tasks.folders import weights_file
from unmask.tasks.open import open_classifier
from unmask.tasks.pages import write_report
from unmask.training.log import clock, make_console
from unmask.version import __version__

__all__ = ["stress"]
if TYPE_CHECKING:
    from unmask.studies.robustness.results import Stress


RESULT, IMAGE, EXAMPLES, CELLS = "stress.json", "stress.png", "stress_examples.png", "stress_cells.json"
SHOWN = 3  # severity of the examples, where it is among those tested


def stressing(options: StressTest) -> Stress:
    """See `unmask.cli.commands.stress.stress`."""
    console, here = make_console(), machine(options.device, "32")
    tune(here.device)
    names, folder = _names(options), _folder(options)
    out = _out(options, folder)
    classifier = open_classifier(folder)
    tested = read_tested(options, folder, classifier, console)
    columns = choose_columns(tested.columns, texts(options.groups))
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device(here.device)
    bench = Bench(classifier.to(device), tested, device, options.batch, options.seed, here.cores)
    clean = bench.probabilities([tested.images[i : i + options.batch] for i in range(0, len(tested), options.batch)])
    right = tested.right(clean)
    console.print(f"Clean accuracy {100 * right.mean():.1f} % on {len(tested):,} test images.", soft_wrap=True)
    done = _Cells(out / CELLS, bench.fingerprint(), console)
    wanted = [(name, severity) for name in names for severity in numbers(options.severities)]
    _compute(bench, wanted, done, console)
    found = {key: done.right(key, len(tested)) for key in wanted}
    share = np.mean(list(found.values()), axis=0)
    arguments = (clean, tested.truth, classifier.classes, right, share)
    figures = scores(clean, tested.truth, classifier.classes)
    stress = Stress(
        count=len(tested),
        classes=classifier.classes,
        multi_label=classifier.multi_label,
        accuracy=float(right.mean()),
        **dict(zip(("low", "high"), wilson(int(right.sum()), len(right)))),
        balanced_accuracy=figures.get("balanced_accuracy"),
        cells=[make_cell(*key, right, damaged) for key, damaged in found.items()],
        groupings=[compare(c, [row.get(c, "") for row in tested.columns], *arguments) for c in columns],
        settings=plain(options),
    )
    _write(stress, bench, clean, names, out)
    _say(stress, out, console)
    return stress


@dataclass
class Bench:
    """A classifier and the images that it is tested on, damaged in many ways."""

    classifier: ImageClassifier  # on `device`
    tested: Tested
    device: torch.device
    batch: int
    seed: int
    threads: int

    def probabilities(self, batches: Any) -> Float[np.ndarray, "n k"]:
        """For batches of images in the data's own channels, in order."""
        channels, found = self.classifier.encoder.channels, []
        with judged(self.classifier):
            for batch in batches:
                x = torch.stack([to_channels(image.float(), channels) for image in batch])
                found.append(self.classifier.probabilities(x.to(self.device)).float().cpu())
        return torch.cat(found).numpy()

    def right(self, name: str, severity: int) -> Bool[np.ndarray, "n"]:
        """Which images are answered rightly under a corruption."""
        return self.tested.right(self.probabilities(self._damaged(name, severity)))

    def one(self, place: int, name: str, severity: int) -> Tensor:
        """One image, damaged; the same in every run."""
        number = self.tested.numbers[place]
        return corrupt(self.tested.images[place], name, severity, seed=self.seed, number=number)

    def _damaged(self, name: str, severity: int) -> Iterator[list[Tensor]]:
        """Batches; while the model looks at one, threads make the next."""
        places = range(len(self.tested))
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: list[Future[Tensor]] = []
            for start in [*places[:: self.batch], None]:
                ready = waiting
                waiting = [] if start is None else [
                    pool.submit(self.one, place, name, severity) for place in places[start : start + self.batch]
                ]  # fmt: skip
                if ready:
                    yield [future.result() for future in ready]

    def fingerprint(self) -> str:
        """Changes with whatever decides which images are answered rightly."""
        facts = f"{__version__} {self.seed} {weights_hash(self.classifier)} {self.tested.numbers} "
        found = hashlib.blake2b(facts.encode() + self.tested.truth.tobytes(), digest_size=16)
        for image in self.tested.images:
            found.update(f"{image.dtype} {tuple(image.shape)} ".encode() + image.numpy().tobytes())
        return found.hexdigest()


@dataclass
class _Cells:
    """Finished corruptions and severities in a file: for each, one bit per image."""

    path: Path
    fingerprint: str
    console: Console
    found: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if not self.path.exists():
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            self.found = dict(content["cells"]) if content["fingerprint"] == self.fingerprint else {}
            reason = "is of other weights, images or another seed"
        except (ValueError, KeyError, TypeError):
            reason = "is damaged"
        if not self.found:
            self.console.print(f"{self.path} {reason}; everything is computed anew", soft_wrap=True)

    def __contains__(self, key: tuple[str, int]) -> bool:
        return f"{key[0]} {key[1]}" in self.found

    def keep(self, key: tuple[str, int], right: np.ndarray) -> None:
        self.found[f"{key[0]} {key[1]}"] = np.packbits(right).tobytes().hex()
        write_json(self.path, {"fingerprint": self.fingerprint, "cells": self.found})

    def right(self, key: tuple[str, int], count: int) -> np.ndarray:
        packed = np.frombuffer(bytes.fromhex(self.found[f"{key[0]} {key[1]}"]), np.uint8)
        return np.unpackbits(packed, count=count).astype(bool)


def _compute(bench: Bench, wanted: Sequence[tuple[str, int]], done: _Cells, console: Console) -> None:
    """What is not done yet, one corruption and severity after the other, each kept as soon as it is finished."""
    missing = [key for key in wanted if key not in done]
    if len(missing) < len(wanted):
        console.print(
            f"{len(wanted) - len(missing)} of {len(wanted)} results are there already and not computed again",
            soft_wrap=True,
        )
    start = time.perf_counter()
    columns = TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, TextColumn("{task.fields[eta]}"), console=console, disable=not console.is_terminal)
    try:
        with bar:
            task = bar.add_task("", total=len(missing), eta="")
            for number, key in enumerate(missing, 1):
                bar.update(task, description=f"{key[0]} {key[1]}")
                done.keep(key, bench.right(*key))
                eta = clock((time.perf_counter() - start) / number * (len(missing) - number)) + " left"
                bar.update(task, completed=number, eta=eta)
                if not console.is_terminal and (number == len(missing) or missing[number][0] != key[0]):
                    of = [done.right(k, len(bench.tested)).mean() for k in wanted if k[0] == key[0] and k in done]
                    shares = " ".join(f"{100 * share:.1f}" for share in of)
                    console.print(f"{key[0]}: {shares} % · {number}/{len(missing)} · {eta}", soft_wrap=True)
    except (KeyboardInterrupt, Interrupted) as error:
        signum = 2 if isinstance(error, KeyboardInterrupt) else error.exit_code - 128
        kept = sum(key in done for key in wanted)
        text = f"stopped; {kept} of {len(wanted)} results are kept in {done.path}: the same command goes on from there"
        raise Interrupted(text, signum) from error


def _names(options: StressTest) -> list[str]:
    """The corruptions asked for, in the order of the tables."""
    there, asked = corruptions(), texts(options.corruptions)
    for name in asked:
        if name not in there:
            raise UserError(f"no corruption {name!r}{closest(name, there)} There are: {', '.join(there)}")
    return [name for name in there if name in asked or not asked]


def _folder(options: StressTest) -> Path:
    """Where the classifier is: the folder given, or `classify` in it."""
    folder = Path(options.run)
    inside = folder / CLASSIFY
    weights = weights_file(CLASSIFY)
    return inside if not (folder / weights).exists() and (inside / weights).exists() else folder


def _out(options: StressTest, folder: Path) -> Path:
    out = Path(options.out or folder)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    return out


def _write(stress: Stress, bench: Bench, clean: np.ndarray, names: list[str], out: Path) -> None:
    write_json(out / RESULT, stress.to_json())
    draw_stress(stress, out / IMAGE)
    severity = min(stress.severities, key=lambda s: (abs(s - SHOWN), s))
    place = _example(stress, bench, clean)
    images = [bench.tested.images[place], *(bench.one(place, name, severity) for name in names)]
    probabilities = bench.probabilities([[image] for image in images])
    alike = bench.tested.at([place] * len(images))
    answers = list(zip(_answers(stress, probabilities), alike.right(probabilities).tolist()))
    titles = ["clean", *(f"{name.replace('_', ' ')}, {severity}" for name in names)]
    draw_examples(images, titles, answers, out / EXAMPLES)
    if (out / CONFIG).exists():
        write_report(out)


def _example(stress: Stress, bench: Bench, clean: np.ndarray) -> int:
    """An image that is answered rightly when clean, neither very surely nor hardly."""
    right = np.flatnonzero(bench.tested.right(clean))
    if not len(right):
        return 0
    sure = clean[right].max(axis=1)
    return int(right[np.argsort(sure, kind="stable")[len(sure) // 2]])


def _answers(stress: Stress, probabilities: np.ndarray) -> list[str]:
    if stress.multi_label:
        names = [[stress.classes[i] for i in np.flatnonzero(row > 0.5)] for row in probabilities]
        return [", ".join(found) or "none" for found in names]
    return [f"{stress.classes[row.argmax()]} {100 * row.max():.0f} %" for row in probabilities]


def _say(stress: Stress, out: Path, console: Console) -> None:
    console.print(table("Accuracy in percent", rows(stress)))
    for grouping in stress.groupings:
        console.print(table(f"Accuracy by {grouping.column}, in percent", group_rows(grouping)))
    console.print(stress.sentence(), soft_wrap=True)
    console.print(f"Written: {out / RESULT}, {out / IMAGE}, {out / EXAMPLES}", soft_wrap=True)


@verb(StressTest)
def stress(options: StressTest) -> "Stress":
    """Tests under every corruption and severity; writes stress.json, stress.png, stress_examples.png and the report.

    An interrupted test goes on where it stopped. Raises UserError for a folder that is no classifier, an unknown
    corruption or column, or classes that the classifier does not know; DataError for images without labels.
    """
    return stressing(options)
