"""The command `embed`, step by step: open the encoder, read the images, write one feature vector for each."""

from pathlib import Path

from rich.console import Console
from torch import Tensor

from unmask.cli.continue_run import own_file
from unmask.cli.options.embed import Embed
from unmask.cli.outputs import choose_place
from unmask.cli.shared_options import reading_of
from unmask.cli.verb import verb
from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import collate
from unmask.data.sheet import Sheet, check_bad, inspect
from unmask.data.source import open_source
from unmask.evaluation.best_features import choose_pooling
from unmask.evaluation.feature_file import check_suffix, write_features
from unmask.models.encoder import Encoder
from unmask.plain import texts
from unmask.runtime.machine import machine, tune
from unmask.runtime.progress import make_console, make_say, progress
from unmask.tasks.open import load_encoder

__all__ = ["embed"]
NAMED = 10  # bad images that are named


@verb(Embed)
def embed(options: Embed) -> Path:
    """Writes features, paths and labels; continues where the same call was interrupted. Returns the file's path.

    Raises UserError for another ending than .npz or .parquet, or a pooling that the encoder does not have.
    """
    console, out = make_console(), choose_place(options.run, options.out, "features.npz")
    device = machine(options.device, "32").device
    check_suffix(out)
    own_file(out, "embed", texts(options.data))
    tune(device)
    encoder = load_encoder(options.run, **reading_of(options)).to(device)
    pooling = choose_pooling(options.run, options.pooling, encoder, "linear", make_say(console))
    samples, sheet = read_samples(texts(options.data), encoder, console)
    size = encoder.grid.size
    view = samples.source.modality.whole(size)

    def load_images(rows: list[int]) -> Tensor:
        return collate([{"views": [view(samples.itself(row))]} for row in rows])["views"][0]

    statistics = f"mean {encoder.mean.tolist()}, std {encoder.std.tolist()}"
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress(console, "embedding", len(samples)) as update:
        write_features(
            encoder,
            samples,
            out,
            load=load_images,
            pooling=pooling,
            batch=options.batch,
            device=device,
            identity=f"size {tuple(size)}, {statistics}, data {sheet.fingerprint}",
            say=make_say(console),
            progress=update,
        )
    console.print(f"{len(samples):,} feature vectors ({pooling}): {out}", soft_wrap=True)
    return out


def read_samples(places: tuple[str, ...], encoder: Encoder, console: Console) -> tuple[Samples, Sheet]:
    """All good images; the others are named. Raises DataError where more than half are bad."""
    source, size, say = open_source(places, encoder.modality), encoder.grid.size, make_say(console)
    with progress(console, f"looking at the {source.modality.word}s", len(source.items)) as update:
        sheet, cache = inspect(
            source,
            max_side=4 * max(size),
            limit=len(source.items),
            keep_bytes=2**31,
            progress=update,
        )
    check_bad(sheet, 0.5, fixed=True)
    bad = {index for index, _, _ in sheet.bad}
    for _, name, reason in sheet.bad[:NAMED]:
        say(f"left out: {name}: {reason}")
    if len(bad) > NAMED:
        say(f"left out: {len(bad) - NAMED} more")
    good = [i for i in range(len(source.items)) if i not in bad]
    samples = Samples(source, good, channels=encoder.channels, max_side=4 * max(size), cache=cache)
    return samples, sheet
