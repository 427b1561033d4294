"""Where an index lies, how it is made, and what is said of it: shared by the verbs that need one."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from unmask.encoder import Encoder
from unmask.retrieval.index import Index, open_index
from unmask.run import CONFIG
from unmask.source import Source
from unmask.verb import Place


def index_folder(asked: Place | None, run: Place, out: Path, data: Sequence[str], pooling: str) -> Path:
    """The folder asked for; else one for these places of data in the run's folder, or in OUT where there is no run."""
    if asked is not None:
        return Path(asked)
    places = "\n".join(os.path.abspath(os.path.expanduser(place)) for place in data)
    name = re.sub(r"\W+", "-", Path(data[0]).name or "data").strip("-")[:40]
    name = f"{name}-{pooling}-{hashlib.blake2b(places.encode(errors='surrogateescape'), digest_size=4).hexdigest()}"
    return (Path(run) if (Path(run) / CONFIG).exists() else out) / "index" / name


def look_at(
    folder: Path, encoder: Encoder, source: Source, pooling: str, batch: int, device: str, console: Console
) -> Index:
    """The index of a source in its folder, with a bar while new pictures are looked at."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the pictures", total=len(source.items))
        return open_index(
            folder,
            encoder,
            source,
            pooling=pooling,
            batch=batch,
            device=device,
            say=lambda text: console.print(text, soft_wrap=True, markup=False),
            progress=lambda done: bar.update(task, completed=done),
        )


def say_bad(bad: Sequence[tuple[str, str]], say: Callable[[str], Any], most: int = 10) -> None:
    """Names pictures that are left out."""
    for name, reason in bad[:most]:
        say(f"left out: {name}: {reason}")
    if len(bad) > most:
        say(f"left out: {len(bad) - most:,} more")
