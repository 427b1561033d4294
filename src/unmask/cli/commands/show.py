"""The verb `show`, step by step: open the run, read the images, hide, rebuild, draw."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.cli.options.show import Show
from unmask.cli.verb import verb
from unmask.data.datasets.few_images import SUFFIXES, read_images
from unmask.data.transforms.crops import WholeImage
from unmask.errors import UserError
from unmask.evaluation.attention_maps import attention
from unmask.evaluation.features import judged
from unmask.evaluation.patch_pca import patch_colours
from unmask.files import write_atomically
from unmask.masking.mask import Mask
from unmask.models.encoder import Encoder
from unmask.plain import numbers, texts
from unmask.registry import build, parse
from unmask.report.reconstruction import displayed, draw, rows, value_range
from unmask.runs.run import Run, load_encoder
from unmask.runtime.machine import machine, tune
from unmask.training.log import make_console
from unmask.training.objective import Rebuilder

__all__ = ["show"]


def showing(options: Show) -> Path:
    """See `unmask.cli.commands.show.show`."""
    out = Path(options.out or "panel.png")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: the panel is written as {', '.join(SUFFIXES)}")
    device = machine(options.device, "32").device
    tune(device)
    objective, run = open_rebuilder(str(options.run))
    objective.to(device)
    size = run.config.data.image_size
    names, found = read_images(options, size, run.config.data.channels, WholeImage(size))
    images = torch.stack(found)
    samplers = _samplers(options, run.config.method.mask)
    result = []
    for place, name in enumerate(names):
        x = images[place : place + 1].to(device)
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
        raise UserError(f"{run} was trained with {opened.config.method.name}, which rebuilds no pixels to show")
    return objective, opened


def _samplers(options: Show, own: str) -> list[tuple[str, Any]]:
    """Every asked mask with every asked ratio, with the text that names it."""
    result = []
    for mask, ratio in product(texts(options.mask) or (own,), numbers(options.ratio) or (None,)):
        name, given = parse(mask)
        given |= {} if ratio is None else {"ratio": ratio}
        text = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
        result.append((text, build("mask", text)))
    return result


HEADS = 16  # maps of single heads that are drawn at the most
DIM = 0.35  # brightness of the image where background was taken off
Columns = dict[str, np.ndarray]  # heading -> h w 3 in 0..1, or h w of shares


def inside(options: Show) -> Path:
    """See `unmask.cli.commands.show.show`."""
    out = Path(options.out or f"{options.what}.png")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: the image is written as {', '.join(SUFFIXES)}")
    device = machine(options.device, "32").device
    tune(device)
    encoder = load_encoder(options.run).to(device)
    number = encoder.layer_numbers([options.block])[0]
    names, images = read_images(options, _size(encoder, options), encoder.channels, _view(encoder, options))
    images = [image.to(device) for image in images]
    rows, note = (_colours if options.what == "features" else _attention)(encoder, images, options, number)
    out.parent.mkdir(parents=True, exist_ok=True)
    _draw(names, rows, note, out)
    return out


def _size(encoder: Encoder, options: Show) -> tuple[int, ...]:
    return encoder.input_size if options.size is None else (options.size, options.size)


def _view(encoder: Encoder, options: Show):
    """The image as the encoder was trained to see it; or whole, its shorter side as asked, in whole units."""
    if options.size is None:
        return WholeImage((encoder.input_size[0], encoder.input_size[1]))

    def sized(image: Tensor) -> Tensor:
        share = (options.size or 0) / min(image.shape[1:])
        sides = [max(1, round(s * share / u)) * u for s, u in zip(image.shape[1:], encoder.grid.unit)]
        return WholeImage((sides[0], sides[1]))(image)

    return sized


def _colours(encoder: Encoder, images: list[Tensor], options: Show, number: int) -> tuple[list[Columns], str]:
    norm = number == encoder.num_maps - 1
    with judged(encoder), Progress(console=make_console(), transient=True) as bar:
        tracked = bar.track(images, description="taking features")
        maps = [encoder.features(x[None], layers=[number], norm=norm)[0][0].cpu() for x in tracked]
    found = patch_colours(maps, options.background)
    rows = []
    for x, colours, kept in zip(images, found.images, found.kept):
        shown = displayed(x.cpu(), *value_range(x.cpu()))
        size = shown.shape[:2]
        cover = _enlarged(kept.float()[..., None], size)
        painted = _enlarged(colours, size) * cover + DIM * shown * (1 - cover)
        rows.append({"input": shown, "patch features": painted})
    parts = ", ".join(f"{share:.0%}" for share in found.explained)
    taken = "" if options.background else "; background taken off by the first component"
    note = f"red, green, blue: first three principal components over all images ({parts} of the variance){taken}"
    return rows, f"block {number} of 0 to {encoder.num_maps - 1}; {note}"


def _attention(encoder: Encoder, images: list[Tensor], options: Show, number: int) -> tuple[list[Columns], str]:
    rows, kind = [], ""
    with Progress(console=make_console(), transient=True) as bar:
        for x in bar.track(images, description="looking where it looks"):
            found = attention(encoder, x[None], number)
            kind, maps = found.kind, found.maps[0].cpu()
            row = {"input": displayed(x.cpu(), *value_range(x.cpu())), "mean": maps.mean(dim=0).numpy()}
            rows.append(row | {f"head {head}": one.numpy() for head, one in enumerate(maps[:HEADS])})
    return (
        rows,
        f"block {number} of 0 to {encoder.num_maps - 1}: attention {kind}; each map from its least to its greatest",
    )


def _enlarged(x: Tensor, size: tuple[int, ...]) -> np.ndarray:
    """rows columns c -> h w c, each place a square."""
    return interpolate(x.permute(2, 0, 1)[None], size, mode="nearest")[0].permute(1, 2, 0).numpy()


def _draw(names: list[str], rows: list[Columns], note: str, path: Path) -> None:
    headings = list(rows[0])
    cell = 2.4 if len(headings) < 4 else 1.7
    tall = [cell * row["input"].shape[0] / row["input"].shape[1] for row in rows]
    height = sum(tall) + 0.12 * len(rows) + 0.62
    figure = Figure(figsize=(max(4.2, cell * len(headings) + 0.4), height), dpi=130)
    axes = figure.subplots(len(rows), len(headings), squeeze=False, height_ratios=tall)
    for line, name, row in zip(axes, names, rows):
        size = row["input"].shape[:2]
        for axis, heading in zip(line, headings):
            image = row[heading]
            if image.ndim == 2:
                extent = (0, size[1], size[0], 0)
                axis.imshow(image, cmap="magma", extent=extent, interpolation="nearest")
            else:
                axis.imshow(image, interpolation="nearest" if heading != "input" or size[0] < 100 else "antialiased")
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
        short = name if len(name) <= 26 else "…" + name[-25:]
        line[0].set_ylabel(short, fontsize=6.5, parse_math=False)
    for axis, heading in zip(axes[0], headings):
        axis.set_title(heading, fontsize=9)
    figure.text(0.01, 0.06 / height, note, fontsize=6, color="0.35", wrap=True)
    figure.subplots_adjust(left=0.3 / figure.get_figwidth(), right=0.995, top=1 - 0.3 / height, bottom=0.32 / height)
    figure.subplots_adjust(wspace=0.03, hspace=0.06)
    write_atomically(path, lambda part: figure.savefig(part, format=path.suffix[1:]))


@verb(Show)
def show(options: Show) -> Path:
    """Draws the panel and returns its path.

    Raises UserError for weights without a decoder where something is to be rebuilt, for encoders without attention maps
    where these are asked for, and for images that cannot be read, each with its reason.
    """
    from rich.console import Console

    path = showing(options) if options.what == "rebuild" else inside(options)
    Console().print(f"Drawn: {path}", soft_wrap=True)
    return path
