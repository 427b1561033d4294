"""`show --what features` or `attention`, step by step: open the encoder, read the pictures, look inside, draw."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.attention import attention
from unmask.checkpoint import write_atomically
from unmask.components import patch_colours
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.features import judged
from unmask.log import make_console
from unmask.panel import displayed, value_range
from unmask.run import load_encoder
from unmask.runtime import machine, tune
from unmask.showing import SUFFIXES, read_pictures
from unmask.verbs.show import Show
from unmask.views import WholePicture

HEADS = 16  # maps of single heads that are drawn at the most
DIM = 0.35  # brightness of the picture where background was taken off
Columns = dict[str, np.ndarray]  # heading -> h w 3 in 0..1, or h w of shares


def inside(options: Show) -> Path:
    """See `unmask.verbs.show.show`."""
    out = Path(options.out or f"{options.what}.png")
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: the picture is written as {', '.join(SUFFIXES)}")
    device = machine(options.device, "32").device
    tune(device)
    encoder = load_encoder(options.run).to(device)
    number = encoder.layer_numbers([options.block])[0]
    names, pictures = read_pictures(options, _size(encoder, options), encoder.channels, _view(encoder, options))
    pictures = [picture.to(device) for picture in pictures]
    rows, note = (_colours if options.what == "features" else _attention)(encoder, pictures, options, number)
    out.parent.mkdir(parents=True, exist_ok=True)
    _draw(names, rows, note, out)
    return out


def _size(encoder: Encoder, options: Show) -> tuple[int, ...]:
    return encoder.input_size if options.size is None else (options.size, options.size)


def _view(encoder: Encoder, options: Show):
    """The picture as the encoder was trained to see it; or whole, its shorter side as asked, in whole units."""
    if options.size is None:
        return WholePicture((encoder.input_size[0], encoder.input_size[1]))

    def sized(picture: Tensor) -> Tensor:
        share = (options.size or 0) / min(picture.shape[1:])
        sides = [max(1, round(s * share / u)) * u for s, u in zip(picture.shape[1:], encoder.grid.unit)]
        return WholePicture((sides[0], sides[1]))(picture)

    return sized


def _colours(encoder: Encoder, pictures: list[Tensor], options: Show, number: int) -> tuple[list[Columns], str]:
    norm = number == encoder.num_maps - 1
    with judged(encoder), Progress(console=make_console(), transient=True) as bar:
        tracked = bar.track(pictures, description="taking features")
        maps = [encoder.features(x[None], layers=[number], norm=norm)[0][0].cpu() for x in tracked]
    found = patch_colours(maps, options.background)
    rows = []
    for x, colours, kept in zip(pictures, found.pictures, found.kept):
        shown = displayed(x.cpu(), *value_range(x.cpu()))
        size = shown.shape[:2]
        cover = _enlarged(kept.float()[..., None], size)
        painted = _enlarged(colours, size) * cover + DIM * shown * (1 - cover)
        rows.append({"input": shown, "patch features": painted})
    parts = ", ".join(f"{share:.0%}" for share in found.explained)
    taken = "" if options.background else "; background taken off by the first component"
    note = f"red, green, blue: first three principal components over all pictures ({parts} of the variance){taken}"
    return rows, f"block {number} of 0 to {encoder.num_maps - 1}; {note}"


def _attention(encoder: Encoder, pictures: list[Tensor], options: Show, number: int) -> tuple[list[Columns], str]:
    rows, kind = [], ""
    with Progress(console=make_console(), transient=True) as bar:
        for x in bar.track(pictures, description="looking where it looks"):
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
            picture = row[heading]
            if picture.ndim == 2:
                extent = (0, size[1], size[0], 0)
                axis.imshow(picture, cmap="magma", extent=extent, interpolation="nearest")
            else:
                axis.imshow(picture, interpolation="nearest" if heading != "input" or size[0] < 100 else "antialiased")
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
