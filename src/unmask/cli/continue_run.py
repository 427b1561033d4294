"""Commands that write a folder: whose it is, and whether what lies there may be continued."""

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from unmask.data.labels import CAPTIONS, TABLE, is_image_name
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.files import MARK, REPORT, STAGES, Json
from unmask.plain import Dataclass, Place, plain, texts
from unmask.planning.safety import require_writable
from unmask.runs.config import Config
from unmask.runs.run import Run
from unmask.runtime.lock import hold
from unmask.tasks.pages import write_report

STUDY = "study.json"  # what a study was begun with


@runtime_checkable
class StudyRecord(Protocol):
    @property
    def asked(self) -> Json: ...  # options as the user gave them


Begun = TypeVar("Begun", bound=StudyRecord)


def own(out: Path, command: str, data: Iterable[Place] = (), *, within: bool = False, flag: str = "--out") -> None:
    """The folder is this command's until it ends. within: it is a run's, to which the command adds results.

    data: what the command reads. Raises UserError for a file, for the data's own folder, for one that nothing can be
    written into, and where another process writes into it.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{flag} {out} is a file; give a folder")
    for place in data:
        if not within and out.is_dir() and Path(place).is_dir() and out.samefile(place):
            raise UserError(f"--out {out} is the data itself; give another folder, lest results are read as data")
    require_writable(out)
    hold(out, command, within=within)


def own_file(path: Path, command: str, data: Iterable[Place] = ()) -> None:
    """As `own`, for a command that writes a file. Raises UserError too where the file is what the command reads."""
    for place in [Path(place) for place in data if path.exists() and Path(place).exists()]:
        inside = place.is_dir() and place.resolve() in path.resolve().parents
        if path.samefile(place) or (inside and (is_image_name(path.name) or path.name in (TABLE, CAPTIONS))):
            raise UserError(f"--out {path} is what is read; give another name, so that it is not overwritten")
    require_writable(path.parent)
    hold(path.parent, f"{command}-{path.name}", within=True)


def is_new(out: Path) -> bool:
    """Whether a folder may be begun: it is not there, or nothing is in it but what a killed beginning left."""
    if not out.exists():
        return True
    return out.is_dir() and not [name for name in (path.name for path in out.iterdir()) if not _is_left(name)]


def require_new_study(out: Path) -> None:
    """Raises UserError for a folder that holds something else than a study."""
    if not is_new(out):
        raise UserError(f"{out} is there and is no study; give a new or empty folder with --out")


def begun_study(out: Path, asked: Json, read: Callable[[Path], Begun]) -> Begun | None:
    """The study that was begun in the folder, if there is one, with the same settings. read: opens its file. Raises
    UserError where the settings are others, or the folder holds something else."""
    if (out / STUDY).exists():
        begun = read(out / STUDY)
        refuse_other_settings(asked, begun.asked, {}, out)
        return begun
    require_new_study(out)
    return None


def settings_of_study(options: Dataclass, left_out: Collection[str]) -> Json:
    """What a study is asked for, places from the root; but for `left_out`, options that change no result."""
    asked = {name: value for name, value in plain(options).items() if name not in left_out}
    return asked | {name: [absolute(place) for place in asked[name]] for name in ("data", "on")}


def finished(out: Path, command: str, *made: str) -> bool:
    """Whether the run in the folder has come to its end, and what it made is there; writes the report where it was
    killed just before that."""
    done = Run(out).finished and all((out / name).exists() for name in made)
    if done and not (out / REPORT).exists():
        own(out, command)
        write_report(out)
    return done


def _is_left(name: str) -> bool:
    return name.startswith(MARK) or name == STAGES or (name.startswith(".") and name.endswith(".part"))


def moved(asked: Json, then: Json, names: Sequence[str]) -> list[str]:
    """Sentences on places that are named otherwise than they were, and are no more where they were. What lies there
    must be the same, which the caller finds out."""
    pairs = [(asked[name], then.get(name)) for name in names if asked.get(name) != then.get(name)]
    return [
        f"{', '.join(texts(old))} is now {', '.join(texts(new))}: the run goes on with it"
        for new, old in pairs
        if new and old and not any(Path(place).exists() for place in texts(old))
    ]


def refuse_other_settings(asked: Json, then: Json, chosen: Json, out: Path, places: Sequence[str] = ()) -> list[str]:
    """A folder holds one run: what is asked now must be what was asked then, or what was chosen then.

    places: names of settings that are paths, which may have moved; returns a sentence for each that has.
    """
    sentences = {name: moved(asked, then, [name]) for name in places}

    def said(name: str) -> str:
        return f"{chosen.get(name)} (chosen)" if then.get(name) is None else str(then[name])

    differing = [
        f"  {name}: {said(name)} in the folder, {'chosen' if value is None else value} now"
        for name, value in asked.items()
        if name != "accumulate" and value != then.get(name) and value != chosen.get(name) and not sentences.get(name)
    ]
    if differing:
        raise UserError(
            f"{out} holds a run with other settings:\n" + "\n".join(differing) + "\n"
            "Give the same settings to continue it, or another folder with --out (--init RUN starts from its weights)."
        )
    return [sentence for told in sentences.values() for sentence in told]


def refuse_other_data(config: Config, sheet: Sheet, out: Path) -> None:
    """Raises UserError if the data of a resumed run has changed."""
    if config.data.fingerprint != sheet.fingerprint:
        raise UserError(
            f"the data changed since {out} was begun ({config.data.count} {sheet.word}s then, {sheet.count} now, or"
            " other content), so it cannot be continued exactly. Start in a new folder with --out"
            f" (and --init {out} to go on from its weights)"
        )


def absolute(place: str) -> str:
    """The same place named from the root, if it is there: so that it is the same from any folder."""
    local = Path(place).exists() or ("{" in place and ":" not in place)  # a brace range of shards
    return str(Path(place).resolve()) if place != "demo" and local else place
