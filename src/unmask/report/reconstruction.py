"""Drawings of reconstructions: the panel of `unmask show` and the filmstrip of a training run."""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from PIL import Image
from torch import Tensor, nn

from unmask.data.modality import Modality, make_modality
from unmask.files import write_atomically
from unmask.masking.mask import Mask, as_bool
from unmask.report.curves import curves, stacked
from unmask.report.panel import Row, draw_panel
from unmask.training.objective import Rebuilder

GREY = 0.62  # brightness of hidden patches; neither black nor white, so that it is not mistaken for content
PIXELS = 32 * 224**2  # pixels that are reconstructed at a time
DRAWN_OVER = "rebuilt, over the input"  # the column of curves
FILM_SIDE = 256  # largest side of an image in the film, in pixels


@torch.no_grad()
def rows(
    model: Rebuilder,
    x: Shaped[Tensor, "b c *size"],
    mask: Mask,
    titles: list[str],
    true_statistics: bool,
    limits: tuple[float, float] | None = None,
) -> list[Row]:
    """One row per sample of a raw batch, laid out as its modality says; the model must be in eval mode. limits: values
    of images drawn as black and white; None: each sample's own, as `value_range` finds them."""
    rebuilt, encoder, hidden = rebuild(model, x, mask), model.encoder, hidden_pixels(model, mask)
    modality = make_modality(encoder.modality)
    flat = modality.flat
    if modality.pictured:
        samples = zip(x.float(), rebuilt, hidden[:, 0], titles)
        return [_pictured(modality, sample, guess, cover, title) for sample, guess, cover, title in samples]
    if modality.lines:
        leaked = None
        if true_statistics and getattr(model.target, "normalize", False):
            leaked = rebuild(model, x, mask, leak=True)
        std = encoder.std.view(-1, 1)
        return [
            _curves(x[i].float(), rebuilt[i], None if leaked is None else leaked[i], hidden[i, 0], std, title)
            for i, title in enumerate(titles)
        ]
    valued = ~x.float().isnan()  # there is nothing to draw where there is no value
    rebuilt, hidden = rebuilt.where(valued, torch.nan), hidden.expand_as(x) & valued
    views = {"input": x.float(), "masked": None, "rebuilt": rebuilt, "rebuilt + visible": rebuilt}
    views |= from_each_part(model, x)
    if true_statistics and getattr(model.target, "normalize", False):
        views["uses true statistics*"] = rebuild(model, x, mask, leak=True)
    std = encoder.std.view(-1, *(1,) * (x.ndim - 2))
    errors = (encoder.values(rebuilt - x.float()).abs() / std).nan_to_num(nan=0.0) * encoder.values(hidden)
    if encoder.grid.plane is encoder.grid:
        errors = errors.mean(dim=1, keepdim=True).expand_as(errors)
    errors = torch.cat([errors, torch.zeros_like(x[:, errors.shape[1] :], dtype=errors.dtype)], dim=1)
    result = []
    for i, title in enumerate(titles):
        low, high = limits or value_range(flat(modality.as_drawn(x[i], x[i])))
        nothing = ~flat(valued[i]).any(dim=0).cpu().numpy()
        columns = {}
        for name, view in views.items():
            image = displayed(flat(modality.as_drawn(x[i] if view is None else view[i], x[i])), low, high)
            cover = {"masked": hidden[i], "rebuilt": ~hidden[i] & valued[i]}.get(name)
            cover = None if cover is None else flat(cover)[0].cpu().numpy()
            image = image if cover is None else np.where(cover[..., None], GREY, image)
            columns[name] = np.where(nothing[..., None], 1.0, image)
        columns["error"] = flat(errors[i]).mean(dim=0).cpu().numpy()
        mean = float(errors[i].sum() / encoder.values(hidden)[i].sum().clamp(min=1))  # over hidden values, in std
        result.append(Row(title, columns, f"mean error {mean:.2f} std"))
    return result


