"""`unmask anomaly fit`, step by step: open the run, choose normal images, hold some out, learn, calibrate, save."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from unmask.cli.continue_run import absolute
from unmask.cli.options.anomaly import Anomaly
from unmask.data.datasets.images import Samples
from unmask.errors import DataError, UserError
from unmask.files import read_json, write_json
from unmask.models.encoder import Encoder
from unmask.models.state import model_text
from unmask.plain import plain, texts
from unmask.runs.run import ANOMALY, CONFIG, FINDER, Run, load_encoder, open_finder
from unmask.runtime.machine import machine, tune
from unmask.tasks.anomaly.conformal import check_enough, needed, pixel_threshold, promise
from unmask.tasks.anomaly.inputs import good, opened, read, without_copies
from unmask.tasks.anomaly.labels import labels_of, normal_classes
from unmask.tasks.anomaly.model import METHODS, Finder, Settings
from unmask.training.log import make_console
from unmask.training.objective import Rebuilder
from unmask.version import __version__
from unmask.weights.files import save_state

NOT_ASKED = ("action", "out", "on", "masks", "save_maps", "heatmaps", "batch", "device")
PIXELS = 10_000_000  # of calibration maps that the pixels' threshold is taken from; of more, a regular part
BLUR = 1 / 64  # of the shorter side: 3.5 pixels at 224; PatchCore smooths by 4


def fitting(options: Anomaly) -> Finder:
    """See `unmask.cli.commands.anomaly.anomaly`."""
    console, here = make_console(), machine(options.device, "32")
    tune(here.device)
    model, config = _open(options)
    out, asked = _out(options), _asked(options)
    if (out / CONFIG).exists():
        return _again(out, asked, console)
    settings = _settings(options, model, config)
    finder = Finder(model, settings).eval().to(here.device)
    parts = _normals(options, finder, config, console)
    _learn(finder, *parts["fit"], finder.at_once(options.batch), console)
    held = parts["held out"]
    with Progress(console=console, transient=True) as bar:
        tracked = bar.track(good(*held), len(held[1]), description="calibrating")
        looks = list(finder.look(tracked, options.batch))
    scores = {}
    step = max(1, round((sum(look.canvas[0] * look.canvas[1] for look in looks) / PIXELS) ** 0.5))
    for method in settings.methods:
        highest, thin = [], []
        for look in looks:  # one whole map at a time
            whole = look.full(method).numpy()
            highest.append(whole.max())
            thin.append(whole[::step, ::step].copy())
        scores[method] = np.array(highest, dtype=np.float64)
        usual = float(np.median(np.concatenate([one.ravel() for one in thin])))
        pixel = pixel_threshold(thin, options.false_alarms)
        image = dataclasses.asdict(promise(scores[method], options.false_alarms))
        finder.promises[method] = {"image": image, "pixel": pixel, "usual": usual}
    finder.cpu()
    out.mkdir(parents=True, exist_ok=True)
    bank = finder.bank if "features" in settings.methods else torch.zeros(0, 0)
    counts = {name: len(places) for name, (_, places) in parts.items()}
    config |= {
        "task": ANOMALY,
        "unmask": __version__,
        "asked": asked,
        "finder": dataclasses.asdict(settings) | {"bank": bank.shape[0], "width": bank.shape[1]},
        "promises": finder.promises,
        "counts": counts,
        "scores": {name: list(map(float, values)) for name, values in scores.items()},
    }
    save_state(finder, out / FINDER, {"task": ANOMALY})
    write_json(out / CONFIG, config)  # last: with it, the folder is one that `apply` opens
    _say(finder, counts, out, console)
    return finder


def _open(options: Anomaly) -> tuple[Rebuilder | Encoder, dict[str, Any]]:
    """What looks at images, and the configuration that it can be made from again."""
    method, run = options.method or "both", Path(options.model)
    if method != "features":
        if not (run / CONFIG).exists():
            Run(run) if not run.exists() or run.is_dir() else None  # says what is wrong with a folder
            raise UserError(f"{run} is no run folder, so there is no decoder to rebuild with; use --method features")
        opened_run = Run(run)
        if opened_run.task:
            raise UserError(
                f"{run} was made by {opened_run.task}, it has no decoder to rebuild with; give the folder of"
                " the pretraining, or use --method features"
            )
        model = opened_run.objective()
        if not isinstance(model, Rebuilder):
            what = opened_run.config.method.name
            raise UserError(f"{run} was trained with {what}, which rebuilds no pixels; use --method features")
        kept = ("settings", "mean", "std", "timm", "data")
        return model, {name: opened_run.record[name] for name in kept} | {"fit": {}, "pretraining": _places(opened_run)}
    encoder = load_encoder(options.model)
    settings = {"image_size": list(encoder.grid.size), "patch_size": encoder.arguments.get("patch_size")}
    settings |= {"model": model_text(encoder), "channels": encoder.channels}
    statistics = {"mean": encoder.mean.tolist(), "std": encoder.std.tolist()}
    places = _places(Run(run)) if (run / CONFIG).exists() else []
    own = {"timm": dict(encoder.arguments), "data": {}, "fit": {}, "pretraining": places}
    return encoder.eval(), {"settings": settings} | statistics | own


def _places(run: Run) -> list[str]:
    """What the encoder was pretrained on, as far as the run tells."""
    data = run.record["asked"].get("data") or []
    return [absolute(place) for place in ([data] if isinstance(data, str) else data)]


def _out(options: Anomaly) -> Path:
    out = options.out
    if out is None:
        if not (Path(options.model) / CONFIG).exists():
            raise UserError(f"{options.model} is no run folder; say with --out where to write")
        out = Path(options.model) / ANOMALY
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    ours = read_json(out / CONFIG).get("task") == ANOMALY
    if out.is_dir() and any(path.name != FINDER for path in out.iterdir()) and not ours:
        raise UserError(f"{out} is there and holds something else; give a new or empty folder with --out")
    return out


def _asked(options: Anomaly) -> dict[str, Any]:
    asked = {name: value for name, value in plain(options).items() if name not in NOT_ASKED}
    for name in ("images", "calibrate_on"):
        asked[name] = [absolute(place) for place in asked[name]]
    return asked | {"model": absolute(str(options.model))}


def _again(out: Path, asked: dict[str, Any], console: Console) -> Finder:
    """The same command again has nothing to do; another one would mix two folders."""
    saved = Run(out).record["asked"]
    other = [name for name, value in asked.items() if saved.get(name) != value]
    if other:
        said = ", ".join(f"--{name.replace('_', '-')} was {saved.get(name)}" for name in other[:3])
        raise UserError(f"{out} was fitted otherwise ({said}); give a new folder with --out")
    console.print(f"{out} is fitted; nothing to do", soft_wrap=True)
    return open_finder(out)


def _settings(options: Anomaly, model: Rebuilder | Encoder, config: dict[str, Any]) -> Settings:
    encoder = model if isinstance(model, Encoder) else model.encoder
    method = options.method or "both"
    count = len(encoder.layers(torch.zeros(1, encoder.channels, *encoder.grid.size), 10**6))
    layers = tuple(options.layers) or tuple(sorted({max(0, count // 2 - 1), count // 2}))  # type: ignore[arg-type]
    for layer in layers:
        if not -count <= layer < count:
            raise UserError(f"--layers {layer}: the encoder has {count}, from 0 to {count - 1}, or -{count} to -1")
    ratio = options.ratio
    if ratio is None:
        ratio = getattr(getattr(model, "mask", None), "ratio", 0.75)
    return Settings(
        methods=METHODS if method == "both" else (method,),
        ratio=ratio,
        sets=options.sets,
        seed=options.seed,
        usual=options.usual,
        layers=tuple(layer % count for layer in layers),
        memory=options.memory,
        blur=min(encoder.grid.size) * BLUR if options.blur is None else options.blur,
        tiles=options.tiles,
    )


Part = tuple[Samples, list[int]]


def _normals(options: Anomaly, finder: Finder, config: dict[str, Any], console: Console) -> dict[str, Part]:
    """Normal images to fit on, and others to calibrate on; no image, nor a copy of one, is in both."""
    rate, known = options.false_alarms, set()
    samples = _normal(texts(options.images), options, finder, console)
    places, copies = without_copies(samples, known)
    order = np.random.default_rng([options.seed, 0xA0]).permutation(places)
    if options.calibrate_on:
        others = _normal(texts(options.calibrate_on), options, finder, console)
        held, more = without_copies(others, known)
        copies += more
        check_enough(len(held), rate, " to --calibrate-on")
        parts = {"fit": (samples, sorted(map(int, order))), "held out": (others, held)}
    else:
        count = max(round(options.held_out * len(order)), min(needed(rate), len(order) // 2))
        check_enough(count, rate, f" (of {len(order)}, {count} would be held out)")
        parts = {
            "fit": (samples, sorted(map(int, order[count:]))),
            "held out": (samples, sorted(map(int, order[:count]))),
        }
    if copies:
        console.print(f"{copies:,} exact copies of other normal images are left out", soft_wrap=True)
    if not parts["fit"][1]:
        raise DataError("no normal image is left to fit on")
    if len(parts["fit"][1]) > options.most:
        drawn = np.random.default_rng([options.seed, 0xA1]).permutation(parts["fit"][1])[: options.most]
        console.print(f"{options.most:,} of {len(parts['fit'][1]):,} are drawn to fit on; --most changes that")
        parts["fit"] = (samples, sorted(map(int, drawn)))
    held_places = [absolute(place) for place in texts(options.calibrate_on) or texts(options.images)]
    seen = [place for place in held_places if _is_within(place, config["pretraining"])]
    if seen:
        console.print(
            f"the threshold is calibrated on images that pretraining saw ({seen[0]}): new ones may be rebuilt worse,"
            " and more of them flagged than promised. --calibrate-on takes normal images that it never saw",
            soft_wrap=True,
        )
    return parts


def _normal(places: Sequence[str], options: Anomaly, finder: Finder, console: Console) -> Samples:
    """The normal images of a place: all, unless labels say which; those of a test split are not looked at."""
    source = opened(places, console)
    rows = [i for i, item in enumerate(source.items) if item.split != "test"] or list(range(len(source.items)))
    if len(rows) < len(source.items):
        console.print(f"{len(source.items) - len(rows):,} images of the test split are left alone", soft_wrap=True)
    normal = normal_classes(source, options.normal)
    if normal:
        labels = labels_of(source, rows, normal)
        left = int((labels != 0).sum())
        rows = [row for row, label in zip(rows, labels) if label == 0]
        if left:
            console.print(f"{left:,} images that are not {' or '.join(normal)} are left out", soft_wrap=True)
        if not rows:
            raise DataError(f"no image in {source.where} outside of its test split is {' or '.join(normal)}")
    return read(source, rows, finder.encoder, finder.max_side, console, "normal images")


def _learn(finder: Finder, samples: Samples, places: list[int], batch: int, console: Console) -> None:
    with Progress(console=console, transient=True) as bar:

        def batches(words: str) -> Iterator[tuple[Tensor, Tensor]]:
            tiles, owners = [], []
            for number, image in enumerate(bar.track(good(samples, places), len(places), description=words)):
                own = finder.tiling.cut(finder.tiling.whole(image))
                tiles, owners = [*tiles, *own], [*owners, *[number] * len(own)]
                while len(tiles) >= batch or (tiles and number == len(places) - 1):
                    yield torch.stack(tiles[:batch]).float().to(finder.scale.device), torch.tensor(owners[:batch])
                    tiles, owners = tiles[batch:], owners[batch:]

        if "rebuild" in finder.settings.methods:
            finder.fit_rebuild(x for x, _ in batches("what errors are usual"))
        if "features" in finder.settings.methods:
            task = bar.add_task("choosing the memory", total=finder.settings.memory)
            finder.fit_features(batches("features of normal units"), lambda n: bar.update(task, completed=n))


def _is_within(place: str, places: Sequence[str]) -> bool:
    return any(place == other or Path(other) in Path(place).parents for other in places)


def _say(finder: Finder, counts: dict[str, int], out: Path, console: Console) -> None:
    console.print(f"{counts['fit']:,} normal images fitted, {counts['held out']:,} held out for the threshold.")
    for method, found in finder.promises.items():
        image = found["image"]
        low, high = (f"{100 * value:.1f}" for value in image["between"])
        console.print(
            f"{method}: above {image['threshold']:.4g} an image is anomalous. At most {image['rate']:.1%} of normal"
            f" ones are, on average over draws of held-out images; with these, likely {low} to {high} %.",
            soft_wrap=True,
        )
    console.print(f"Fitted: {out}. Use it: unmask anomaly apply {out} IMAGES... --out RESULTS", soft_wrap=True)
