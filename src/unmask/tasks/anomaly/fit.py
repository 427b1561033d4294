"""Fitting a finder of anomalies: what rebuilds, which images are normal and held out, learning, calibration, saving."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from unmask.data.datasets.images import Samples
from unmask.errors import DataError, UserError
from unmask.files import Json, write_json
from unmask.models.encoder import Encoder
from unmask.models.state import model_text
from unmask.runs.run import CONFIG, Run
from unmask.runtime.progress import progress, tracked
from unmask.tasks.anomaly.conformal import Calibration, check_enough, image_threshold, images_needed, pixel_threshold
from unmask.tasks.anomaly.inputs import good, opened, read, without_copies
from unmask.tasks.anomaly.labels import labels_of, normal_classes
from unmask.tasks.anomaly.model import METHODS, Finder, Settings
from unmask.tasks.open import ANOMALY, FINDER, load_encoder
from unmask.training.objective import Rebuilder, drawn_by
from unmask.version import __version__
from unmask.weights.files import save_state

PIXELS = 10_000_000  # of calibration maps that the pixels' threshold is taken from; of more, a regular part
BLUR = 1 / 64  # of the shorter side: 3.5 pixels at 224; PatchCore smooths by 4


@dataclass(frozen=True)
class Part:
    """A subset of the images of a set."""

    samples: Samples
    rows: list[int]


@dataclass(frozen=True)
class NormalImages:
    """The images to fit on and to calibrate on."""

    images: Sequence[str]
    normal: Sequence[str]  # names of the classes that are normal; none: those with a usual name
    calibrate_on: Sequence[str]  # other images to calibrate on; none: a part is held out
    held_out: float  # share
    false_alarms: float  # rate that the held-out images must be enough for
    most: int  # images to fit on
    seed: int


def open_model(run: Path, method: str, reading: Mapping[str, Any]) -> tuple[Rebuilder | Encoder, Json]:
    """What looks at images, and the configuration that it can be made from again. reading: options for weights."""
    if method == "features":
        encoder = load_encoder(run, **reading)
        settings = {"image_size": list(encoder.grid.size), "patch_size": encoder.arguments.get("patch_size")}
        settings |= {"model": model_text(encoder), "channels": encoder.channels}
        statistics = {"mean": encoder.mean.tolist(), "std": encoder.std.tolist()}
        return encoder.eval(), {"settings": settings, **statistics, "timm": dict(encoder.arguments), "data": {}}
    if reading:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in reading)
        raise UserError(f"{given}: a run's decoder rebuilds what its encoder was trained on; use --method features")
    if not (run / CONFIG).exists():
        if run.is_dir() or not run.exists():
            Run(run)  # says what is wrong with a folder
        raise UserError(f"{run} is no run folder, so there is no decoder to rebuild with; use --method features")
    opened_run = Run(run)
    if opened_run.task:
        raise UserError(
            f"{run} was made by {opened_run.task}, it has no decoder to rebuild with; give the folder of the"
            " pretraining, or use --method features"
        )
    model = drawn_by(opened_run.objective())
    if model is None:
        trained = opened_run.config.method
        what = f"{trained.name} with the target {trained.target}" if trained.target else trained.name
        raise UserError(
            f"{run} was trained with {what}, which rebuilds no pixels of hidden patches; use --method features"
        )
    return model, {name: opened_run.record[name] for name in ("settings", "mean", "std", "timm", "data")}


def choose_settings(
    model: Rebuilder | Encoder,
    method: str,
    *,
    ratio: float | None,  # None: the run's
    layers: Sequence[int],  # none: the two in the middle
    blur: float | None,
    sets: int,
    seed: int,
    normalize_errors: str,
    memory: int,
    tiles: int,
) -> Settings:
    """Chooses open settings to suit the model. Raises UserError for a layer that it does not have."""
    encoder = model if isinstance(model, Encoder) else model.encoder
    count = len(encoder.layers(torch.zeros(1, encoder.channels, *encoder.grid.size), 10**6))
    for layer in layers:
        if not -count <= layer < count:
            raise UserError(f"--layers {layer}: the encoder has {count}, from 0 to {count - 1}, or -{count} to -1")
    return Settings(
        methods=METHODS if method == "both" else (method,),
        ratio=getattr(getattr(model, "mask", None), "ratio", 0.75) if ratio is None else ratio,
        sets=sets,
        seed=seed,
        normalize_errors=normalize_errors,
        layers=tuple(layer % count for layer in layers) or tuple(sorted({max(0, count // 2 - 1), count // 2})),
        memory=memory,
        blur=min(encoder.grid.size) * BLUR if blur is None else blur,
        tiles=tiles,
    )


def choose_images(chosen: NormalImages, finder: Finder, console: Console) -> tuple[Part, Part]:
    """Normal images to fit on, and others to calibrate on; neither an image nor a copy of it is in both."""
    digests: set[bytes] = set()
    samples = _normal(chosen.images, chosen.normal, finder, console)
    rows, copies = without_copies(samples, digests)
    order = np.random.default_rng([chosen.seed, 0xA0]).permutation(rows)
    if chosen.calibrate_on:
        others = _normal(chosen.calibrate_on, chosen.normal, finder, console)
        held, more = without_copies(others, digests)
        copies += more
        check_enough(len(held), chosen.false_alarms, " to --calibrate-on")
        fit, held_out = Part(samples, sorted(map(int, order))), Part(others, held)
    else:
        least = images_needed(chosen.false_alarms)
        count = max(round(chosen.held_out * len(order)), min(least, len(order) // 2))
        check_enough(count, chosen.false_alarms, f" (of {len(order)}, {count} would be held out)")
        fit, held_out = (Part(samples, sorted(map(int, part))) for part in (order[count:], order[:count]))
    if copies:
        console.print(f"{copies:,} exact copies of other normal images are left out", soft_wrap=True)
    if not fit.rows:
        raise DataError("no normal image is left to fit on")
    if len(fit.rows) > chosen.most:
        drawn = np.random.default_rng([chosen.seed, 0xA1]).permutation(fit.rows)[: chosen.most]
        console.print(f"{chosen.most:,} of {len(fit.rows):,} are drawn to fit on; --most changes that")
        fit = Part(samples, sorted(map(int, drawn)))
    return fit, held_out


def _normal(places: Sequence[str], names: Sequence[str], finder: Finder, console: Console) -> Samples:
    """The normal images of a source: all of them, unless labels say which; the test split is not used."""
    source = opened(places, console)
    rows = [i for i, item in enumerate(source.items) if item.split != "test"] or list(range(len(source.items)))
    if len(rows) < len(source.items):
        console.print(f"{len(source.items) - len(rows):,} images of the test split are left alone", soft_wrap=True)
    normal = normal_classes(source, names)
    if normal:
        labels = labels_of(source, rows, normal)
        others = int((labels != 0).sum())
        rows = [row for row, label in zip(rows, labels) if label == 0]
        if others:
            console.print(f"{others:,} images that are not {' or '.join(normal)} are left out", soft_wrap=True)
        if not rows:
            raise DataError(f"no image in {source.where} outside of its test split is {' or '.join(normal)}")
    return read(source, rows, finder.encoder, finder.max_side, console, "normal images")


def learn(finder: Finder, part: Part, batch: int, console: Console) -> None:
    """batch: tiles at a time."""
    with progress(console, "learning what is normal", len(part.rows)) as update:

        def batches(words: str) -> Iterator[tuple[Tensor, Tensor]]:
            tiles, owners, count = [], [], len(part.rows)
            for number, image in enumerate(good(part.samples, part.rows)):
                update(number, count, words)
                own = finder.tiling.cut(finder.tiling.whole(image))
                tiles, owners = [*tiles, *own], [*owners, *[number] * len(own)]
                while len(tiles) >= batch or (tiles and number == count - 1):
                    yield torch.stack(tiles[:batch]).float().to(finder.scale.device), torch.tensor(owners[:batch])
                    tiles, owners = tiles[batch:], owners[batch:]

        if "rebuild" in finder.settings.methods:
            finder.fit_rebuild(x for x, _ in batches("errors of normal images"))
        if "features" in finder.settings.methods:
            total, words = finder.settings.memory, "choosing the memory"
            finder.fit_features(batches("features of normal images"), lambda done: update(done, total, words))


def calibrate(
    finder: Finder, part: Part, rate: float, batch: int, console: Console
) -> dict[str, Float[np.ndarray, "n"]]:
    """Sets the finder's thresholds to guarantee the rate of false alarms; returns the scores by method."""
    maps = list(finder.maps(tracked(console, "calibrating", good(part.samples, part.rows), len(part.rows)), batch))
    scores = {}
    step = max(1, round((sum(map_.canvas[0] * map_.canvas[1] for map_ in maps) / PIXELS) ** 0.5))
    for method in finder.settings.methods:
        highest, thin = [], []
        for map_ in maps:  # one whole map at a time
            whole = map_.full(method).numpy()
            highest.append(whole.max())
            thin.append(whole[::step, ::step].copy())
        scores[method] = np.array(highest, dtype=np.float64)
        median = float(np.median(np.concatenate([pixels.ravel() for pixels in thin])))
        threshold = image_threshold(scores[method], rate)
        finder.calibrations[method] = Calibration(threshold, pixel_threshold(thin, rate), median)
    return scores


def save_finder(
    finder: Finder, out: Path, config: Mapping[str, Any], scores: Mapping[str, Float[np.ndarray, "n"]]
) -> None:
    """config: what it was made from. scores: of the held-out images."""
    out.mkdir(parents=True, exist_ok=True)
    save_state(finder, out / FINDER, {"task": ANOMALY})
    content = {"task": ANOMALY, "unmask": __version__, "fit": {}, **config, **finder.to_config()}
    content["scores"] = {name: list(map(float, values)) for name, values in scores.items()}
    write_json(out / CONFIG, content)  # last: `apply` recognises the folder by this file
