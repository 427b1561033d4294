"""Where an index lies, and what is said of it: shared by the verbs that need one."""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unmask.run import CONFIG
from unmask.verb import Place


def index_folder(asked: Place | None, run: Place, out: Path, data: Sequence[str], pooling: str) -> Path:
    """The folder asked for; else one for these places of data in the run's folder, or in OUT where there is no run."""
    if asked is not None:
        return Path(asked)
    places = "\n".join(os.path.abspath(os.path.expanduser(place)) for place in data)
    name = re.sub(r"\W+", "-", Path(data[0]).name or "data").strip("-")[:40]
    name = f"{name}-{pooling}-{hashlib.blake2b(places.encode(errors='surrogateescape'), digest_size=4).hexdigest()}"
    return (Path(run) if (Path(run) / CONFIG).exists() else out) / "index" / name


def say_bad(bad: Sequence[tuple[str, str]], say: Callable[[str], Any], most: int = 10) -> None:
    """Names pictures that are left out."""
    for name, reason in bad[:most]:
        say(f"left out: {name}: {reason}")
    if len(bad) > most:
        say(f"left out: {len(bad) - most:,} more")
