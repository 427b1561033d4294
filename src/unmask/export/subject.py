"""Opens a run's model for export, and real images to compare every exported file on."""

from pathlib import Path

import torch
from torch import Tensor

from unmask.data.datasets.images import Samples
from unmask.data.modality import make_modality
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import DataError, UserError
from unmask.export.exportable import Exportable, Trained, encoder_of
from unmask.models.encoder import Encoder
from unmask.plain import texts
from unmask.runs.run import Run
from unmask.training import checkpoint
from unmask.training.objective import drawn_by

IMAGES = 16  # for the check


def open_subject(
    run: Run,
    model: Trained,
    images: tuple[str, ...],
    *,
    normalize: str,
    quantize: str,
    precision: tuple[str, ...],
    seed: int,
) -> tuple[Exportable, str]:
    """The model of a run, with images for its check and a description of where they come from. For the options see
    `Exportable`.

    images: where to read them; by default from the run's data, or from `demo` if that is gone.
    """
    whole = None
    if run.task is None and checkpoint.begun(run.path):
        objective = run.objective()
        whole = drawn_by(objective)
    encoder = whole.encoder if whole is not None else encoder_of(model)
    pixels, where = _images(images, run, encoder, model.input_size)
    subject = Exportable(
        model, run.record, pixels, whole, normalize=normalize, quantize=quantize, precision=precision, seed=seed
    )
    return subject, where


def _images(wanted: tuple[str, ...], run: Run, encoder: Encoder, size: tuple[int, ...]) -> tuple[Tensor, str]:
    """Real images, raw pixels b c h w, sized for the encoder."""
    if wanted:
        return _read(wanted, encoder, size)
    options = run.record["asked"]
    try:
        return _read(texts(options.get("data") or options.get("images") or options.get("on") or ()), encoder, size)
    except UserError:  # the data is gone, or was on another machine
        pass
    try:
        return _read(("demo",), encoder, size)
    except UserError as error:
        word = make_modality(encoder.modality).word
        raise UserError(
            f"the data of {run.path} is gone and the demo images do not stand in for {word}s of {encoder.channels}"
            f" channels; name some {word}s for the check with --images"
        ) from error


def _read(paths: tuple[str, ...], encoder: Encoder, size: tuple[int, ...]) -> tuple[Tensor, str]:
    source = open_source(paths, encoder.modality)
    count = min(IMAGES, len(source.items))
    indices = [i * len(source.items) // count for i in range(count)]  # spread over the data, not the first of them
    sheet, cache = inspect(source, indices=indices, max_side=4 * max(size), keep_bytes=2**30)
    bad = {index: f"{name}: {reason}" for index, name, reason in sheet.bad}
    good = [i for i in indices if i not in bad]
    if not good:
        raise DataError(f"no {source.modality.word} for the check can be read: " + "; ".join(list(bad.values())[:3]))
    samples = Samples(source, good, channels=encoder.channels, max_side=4 * max(size), cache=cache)
    view = samples.source.modality.whole(size)
    images = torch.stack([view(samples.image(i)).float() for i in range(len(good))])
    return images, ", ".join(Path(path).name for path in paths)