def _curves(
    x: Float[Tensor, "c t"],
    rebuilt: Float[Tensor, "c t"],
    leaked: Float[Tensor, "c t"] | None,
    hidden: Bool[Tensor, "t"],
    std: Float[Tensor, "c 1"],
    title: str,
) -> Row:
    """A row of curves, what is hidden shaded; in place of a map of the error there is its mean."""

    def over(guess: Float[Tensor, "c t"]) -> np.ndarray:
        return curves(x, x, hidden, guess.masked_fill(~hidden | x.isnan(), torch.nan)) / 255

    columns = {"input": curves(x, x) / 255}
    columns |= {
        "masked": curves(x.masked_fill(hidden, torch.nan), x, hidden) / 255,
        DRAWN_OVER: over(rebuilt),
    }
    columns |= {} if leaked is None else {"uses true statistics*": over(leaked)}
    error = ((rebuilt - x).abs() / std)[:, hidden]
    return Row(title, columns, f"rebuilt: mean error {error.nanmean():.2f} std")  # whatever column it stands below


def from_each_part(model: Rebuilder, x: Shaped[Tensor, "b c *size"]) -> dict[str, Shaped[Tensor, "b c *size"]]:
    """Where samples consist of several parts: all of them rebuilt from each alone, missing ones too."""
    grid, views = model.encoder.grid, {}
    for part, (first, end) in zip(grid.parts, grid.spans):
        units = torch.arange(grid.num_units, device=x.device).expand(len(x), -1)
        mask = Mask(units[:, first:end], torch.cat([units[:, :first], units[:, end:]], dim=1))
        missing = grid.cut(x.isnan())[:, first:end].flatten(1).all(dim=1)  # nothing to rebuild from
        views[f"from {part.name} alone"] = rebuild(model, x, mask).masked_fill(missing[:, None, None], torch.nan)
    return views


def _pictured(
    modality: Modality,
    x: Float[Tensor, "c *size"],
    rebuilt: Float[Tensor, "c *size"],
    hidden: Bool[Tensor, "*size"],
    title: str,
) -> Row:
    """A row of pictures, each of some parts of a sample; in place of a map of the error there is its mean."""
    views = {"input": x, "masked": x.masked_fill(hidden, torch.nan)}
    views |= {"rebuilt": rebuilt.masked_fill(~hidden, torch.nan), "rebuilt + visible": rebuilt}
    columns = {name: picture(modality, view.cpu(), x) for name, view in views.items()}
    return Row(title, columns, modality.distance(x, rebuilt, hidden))


def picture(
    modality: Modality,
    view: Shaped[Tensor, "c *size"],
    x: Shaped[Tensor, "c *size"],
    hidden: Bool[Tensor, "*size"] | None = None,
) -> np.ndarray:
    """A view as it is shown, h w 3 in 0..1; on the scale of `x` where values are drawn. hidden: shaded in curves."""
    if modality.pictured:
        return displayed(modality.drawn(view), 0.0, 255.0)
    if modality.lines:
        return curves(view, x, hidden) / 255
    laid = modality.flat(modality.as_drawn(view, x))
    image = displayed(laid, *value_range(modality.flat(modality.as_drawn(x, x))))
    image[laid.isnan().all(dim=0).cpu().numpy()] = 1.0  # nothing
    return image


