"""Arrays of NPZ files. Those read last are kept, since each of the recordings in a file is asked for by itself."""

import io
import threading
from collections import OrderedDict

import numpy as np

from unmask.data.regular_files import stamp_of

KEPT = 2**28  # bytes of arrays that a process keeps; of the file that was read last, any number

_kept: OrderedDict[str, dict[str, np.ndarray]] = OrderedDict()  # by path, size and time of change; the latest last
_lock = threading.Lock()


def arrays_of(source: str | bytes) -> dict[str, np.ndarray]:
    """All arrays of a file (path or content), by name; they cannot be written to. Of a damaged file, whatever NumPy
    raises."""
    if isinstance(source, bytes):
        return _read(io.BytesIO(source))
    with _lock:  # also while one is read, so that threads do not read it at the same time
        key = stamp_of(source) or source
        if key not in _kept:
            _kept[key] = _read(source)
        _kept.move_to_end(key)
        while len(_kept) > 1 and sum(a.nbytes for arrays in _kept.values() for a in arrays.values()) > KEPT:
            _kept.popitem(last=False)
        return dict(_kept[key])


def _read(file: str | io.BytesIO) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
