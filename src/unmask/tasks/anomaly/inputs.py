"""Images for a finder of anomalies: all readable ones; the others are named and left out."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from torch import Tensor

from unmask.data.datasets.images import Samples
from unmask.data.sheet import inspect
from unmask.data.source import Source, open_source
from unmask.errors import DataError
from unmask.models.encoder import Encoder
from unmask.runtime.progress import progress

KEEP = 2**31  # bytes of decoded images that are kept in memory
NAMED = 20  # bad files on the screen


def read(source: Source, rows: Sequence[int], encoder: Encoder, max_side: int, console: Console, what: str) -> Samples:
    """Raises DataError if no image can be used, or if images cannot be converted to the encoder's channels."""
    with progress(console, f"reading {what}", len(rows)) as update:
        sheet, cache = inspect(
            source,
            indices=rows,
            max_side=max_side,
            limit=len(rows),
            keep_bytes=KEEP,
            progress=update,
        )
    if len(sheet.bad) == len(rows):
        reasons = "; ".join(f"{name}: {reason}" for _, name, reason in sheet.bad[:3])
        raise DataError(f"no image could be read: {reasons}{'; ...' if len(rows) > 3 else ''}")
    for _, name, reason in sheet.bad[:NAMED]:
        console.print(f"left out: {name}: {reason}", soft_wrap=True, markup=False)
    if len(sheet.bad) > NAMED:
        console.print(f"left out: {len(sheet.bad) - NAMED:,} more", soft_wrap=True)
    for line in sheet.unlike(*encoder.statistics):
        console.print(line, soft_wrap=True, markup=False)
    bad = {index for index, _, _ in sheet.bad}
    return Samples(source, [i for i in rows if i not in bad], channels=encoder.channels, max_side=max_side, cache=cache)


def opened(places: Sequence[str], console: Console) -> Source:
    """Opens the source and prints its remarks."""
    source = open_source(places)
    for remark in source.remarks:
        console.print(remark, soft_wrap=True, markup=False)
    return source


def without_copies(samples: Samples, digests: set[bytes]) -> tuple[list[int], int]:
    """Rows of images whose pixels are not in `digests`, to which they are added; and the number of copies. A copy on
    both sides of a split would lower the threshold, since its score is that of a known image."""
    kept = []
    for row in range(len(samples)):
        image = samples.image(row)
        digest = hashlib.blake2b(f"{tuple(image.shape)}".encode() + image.contiguous().numpy().tobytes()).digest()
        if digest not in digests:
            digests.add(digest)
            kept.append(row)
    return kept, len(samples) - len(kept)


def good(samples: Samples, rows: Iterable[int]) -> Iterator[Tensor]:
    """The images; a bad image, or one that became unreadable meanwhile, is never replaced by another."""
    return map(samples.itself, rows)