def rebuild(
    model: Rebuilder, x: Shaped[Tensor, "b c *size"], mask: Mask, leak: bool = False
) -> Shaped[Tensor, "b c *size"]:
    """`model.rebuild` with a number of images at a time that certainly fits into memory: large ones one by one."""
    most = max(1, PIXELS // math.prod(x.shape[2:]))
    sides = zip(x.split(most), mask.visible.split(most), mask.hidden.split(most))
    return torch.cat([model.rebuild(part, Mask(visible, hidden), leak) for part, visible, hidden in sides])


def hidden_pixels(model: Rebuilder, mask: Mask) -> Bool[Tensor, "b _ *size"]:
    """True where a pixel belongs to a hidden unit; of one channel, or of each where units differ by channel."""
    grid = model.encoder.grid
    hidden = grid.spread(as_bool(mask.hidden, grid.num_units))
    told = hidden[:, :1].expand(-1, model.encoder.planes, *hidden.shape[2:])
    return hidden if hidden.shape[1] == 1 else torch.cat([hidden, told], dim=1)


def draw(rows: list[Row], path: Path, remark: str = "") -> None:
    """Writes the panel: one row per image, one error scale for all rows. remark: below it, beside what columns mean."""
    maps = [row.columns["error"] for row in rows if "error" in row.columns]
    note = "rebuilt: the hidden patches only"
    if any("*" in name for name in rows[0].columns):
        note += (
            f", {'mean and deviation' if DRAWN_OVER in rows[0].columns else 'brightness and contrast'} estimated from"
            " the visible patches around them."
            "  * uses each hidden patch's true mean and deviation, which the model cannot know"
        )
    note += ".  error: in standard deviations of the data." if maps else "."
    note += f"  {remark}." if remark else ""
    brightest = max((float(np.quantile(errors, 0.99)) for errors in maps), default=0.0) or 1.0
    draw_panel(rows, path, note, cell=2.0, scale=brightest)


def displayed(x: Shaped[Tensor, "c h w"], low: float, high: float) -> np.ndarray:
    """For display: h w 3 in 0..1. One channel is grey; of more than three, the first three are shown."""
    x = ((x.float() - low) / max(high - low, 1e-9)).nan_to_num(0.0).clamp(0, 1)  # a diverged model predicts anything
    x = x[:3] if len(x) >= 3 else x[:1].expand(3, -1, -1)
    return x.permute(1, 2, 0).cpu().numpy()


def film_frame(model: Rebuilder, x: Shaped[Tensor, "b c *size"], mask: Mask, path: Path) -> None:
    """One frame: the same images, below each other, reconstructed with the visible units pasted in."""
    strip(rebuild(model, x, mask), x, path, model.encoder.modality)


def strip(view: Shaped[Tensor, "b c *size"], x: Shaped[Tensor, "b c *size"], path: Path, modality: str) -> None:
    """Samples below each other as one small PNG, on the brightness scale of `x`."""
    kind = make_modality(modality)
    if kind.lines:
        _write_png(stacked([curves(sample, raw, dpi=65) for sample, raw in zip(view, x)]), path)
        return
    ranges = [(0.0, 255.0) if kind.pictured else value_range(kind.flat(kind.as_drawn(raw, raw))) for raw in x]
    view = torch.stack(
        [
            kind.drawn(sample.cpu()) if kind.pictured else kind.flat(kind.as_drawn(sample.cpu(), raw.cpu()))
            for sample, raw in zip(view, x)
        ]
    )
    if min(view.shape[2:]) > FILM_SIDE:
        share = FILM_SIDE / min(view.shape[2:])
        view = nn.functional.interpolate(view.float(), scale_factor=share, mode="bilinear", antialias=True)
    gap = np.ones((max(1, view.shape[2] // 16), view.shape[3], 3))
    images = [part for image, span in zip(view, ranges) for part in (displayed(image, *span), gap)]
    pixels = (np.concatenate(images[:-1]) * 255).round().astype(np.uint8)
    _write_png(pixels, path)


def _write_png(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda part: Image.fromarray(pixels).save(part, format="PNG"))


def filmstrip(frames: list[tuple[str, Path]], path: Path) -> None:
    """Frames side by side, each with its heading: reconstructions of the same images over training."""
    from matplotlib.figure import Figure

    from unmask.report.palette import save

    images = [(title, np.asarray(Image.open(frame).convert("RGB"))) for title, frame in frames]
    height, width = images[0][1].shape[:2]
    figure = Figure(figsize=(1.25 * len(images), 1.25 * height / width + 0.3), dpi=130)
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    for axis, (title, image) in zip(axes, images):
        axis.imshow(image, interpolation="nearest" if width < 100 else "antialiased")
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=1 - 0.28 / figure.get_figheight(), wspace=0.04)
    save(figure, path)


def value_range(x: Shaped[Tensor, "c *size"]) -> tuple[float, float]:
    """Values shown as black and white: 0 and 255 for 8-bit images, otherwise the data's 1 % and 99 % quantiles."""
    if x.dtype == torch.uint8:
        return 0.0, 255.0
    values = x.float().flatten()
    values = values[values.isfinite()]
    if not len(values):
        return 0.0, 1.0
    if float(values.min()) >= 0 and 8 < float(values.max()) <= 255:
        return 0.0, 255.0
    values = values[:: max(1, len(values) // 100_000)]  # torch.quantile takes no more than 16 million
    low, high = float(values.quantile(0.01)), float(values.quantile(0.99))
    room = max(1.0, abs(low) / 10) if low == high else 0.0  # silence: or the least error would be black and white
    return low - room, high + room
