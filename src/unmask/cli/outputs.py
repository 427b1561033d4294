"""Where a command writes what it found: one rule for all of them.

Without `--out`, results lie below the folder of the weights (in the current folder where the weights have none), and
those of a second call beside those of the first: `panel.png`, `panel-2.png`. With `--out` they lie there. Files
that are replaced are named before the work begins.
"""

from collections.abc import Iterable
from itertools import count
from pathlib import Path

from rich.console import Console

from unmask.errors import UserError
from unmask.plain import Place
from unmask.runs.run import CONFIG
from unmask.weights.known import require_known

NAMED = 4  # files that are named one by one


def choose_place(weights: Place, out: Place | None, name: str, *, beside: Iterable[str] = ()) -> Path:
    """`out`, or a place of this name that is free. weights: as the command was given them.

    beside: endings of further files that are written with the same stem, which have to be free too.
    """
    if out is not None:
        return Path(out)
    first = below(weights) / name
    endings = (first.suffix, *beside)
    for number in count(1):
        place = first if number == 1 else first.with_name(f"{first.stem}-{number}{first.suffix}")
        if not any(_taken(place.with_suffix(ending)) for ending in endings):
            return place
    raise AssertionError  # `count` does not end


def below(weights: Place) -> Path:
    """The folder of a run, or of what transfer wrote; the current one for weights without a folder of their own."""
    return Path(weights) if (Path(weights) / CONFIG).exists() else Path()


def say_replaced(places: Iterable[Path], console: Console) -> None:
    """Names the files, and the folders that hold any, which the command is about to write over."""
    taken = [str(place) for place in places if _taken(place)]
    if taken:
        more = f" and {len(taken) - NAMED} more" if len(taken) > NAMED else ""
        text = f"Replacing the results of an earlier call: {', '.join(taken[:NAMED])}{more}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)


def results_folder(run: Place, out: Place | None) -> Path:
    """The run folder, or the folder asked for; a place that cannot work is refused before the work."""
    require_known(run)
    if out is None and not (Path(run) / CONFIG).exists():
        raise UserError(f"{run} is no run folder; say with --out where the results should go")
    return require_folder(Path(out or run))


def require_folder(out: Path) -> Path:
    """The folder to write into. Raises UserError for a file."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    return out


def _taken(place: Path) -> bool:
    """Whether something lies there; an empty folder is free."""
    return any(place.iterdir()) if place.is_dir() else place.exists()
