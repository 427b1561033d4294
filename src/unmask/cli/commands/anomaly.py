"""The command `anomaly`: fit a finder (open, choose, learn, calibrate, save), or apply it to others."""

from pathlib import Path

import numpy as np
from rich.console import Console

from unmask.cli.continue_run import absolute, is_new, own
from unmask.cli.options.anomaly import Anomaly
from unmask.cli.outputs import choose_place, require_folder, say_replaced
from unmask.cli.shared_options import reading_of
from unmask.cli.verb import verb
from unmask.errors import UserError
from unmask.files import Json, read_json, write_json
from unmask.plain import numbers, plain, texts
from unmask.registry import keep_sources
from unmask.runs.run import CONFIG, Run
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import doing, make_console
from unmask.tasks.anomaly.apply import Drawer, judge, read_images
from unmask.tasks.anomaly.fit import (
    NormalImages,
    calibrate,
    choose_images,
    choose_settings,
    learn,
    open_model,
    save_finder,
)
from unmask.tasks.anomaly.model import Finder
from unmask.tasks.anomaly.results import (
    PAGE,
    RESULT,
    SCORES,
    AnomalyResults,
    measure,
    write_page,
    write_scores,
)
from unmask.tasks.open import ANOMALY, FINDER, open_finder

__all__ = ["anomaly"]

NOT_FITTED = (
    "action",
    "out",
    "on",
    "masks",
    "save_maps",
    "heatmaps",
    "batch",
    "device",
    "parts",
)  # options without effect on it
SHOWN = 10  # rows on the screen


@verb(Anomaly)
def anomaly(options: Anomaly) -> Finder | AnomalyResults:
    """`anomaly("fit", run, normals, out=...)` returns the finder, `anomaly("apply", folder, images, out=...)` the
    results. `unmask.load(folder)` opens the finder again; its `.predict(images)` gives scores and maps.

    Raises UserError for options that cannot work, DataError for images that cannot be read and for too few normal
    ones to keep the rate of false alarms.
    """
    return _fit(options) if options.action == "fit" else _apply(options)


def _fit(options: Anomaly) -> Finder:
    console, hardware, method = make_console(), machine(options.device, "32"), options.method or "both"
    tune(hardware.device)
    model, config = open_model(Path(options.model), method, reading_of(options))
    out, asked = _finder_folder(options), _asked(options)
    own(out, "anomaly", texts(options.images))
    if (out / CONFIG).exists():
        return _fitted_before(out, asked, console)
    settings = choose_settings(
        model,
        method,
        ratio=options.ratio,
        layers=numbers(options.layers),
        blur=options.blur,
        sets=options.sets,
        seed=options.seed,
        normalize_errors=options.normalize_errors,
        memory=options.memory,
        tiles=options.tiles,
    )
    finder = Finder(model, settings).eval().to(hardware.device)
    images = NormalImages(
        images=texts(options.images),
        normal=texts(options.normal),
        calibrate_on=texts(options.calibrate_on),
        held_out=options.held_out,
        false_alarms=options.false_alarms,
        most=options.most,
        seed=options.seed,
    )
    fit, held_out = choose_images(images, finder, console)
    pretrained_on = _pretrained_on(Path(options.model))
    _warn_of_seen(asked["calibrate_on"] or asked["images"], pretrained_on, console)
    learn(finder, fit, finder.at_once(options.batch), console)
    doing("calibrating the threshold")
    scores = calibrate(finder, held_out, options.false_alarms, options.batch, console)
    counts = {"fit": len(fit.rows), "held out": len(held_out.rows)}
    config |= {"asked": asked, "pretraining": pretrained_on, "counts": counts}
    save_finder(finder.cpu(), out, config, scores)
    keep_sources(out)
    _say_fitted(finder, counts, out, console)
    return finder


