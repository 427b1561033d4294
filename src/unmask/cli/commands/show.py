"""The command `show`, step by step: open the run, read the images, mask, reconstruct, draw."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from unmask.cli.continue_run import own_file
from unmask.cli.options.show import Show
from unmask.cli.outputs import choose_place, say_replaced
from unmask.cli.shared_options import reading_of
from unmask.cli.verb import verb
from unmask.data.datasets.few_images import SUFFIXES, read_images
from unmask.data.modality import IMAGE, make_modality
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.errors import UserError
from unmask.evaluation.inner_views import attention_rows, feature_rows
from unmask.evaluation.masks_drawn import MaskMaker, mask_rows, named
from unmask.models.encoder import Encoder
from unmask.plain import numbers, texts
from unmask.report.panel import Row, draw_panel
from unmask.report.reconstruction import draw, hidden_pixels, rebuild, rows
from unmask.report.tiles import InTiles, cut, tiled_row
from unmask.runs.run import CONFIG, Run
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import doing, make_console, tracked
from unmask.tasks.open import load_encoder, task_of
from unmask.training.objective import Objective, Rebuilder, drawn_by
from unmask.weights.known import SUFFIXES as WEIGHTS

__all__ = ["show"]
IN_TILES = "Each tile of the model's size is masked and rebuilt by itself"
ALONE = (224, 224), 16  # image and patch size at which masks are drawn without a model


@verb(Show)
def show(options: Show) -> Path:
    """Draws the panel and returns its path.

    Raises UserError for weights without a decoder, which cannot reconstruct; for encoders without attention maps, if
    these are requested; for masks that need what is not there; and for images that cannot be read, each with its
    reason.
    """
    name = "panel.png" if options.what == "rebuild" else f"{options.what}.png"
    path = choose_place(options.run, options.out, f"show/{name}")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {path}: images are written as {', '.join(SUFFIXES)}")
    own_file(path, "show", texts(options.images))
    device = machine(options.device, "32").device
    tune(device)
    say_replaced([path], make_console())
    doing("opening the model")
    if options.what == "rebuild":
        path.parent.mkdir(parents=True, exist_ok=True)
        rebuilt, played = rebuilt_rows(options, device, path)
        draw(rebuilt, path, "" if options.size is None else IN_TILES)
        for sentence in played:
            make_console().print(sentence, soft_wrap=True, highlight=False)
    else:
        inner, note = masked_rows(options, device) if options.what == "masks" else inner_rows(options, device)
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_panel(inner, path, note, cell=2.4 if len(inner[0].columns) < 4 else 1.7)
    make_console().print(f"Drawn: {path}", soft_wrap=True)
    return path


def rebuilt_rows(options: Show, device: str, path: Path) -> tuple[list[Row], list[str]]:
    """For every image and mask: the input, the visible patches, the reconstruction, the error. And sentences: what
    of samples is drawn, and files beside `path` in which clips and sounds can be played."""
    objective, run = open_rebuilder(str(options.run))
    objective.to(device)
    data = run.config.data
    size = data.image_size
    modality = make_modality(data.modality)
    view, decoded = modality.whole(size), size
    if options.size is not None:
        decoded = tiled_size(options.size, size, data.modality)
        view = InTiles(options.size, (size[0], size[1]))
    names, images = read_images(options.images, options.most, decoded, data.channels, view, data.modality)
    wanted = texts(options.mask) or (run.config.method.mask or "random",)
    makers = {text: MaskMaker(text, objective, options.progress) for text in named(wanted, numbers(options.ratio))}
    panel: list[Row] = []
    played = list(filter(None, [modality.legend(data.channels)]))
    for place, (name, image) in enumerate(zip(names, images)):
        x = (image[None] if options.size is None else cut(image, size)).to(device)
        for text, maker in makers.items():
            mask = maker(x, torch.Generator().manual_seed(options.seed + place))
            title = f"{name}\n{text}" if len(makers) > 1 else name
            if options.size is not None:
                panel.append(tiled_row(objective, image.to(device), mask, title, options.true_statistics))
                continue
            panel += rows(objective, x, mask, [title], options.true_statistics)
            number, rebuilt = len(panel), rebuild(objective, x, mask)
            for what, sample in (("input", x), ("rebuilt", rebuilt)):
                file = modality.write(sample[0].cpu(), path.with_name(f"{path.stem}-{number}-{what}"))
                played += [] if file is None else [f"{file}: {what}, {modality.written}"]
            hidden = hidden_pixels(objective, mask)[0, 0].cpu()
            file = modality.animate(x[0].cpu(), rebuilt[0].cpu(), hidden, path.with_name(f"{path.stem}-{number}"))
            played += [] if file is None else [f"{file}: input, visible and rebuilt, side by side"]
    return panel, played


def tiled_size(shorter: int, size: Sequence[int], modality: str) -> tuple[int, int]:
    """Pixels at which images are read to be drawn in tiles. Raises UserError where tiles have no meaning."""
    if modality != IMAGE:
        word = make_modality(modality).word
        raise UserError(f"--size {shorter}: images are drawn in tiles; this run saw {word}s, which are drawn whole")
    if shorter < max(size):
        raise UserError(
            f"--size {shorter}: the run sees {size[0]} x {size[1]} pixels, which is the smallest tile; give"
            f" {max(size)} or more"
        )
    return shorter, shorter


def masked_rows(options: Show, device: str) -> tuple[list[Row], str]:
    """For every image: what each mask hides of it; and a note for all. With a model, at its size and patches."""
    model, usual = open_masking(options)
    wanted = named(texts(options.mask) or (usual,), numbers(options.ratio))
    if model is None:
        makers = {text: MaskMaker(text, None, options.progress, *ALONE) for text in wanted}
        size, channels, modality = ALONE[0], 3, IMAGE
    else:
        makers = {text: MaskMaker(text, model.to(device), options.progress) for text in wanted}
        encoder = model if isinstance(model, Encoder) else model.encoder
        size, channels, modality = encoder.input_size, encoder.channels, encoder.modality
    view = make_modality(modality).whole(size)
    names, images = read_images(options.images, options.most, size, channels, view, modality)
    drawn, note = mask_rows(names, [image.to(device) for image in images], makers, options.seed, modality)
    return drawn, "; ".join(filter(None, [note, make_modality(modality).legend(channels)]))


def open_masking(options: Show) -> tuple[Objective | Encoder | None, str]:
    """The model whose masks are drawn, and its usual mask: the whole of a run, an encoder, or none for images alone."""
    given = reading_of(options)
    if texts(options.images) == texts(options.run):
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UserError(f"{flags}: there are images alone; name weights before the images: show WEIGHTS IMAGE...")
        return None, "random"
    path = Path(options.run)
    if not given and (path / CONFIG).exists() and task_of(path) == "":
        run = Run(path)
        return run.objective(), run.config.method.mask or "random"
    return load_encoder(options.run, **given), "random"


def inner_rows(options: Show, device: str) -> tuple[list[Row], str]:
    """For every image: its patch features or its attention maps; and a note for all."""
    encoder = load_encoder(options.run, **reading_of(options)).to(device)
    if encoder.modality != IMAGE:
        word = make_modality(encoder.modality).word
        raise UserError(f"--what {options.what} is drawn on images; this encoder sees {word}s: --what rebuild or masks")
    block = encoder.layer_numbers([options.block])[0]
    size = encoder.input_size if options.size is None else (options.size, options.size)
    view = WholeImage((size[0], size[1])) if options.size is None else ShorterSide(options.size, encoder)
    names, images = read_images(options.images, options.most, size, encoder.channels, view)
    images = tracked(make_console(), f"computing the {options.what}", [image.to(device) for image in images])
    if options.what == "features":
        return feature_rows(encoder, names, images, block, options.background)
    return attention_rows(encoder, names, images, block)


def open_rebuilder(run: str) -> tuple[Rebuilder, Run]:
    """The whole objective of a run folder; UserError with the reason if it has no decoder."""
    path = Path(run)
    if path.is_file() or not path.exists():
        kind = "a file of weights" if path.suffix in WEIGHTS else "a file, not the folder of a run"
        what = f"{run} is {kind}" if path.is_file() else f"there is no folder {run}"
        raise UserError(
            f"{what}; rebuilding needs the decoder that the encoder was trained with, and only a run folder has it"
            " (last.ckpt). Encoder-only weights, timm's included, can be embedded and evaluated but not shown."
        )
    opened = Run(path)
    objective = opened.objective()
    if (rebuilder := drawn_by(objective)) is None:
        method = opened.config.method
        what = f"{method.name} with the target {method.target}" if method.target else method.name
        predicts = objective.undrawn if isinstance(objective, Rebuilder) else ""
        raise UserError(
            f"{run} was trained with {what}, which rebuilds no pixels of hidden patches"
            f"{f': it predicts {predicts}' if predicts else ''}; --what features, --what attention and --what masks"
            " draw what its encoder sees"
        )
    return rebuilder, opened


class ShorterSide:
    """A view of whole images, the shorter side as given, in whole units of an encoder."""

    def __init__(self, side: int, encoder: Encoder):
        self.side, self.unit = side, encoder.grid.unit

    def __call__(self, image: Tensor) -> Tensor:
        share = self.side / min(image.shape[1:])
        height, width = (max(1, round(s * share / u)) * u for s, u in zip(image.shape[1:], self.unit))
        return WholeImage((height, width))(image)
