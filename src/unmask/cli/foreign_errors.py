"""What libraries raise when the machine has no more to give, as errors of ours: one line and what to do."""

from pathlib import Path

from unmask.errors import Diverged, Lost, Unsaved, UserError, worker_lost
from unmask.files import no_room, system_error

NO_MEMORY = (  # in what torch, NumPy, the C++ library and the system say
    *("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "cannot allocate memory"),
    *("unable to allocate", "can't start new thread", "size calculation overflowed", "multiplication overflowed"),
    *("array is too big", "maximum allowed dimension exceeded", "failed to allocate"),
)
LESS = "What helps: a smaller --batch, --image-size or --model, a larger --patch-size, fewer --workers or --threads"


def in_our_words(error: BaseException) -> Exception | None:
    """The error to report instead; None where the error speaks for itself, or is our own bug."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or (_foreign(error) and any(words in text.lower() for words in NO_MEMORY)):
        said = f" ({text[:160]})" if text else ""
        return UserError(f"the memory that this process may use is not enough{said}. {LESS}")
    if isinstance(error, RuntimeError) and text.startswith("DataLoader worker"):
        return worker_lost(error)
    if isinstance(error, RecursionError) and "JSON" in text:  # of one that no reader of ours looked into first
        return UserError("a JSON file among what was given is nested too deeply to be read")
    if isinstance(error, Exception) and not isinstance(error, OSError | UserError | Diverged | Unsaved | Lost):
        reason = system_error(error, Path())
        if reason is not None and no_room(reason):
            return Unsaved(f"a result could not be written: {reason.strerror} ({text[:160]})")
    return None


def _foreign(error: BaseException) -> bool:
    ours = isinstance(error, UserError | Diverged | Unsaved | Lost)
    return not ours and isinstance(error, RuntimeError | OSError | ImportError | ValueError)
