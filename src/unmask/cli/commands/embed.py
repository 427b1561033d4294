"""The verb `embed`, step by step: open the encoder, read the images, write one feature vector for each."""

from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor

from unmask.cli.options.embed import Embed
from unmask.cli.verb import verb
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import collate
from unmask.data.sheet import check_bad, inspect
from unmask.data.source import open_source
from unmask.data.transforms.crops import WholeImage
from unmask.evaluation.feature_file import check_suffix, write_features
from unmask.evaluation.features import check_poolings
from unmask.plain import texts
from unmask.runtime.machine import machine, tune
from unmask.tasks.open import load_encoder
from unmask.training.log import make_console

__all__ = ["embed"]


def embedding(options: Embed) -> Path:
    """See `unmask.cli.commands.embed.embed`."""
    console, out, device = make_console(), Path(options.out), machine(options.device, "32").device
    check_suffix(out)
    tune(device)
    encoder = load_encoder(options.run).to(device)
    check_poolings(encoder, [options.pooling])
    source, size = open_source(texts(options.data)), encoder.grid.size
    indices = list(range(len(source.items)))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the images", total=len(indices))
        sheet, cache = inspect(
            source,
            max_side=4 * max(size),
            limit=len(indices),
            keep_bytes=2**31,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    check_bad(sheet, 0.5)
    bad = {index for index, _, _ in sheet.bad}
    for _, name, reason in sheet.bad[:10]:
        console.print(f"left out: {name}: {reason}", soft_wrap=True)
    if len(bad) > 10:
        console.print(f"left out: {len(bad) - 10} more")
    good = [i for i in indices if i not in bad]
    samples = Samples(source, good, channels=encoder.channels, max_side=4 * max(size), cache=cache)
    view = WholeImage((size[0], size[1]))

    def load_images(places: list[int]) -> Tensor:
        return collate([{"views": [view(samples.image(i))]} for i in places])["views"][0]

    out.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("embedding", total=len(samples))
        identity = (
            f"size {tuple(size)}, mean {encoder.mean.tolist()}, std {encoder.std.tolist()}, data {sheet.fingerprint}"
        )
        write_features(
            encoder,
            samples,
            out,
            load=load_images,
            pooling=options.pooling,
            batch=options.batch,
            device=torch.device(device),
            identity=identity,
            say=lambda text: console.print(text, soft_wrap=True),
            progress=lambda done: bar.update(task, completed=done),
        )
    console.print(f"{len(samples):,} feature vectors ({options.pooling}): {out}", soft_wrap=True)
    return out


@verb(Embed)
def embed(options: Embed) -> Path:
    """Writes features, paths and labels; continues where the same call was interrupted. Returns the file's path.

    Raises UserError for another ending than .npz or .parquet, or a pooling that the encoder does not have.
    """
    return embedding(options)