def _apply(options: Anomaly) -> AnomalyResults:
    console, hardware = make_console(), machine(options.device, "32")
    tune(hardware.device)
    finder = open_finder(Path(options.model))
    method, out = finder.chosen(options.method), _results_folder(options)
    own(out, "anomaly", (*texts(options.images), *texts(options.on)))
    say_replaced([out / RESULT, out / SCORES, out / PAGE], console)
    places, masks = texts(options.on) or texts(options.images), None if options.masks is None else Path(options.masks)
    images = read_images(places, bool(options.on), texts(options.normal), masks, finder, console)
    maps = judge(finder.to(hardware.device), images.samples, options.batch, console)
    scores, calibrations = finder.scores(maps), finder.calibrations
    doing("measuring how well anomalies are found")
    results = AnomalyResults(
        names=images.samples.names,
        method=method,
        scores=scores,
        thresholds=finder.thresholds,
        labels=images.labels,
        figures={
            name: measure(calibrations[name], scores[name], name, maps, images.labels, images.masks) for name in scores
        },
        path=out,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_scores(results, maps, calibrations[method].pixel, out / SCORES)
    drawer = Drawer(results, finder, images, maps)
    drawer.save_maps(options.save_maps)
    drawn = drawer.draw_heatmaps(options.heatmaps, console)
    content = results.to_json() | {"settings": plain(options), "drawn": drawn}
    write_json(out / RESULT, content | {"calibrations": finder.to_config()["calibrations"]})
    held_out = np.array(read_json(_config_file(Path(options.model))).get("scores", {}).get(method, []))
    write_page(results, content, calibrations, drawer.galleries(), held_out, drawer.scale)
    _say_results(results, console)
    return results


def _finder_folder(options: Anomaly) -> Path:
    if options.out is None and not (Path(options.model) / CONFIG).exists():
        raise UserError(f"{options.model} is no run folder; say with --out where to write")
    out = require_folder(Path(options.out or Path(options.model) / ANOMALY))
    ours = read_json(out / CONFIG).get("task") == ANOMALY
    if out.is_dir() and not is_new(out) and any(path.name != FINDER for path in out.iterdir()) and not ours:
        raise UserError(f"{out} is there and holds something else; give a new or empty folder with --out")
    return out


def _results_folder(options: Anomaly) -> Path:
    out = require_folder(choose_place(options.model, options.out, "results"))
    if out.is_dir() and not is_new(out) and not (out / RESULT).exists() and not (out / SCORES).exists():
        raise UserError(f"{out} is there and holds something else; give a new or empty folder with --out")
    return out


def _asked(options: Anomaly) -> Json:
    """The options that determine the fit, as plain values."""
    asked = {name: value for name, value in plain(options).items() if name not in NOT_FITTED}
    for name in ("images", "calibrate_on"):
        asked[name] = [absolute(place) for place in asked[name]]
    return asked | {"model": absolute(str(options.model))}


def _fitted_before(out: Path, asked: Json, console: Console) -> Finder:
    """True if the same command was finished before. Raises UserError if other options were, since results would mix."""
    saved = Run(out).record["asked"]
    other = [name for name, value in asked.items() if saved.get(name) != value]
    if other:
        said = ", ".join(f"--{name.replace('_', '-')} was {saved.get(name)}" for name in other[:3])
        raise UserError(f"{out} was fitted otherwise ({said}); give a new folder with --out")
    console.print(f"{out} is fitted; nothing to do", soft_wrap=True)
    return open_finder(out)


def _pretrained_on(run: Path) -> list[str]:
    """The data that the encoder was pretrained on, as far as the run records it."""
    data = (Run(run).record["asked"].get("data") or []) if (run / CONFIG).exists() else []
    return [absolute(place) for place in ([data] if isinstance(data, str) else data)]


def _warn_of_seen(places: list[str], pretrained_on: list[str], console: Console) -> None:
    seen = [p for p in places if any(p == other or Path(other) in Path(p).parents for other in pretrained_on)]
    if seen:
        console.print(
            f"the threshold is calibrated on images that pretraining saw ({seen[0]}): new ones may be rebuilt worse,"
            " and more of them flagged than promised. --calibrate-on takes normal images that it never saw",
            soft_wrap=True,
        )


def _config_file(folder: Path) -> Path:
    own = folder / CONFIG
    return own if read_json(own).get("task") == ANOMALY else folder / ANOMALY / CONFIG


def _say_fitted(finder: Finder, counts: dict[str, int], out: Path, console: Console) -> None:
    console.print(f"{counts['fit']:,} normal images fitted, {counts['held out']:,} held out for the threshold.")
    for method, calibration in finder.calibrations.items():
        image = calibration.image
        low, high = (f"{100 * value:.1f}" for value in image.between)
        console.print(
            f"{method}: an image with a score above {image.threshold:.4g} counts as anomalous. On average over choices"
            f" of held-out images at most {image.rate:.1%} of normal images do; with this choice, likely {low} to"
            f" {high} %.",
            soft_wrap=True,
        )
    console.print(f"Fitted: {out}. Use it: unmask anomaly apply {out} IMAGES... --out RESULTS", soft_wrap=True)


def _say_results(results: AnomalyResults, console: Console) -> None:
    for line in results.lines():
        console.print(line, soft_wrap=True, markup=False)
    scores = results.scores[results.method]
    for row in np.argsort(-scores, kind="stable")[:SHOWN]:
        console.print(
            f"{results.names[row]}: {scores[row]:.4g} ({results.verdicts[row]})", soft_wrap=True, markup=False
        )
    if len(results) > SHOWN:
        console.print(f"... and {len(results) - SHOWN:,} more")
    out = results.path
    console.print(f"Written: {out / SCORES}, heat maps, {out / PAGE}", soft_wrap=True)
