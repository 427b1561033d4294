"""The verb `show`, step by step: open the run, read the pictures, hide, rebuild, draw."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unmask.errors import DataError, UserError
from unmask.mask import Mask
from unmask.objective import Rebuilder
from unmask.panel import draw, rows
from unmask.run import Run
from unmask.runtime import machine, tune
from unmask.samples import Samples
from unmask.sheet import inspect
from unmask.source import open_source
from unmask.spec import build, parse
from unmask.verb import numbers, texts
from unmask.verbs.show import Show
from unmask.views import WholePicture

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")


def showing(options: Show) -> Path:
    """See `unmask.verbs.show.show`."""
    out = Path(options.out or "panel.png")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: the panel is written as {', '.join(SUFFIXES)}")
    device = machine(options.device, "32").device
    tune(device)
    objective, run = open_rebuilder(str(options.run))
    objective.to(device)
    settings = run.config["settings"]
    size = tuple(settings["image_size"])
    names, found = read_pictures(options, size, settings["channels"], WholePicture(size))
    pictures = torch.stack(found)
    samplers = _samplers(options, settings["mask"])
    result = []
    for place, name in enumerate(names):
        x = pictures[place : place + 1].to(device)
        for text, sampler in samplers:
            chance = torch.Generator().manual_seed(options.seed + place)
            mask = Mask(*(side.to(device) for side in sampler(1, objective.encoder.grid, "cpu", chance)))
            title = f"{name}\n{text}" if len(samplers) > 1 else name
            result += rows(objective, x, mask, [title], options.true_statistics)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(result, out)
    return out


def open_rebuilder(run: str) -> tuple[Rebuilder, Run]:
    """The whole objective of a run folder; UserError with the reason where there is no decoder to rebuild with."""
    path = Path(run)
    if path.is_file() or not path.exists():
        what = f"{run} is a file of weights" if path.is_file() else f"there is no folder {run}"
        raise UserError(
            f"{what}; rebuilding needs the decoder that the encoder was trained with, and only a run folder has it"
            " (last.ckpt). Encoder-only weights, timm's included, can be embedded and evaluated but not shown."
        )
    opened = Run(path)
    objective = opened.objective()
    if not isinstance(objective, Rebuilder):
        raise UserError(
            f"{run} was trained with {opened.config['settings']['method']}, which rebuilds no pixels to show"
        )
    return objective, opened


def read_pictures(
    options: Show, size: tuple[int, ...], channels: int, view: Callable[[Tensor], Tensor]
) -> tuple[list[str], list[Tensor]]:
    """Names and pictures as `view` makes them; bad ones are said and left out, unless none is good.

    size: height and width in pixels of what is wanted; pictures are decoded four times as large.
    """
    source = open_source(options.images)
    count = min(options.most, len(source.items))
    indices = [i * len(source.items) // count for i in range(count)]  # spread over the data, not the first of them
    sheet, cache = inspect(source, indices=indices, max_side=4 * max(size), keep_bytes=2**31)
    bad = {index: f"{name}: {reason}" for index, name, reason in sheet.bad}
    if len(bad) == len(indices):
        raise DataError("no picture could be read: " + "; ".join(bad.values()))
    for text in bad.values():
        print(f"left out: {text}")
    good = [i for i in indices if i not in bad]
    samples = Samples(source, good, channels=channels, max_side=4 * max(size), cache=cache)
    names = ["/".join(Path(name).parts[-2:]) for name in samples.names]
    return names, [view(samples.picture(i)).float() for i in range(len(good))]


def _samplers(options: Show, own: str) -> list[tuple[str, Any]]:
    """Every asked mask with every asked ratio, with the text that names it."""
    result = []
    for mask, ratio in product(texts(options.mask) or (own,), numbers(options.ratio) or (None,)):
        name, given = parse(mask)
        given |= {} if ratio is None else {"ratio": ratio}
        text = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
        result.append((text, build(text, "unmask.masks")))
    return result
