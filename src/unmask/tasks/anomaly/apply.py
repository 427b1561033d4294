"""`unmask anomaly apply`, step by step: open the folder, read images and what is known of them, judge, draw, say."""

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
from rich.console import Console
from rich.progress import Progress

from unmask.cli.options.anomaly import Anomaly
from unmask.data.datasets.images import Samples
from unmask.errors import DataError, UserError
from unmask.evaluation.intervals import wilson
from unmask.files import read_json, write_atomically, write_json
from unmask.plain import plain, texts
from unmask.report.reconstruction import displayed, value_range
from unmask.runs.run import CONFIG
from unmask.runtime.machine import machine, tune
from unmask.tasks.anomaly.figures import Scale, Seen, draw_heatmap
from unmask.tasks.anomaly.inputs import good, opened, read
from unmask.tasks.anomaly.labels import check_both, labels_of, normal_classes, read_masks
from unmask.tasks.anomaly.metrics import of_images, of_pixels
from unmask.tasks.anomaly.model import Finder, Look
from unmask.tasks.anomaly.report import RESULT, SCORES, write_page
from unmask.tasks.anomaly.results import Spotted
from unmask.tasks.open import ANOMALY, open_finder
from unmask.training.log import make_console

SHOWN = 10  # rows on the screen
GALLERY = 24  # images in each gallery of the report


def spotting(options: Anomaly) -> Spotted:
    """See `unmask.cli.commands.anomaly.anomaly`."""
    console, here = make_console(), machine(options.device, "32")
    tune(here.device)
    finder = open_finder(Path(options.model))
    method, out = finder.chosen(options.method), _out(options)
    if (out / RESULT).exists():
        console.print(f"{out} holds results of an earlier call, which will be replaced", soft_wrap=True, markup=False)
    places = texts(options.on) or texts(options.images)
    source = opened(places, console)
    rows = list(range(len(source.items)))
    if options.on and any(item.split == "test" for item in source.items):
        rows = [i for i in rows if source.items[i].split == "test"]
        console.print(f"judged is the test split, {len(rows):,} of {len(source.items):,} images", soft_wrap=True)
    normal = normal_classes(source, options.normal)
    if options.on and not normal and options.masks is None:
        there = sorted({name for i in rows for name in source.classes(i) or ()})
        known = f"its classes are {', '.join(there[:20])}" if there else "no image has a label"
        raise DataError(f"{source.where} does not say which images are normal: {known}. Name them: --normal NAME")
    labels = labels_of(source, rows, normal) if normal else np.full(len(rows), -1)
    samples = read(source, rows, finder.encoder, finder.max_side, console, "images")
    kept = dict(zip(rows, labels))
    labels = np.array([kept[i] for i in samples.indices], dtype=np.int64)
    masks: list[Any] = [None] * len(samples)
    if options.masks is not None:
        say = lambda text: console.print(text, soft_wrap=True, markup=False)  # noqa: E731
        masks, labels = read_masks(Path(options.masks), samples, finder.tiling, labels, say)
    if options.on or options.masks is not None:
        check_both(labels, source.where)
    finder.to(here.device)
    with Progress(console=console, transient=True) as bar:
        tracked = bar.track(good(samples, range(len(samples))), len(samples), description="judging")
        looks = list(finder.look(tracked, options.batch))
    scores = {name: np.array([look.score(name) for look in looks]) for name in finder.settings.methods}
    spotted = Spotted(
        names=samples.names,
        method=method,
        scores=scores,
        thresholds={name: found["image"]["threshold"] for name, found in finder.promises.items()},
        labels=labels,
        figures={name: _figures(finder, name, scores[name], looks, labels, masks) for name in finder.settings.methods},
        path=out,
    )
    _write(spotted, finder, samples, looks, masks, options, console)
    _say(spotted, finder, console)
    return spotted


def _out(options: Anomaly) -> Path:
    out = Path(options.out or Path(options.model) / "results")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / RESULT).exists() and not (out / SCORES).exists():
        raise UserError(f"{out} is there and holds something else; give a new or empty folder with --out")
    return out


def _figures(
    finder: Finder, method: str, scores: np.ndarray, looks: Sequence[Look], labels: np.ndarray, masks: Sequence[Any]
) -> dict[str, Any]:
    """What can be said where something is known of the images; shares from 0 to 1."""
    image, found = finder.promises[method]["image"], {}
    flagged = scores > image["threshold"]
    for name, which in (("false_alarms", labels == 0), ("found", labels == 1)):
        if which.any():
            low, high = wilson(int(flagged[which].sum()), int(which.sum()))
            found[name] = {"share": float(flagged[which].mean()), "low": low, "high": high, "count": int(which.sum())}
    if (labels == 0).any() and (labels == 1).any():
        found["images"] = of_images(scores, labels)
    known = [i for i, mask in enumerate(masks) if mask is not None]
    if any(masks[i].any() for i in known):
        maps = [looks[i].full(method).numpy() for i in known]
        found["pixels"] = of_pixels(maps, [masks[i] for i in known])
        above = [one > finder.promises[method]["pixel"] for one in maps]
        clean = [float(a.mean()) for a, i in zip(above, known) if not masks[i].any()]
        hits = [float(a[masks[i]].mean()) for a, i in zip(above, known) if masks[i].any()]
        found["pixel_false_alarms"] = float(np.mean(clean)) if clean else None
        found["pixels_found"] = float(np.mean(hits))
    return found


