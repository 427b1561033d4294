"""Folders that are called as the parts of samples are, and hold other samples each."""

from collections import defaultdict
from collections.abc import Sequence

from unmask.data.labels import some
from unmask.data.modalities.joint.pairing import MAPS, WORDS, below_splits, share_names, stem_of, without_part


def unpaired(paths: Sequence[str]) -> list[str]:
    """A remark on folders that are called as parts are, rgb and depth, with other names of files each; none where files
    lie otherwise. Folders of maps of classes do not count, as images lie beside them for segmentation."""
    tops: dict[str, dict[str, str]] = defaultdict(dict)  # folder -> name without the folder and ending -> path
    for path, pieces in below_splits(paths).items():
        if len(pieces) < 2:
            return []
        tops[pieces[0]]["/".join([*pieces[1:-1], without_part(stem_of(pieces[-1]), pieces[0])])] = path
    values = [name for name in tops if name.lower() not in MAPS]
    if len(values) < 2 or not {name.lower() for name in tops} <= WORDS or share_names(tops):
        return []
    shown = "; ".join(f"{name} has {some(sorted(names), 2)}" for name, names in list(tops.items())[:3])
    return [
        f"{' and '.join(tops)} are called as parts of samples are, but do not share half of their names of files, by"
        f" which such are put together; each file is a sample of its own: {shown}"
    ]