def _write(
    spotted: Spotted,
    finder: Finder,
    samples: Samples,
    looks: Sequence[Look],
    masks: Sequence[Any],
    options: Anomaly,
    console: Console,
) -> None:
    out, method = spotted.path, spotted.method
    out.mkdir(parents=True, exist_ok=True)
    _write_scores(spotted, finder, looks, out / SCORES)
    scale, files = _scale(finder, method), _files(samples.names)
    stale = {path for name in ("maps", "heatmaps") for path in (out / name).rglob("*.*")}
    if options.save_maps:
        for name, look in zip(files, looks):
            path = out / "maps" / f"{name}.{options.save_maps}"
            _save(look.full(method).numpy(), path)
            stale.discard(path)
    drawn = spotted.worth_drawing()[: options.heatmaps]
    with Progress(console=console, transient=True) as bar:
        for place in bar.track(drawn, description="drawing"):
            path = out / "heatmaps" / f"{files[place]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            seen = _seen(spotted, finder, samples, looks, masks, place)
            draw_heatmap(seen, scale, path)
            stale.discard(path)
    for path in stale:  # of an earlier call: they would pass for this one's
        path.unlink()
    galleries = {
        title: [_seen(spotted, finder, samples, looks, masks, place) for place in places[:GALLERY]]
        for title, places in spotted.galleries().items()
        if len(places)
    }
    content = spotted.to_json() | {"settings": plain(options), "promises": finder.promises, "drawn": len(drawn)}
    write_json(out / RESULT, content)
    held = np.array(read_json(_config_of(options)).get("scores", {}).get(method, []))
    write_page(spotted, content, galleries, held, scale)


def _config_of(options: Anomaly) -> Path:
    own = Path(options.model) / CONFIG
    return own if read_json(own).get("task") == ANOMALY else Path(options.model) / ANOMALY / CONFIG


def _scale(finder: Finder, method: str) -> Scale:
    found = finder.promises[method]
    return Scale(found["usual"], found["image"]["threshold"], found["pixel"])


def _seen(
    spotted: Spotted, finder: Finder, samples: Samples, looks: Sequence[Look], masks: Sequence[Any], place: int
) -> Seen:
    whole = finder.tiling.whole(samples.image(place))
    image = displayed(whole, *value_range(whole))
    verdict = "anomalous" if spotted.anomalous[place] else "normal"
    score = spotted.scores[spotted.method][place]
    title = f"{samples.names[place]}: {score:.3g}, {verdict}"
    return Seen(title, image, looks[place].full(spotted.method).numpy(), masks[place])


def _write_scores(spotted: Spotted, finder: Finder, looks: Sequence[Look], path: Path) -> None:
    """Columns: path, a score for each method, threshold and verdict, share of pixels above their threshold, label."""
    method, known = spotted.method, bool((spotted.labels >= 0).any())
    pixel = finder.promises[method]["pixel"]

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(
                [
                    "path",
                    *spotted.scores,
                    "method",
                    "threshold",
                    "verdict",
                    "pixels_above",
                    *(["label"] if known else []),
                ]
            )
            for place, name in enumerate(spotted.names):
                row = [name, *(f"{values[place]:.6g}" for values in spotted.scores.values())]
                row += [method, f"{spotted.thresholds[method]:.6g}"]
                row += ["anomalous" if spotted.anomalous[place] else "normal"]
                row += [f"{float((looks[place].full(method) > pixel).float().mean()):.6f}"]
                table.writerow(row + ([("", "normal", "anomalous")[spotted.labels[place] + 1]] if known else []))

    write_atomically(path, write)


def _save(values: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.save(file, values) if path.suffix == ".npy" else tifffile.imwrite(file, values)

    write_atomically(path, write)


def _files(names: Sequence[str]) -> list[str]:
    """Relative paths for what is written of each image: its own without the ending, made safe and unlike others."""
    found, taken = [], set()
    for name in names:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        whole = PurePosixPath(*parts or ["image"])
        text = str(whole.with_suffix("")) if str(whole.with_suffix("")) not in taken else str(whole)
        while text in taken:
            text += "_"
        taken.add(text)
        found.append(text)
    return found


def _say(spotted: Spotted, finder: Finder, console: Console) -> None:
    for line in spotted.lines():
        console.print(line, soft_wrap=True, markup=False)
    order = np.argsort(-spotted.scores[spotted.method], kind="stable")
    for place in order[:SHOWN]:
        verdict = "anomalous" if spotted.anomalous[place] else "normal"
        score = spotted.scores[spotted.method][place]
        console.print(f"{spotted.names[place]}: {score:.4g} ({verdict})", soft_wrap=True, markup=False)
    if len(spotted.names) > SHOWN:
        console.print(f"... and {len(spotted.names) - SHOWN:,} more")
    console.print(f"Written: {spotted.path / SCORES}, heat maps, {spotted.path / 'report.html'}", soft_wrap=True)
