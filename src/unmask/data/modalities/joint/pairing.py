"""Which files make one sample of several kinds of data: a folder for each kind, with files of equal names; a folder for
each sample; names that end in the kind; or a table, `pairs.csv`.
"""

import csv
import glob
import io
import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from unmask.data.codecs.image import BadImage
from unmask.data.labels import CAPTIONS, PAIRS, TABLE, some, spreadsheet
from unmask.data.names import IMAGE_FOLDERS, SPLITS
from unmask.data.regular_files import read_regular
from unmask.errors import DataError, UserError, many

LABELS = ("label", "class", "split", "name", "id")  # columns of the table that are no parts
MAPS = {"mask", "masks", "label", "labels", "segmentation", "segmentations", "classes", "semseg", "annotations"}
WORDS = MAPS | set(
    "rgb image images photo photos color colour depth depths disparity thermal ir infrared nir sar optical radar edge"
    " edges normal normals flow sound sounds audio speech video clip clips signal imu ecg scan ct mri t1 t2 flair pet"
    " bands multispectral lidar height dem".split()
)  # names of folders that say what kind of data lies in them, where files of one kind lie in several
COMMON = 0.5  # share of the names in the smallest folder that another one has too, at the least
LOOKED, UPWARDS = 5, 4  # files of a part whose kind is looked at; folders above a file where its table may lie
MOST = 12  # parts


def stem_of(name: str) -> str:
    return re.sub(r"(\.nii|\.tar)?\.[^./]+$", "", name)


def place_of(path: str, parts: Iterable[str]) -> tuple[str, str] | None:
    """The part that a file is, and the sample that it is of, by its path; None where it says nothing of a part."""
    *folders, file = path.replace("\\", "/").split("/")
    stem, by_name = stem_of(file), {part.lower(): part for part in parts}
    for place in reversed(range(len(folders))):
        if part := by_name.get(folders[place].lower()):
            return part, "/".join([*folders[:place], *folders[place + 1 :], without_part(stem, part)])
    if part := by_name.get(stem.lower()):
        return part, "/".join(folders)
    for part in by_name.values():
        if (short := without_part(stem, part)) != stem:
            return part, "/".join([*folders, short])
    return None


def without_part(stem: str, part: str) -> str:
    """A file's name without the part at its end: 0001_depth."""
    return re.sub(rf"(?<=.)[_.\-]{re.escape(part)}$", "", stem, flags=re.IGNORECASE)


def read_table(root: str) -> list[dict[str, str]] | None:
    """The rows of the table in a folder, cells by the name of their column; None where there is none. Raises DataError
    for one that cannot be read."""
    place = os.path.join(root, PAIRS)
    if not os.path.isfile(place):
        return None
    try:
        text, delimiter = spreadsheet(read_regular(place))
        rows = list(csv.DictReader(text, delimiter=delimiter))
    except (OSError, BadImage, csv.Error) as error:
        raise DataError(f"{place} cannot be read as a table: {error}") from error
    return [{(k or "").strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str | None)} for row in rows]


def other_tables(root: str) -> list[str]:
    """A remark on each table in a folder that names files of samples and is not read, as it has another name."""
    read = {PAIRS, TABLE, CAPTIONS}
    names = [name for name in sorted(os.listdir(root)) if name.lower().endswith((".csv", ".tsv")) and name not in read]
    return [f"{name} names files of samples and is not read: call it {PAIRS}" for name in names if _pairs(root, name)]


def _pairs(root: str, name: str) -> bool:
    """Whether the first row of a table names two files or more."""
    try:
        text, delimiter = spreadsheet(read_regular(os.path.join(root, name)))
        row = next(islice(csv.reader(text, delimiter=delimiter), 1, None), [])
    except (OSError, BadImage, csv.Error):
        return False
    return sum(bool(cell.strip()) and os.path.isfile(os.path.join(root, cell.strip())) for cell in row) > 1


def columns_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The columns that are parts."""
    return [name for name in (rows[0] if rows else ()) if name and name.lower() not in LABELS]


def kinds_of_columns(rows: Sequence[Mapping[str, str]], kind_of: Callable[[str], str | None]) -> dict[str, str]:
    """Name and kind of each part of a table, by a few of its files. Raises UserError for fewer than two parts."""
    columns = {name: [row[name] for row in rows if row.get(name)] for name in columns_of(rows)}
    kinds = {name: _majority(cells, kind_of) for name, cells in columns.items()}
    parts = {name: kind for name, kind in kinds.items() if kind is not None}
    if len(parts) < 2:
        unknown = [f"{name} ({some(cells, 1)})" for name, cells in columns.items() if name not in parts and cells]
        told = f"; what the files of {', '.join(unknown)} are is not known, or they are not there" if unknown else ""
        raise UserError(
            f"{PAIRS} names files of {', '.join(parts) or 'no part'}{told}; it has a column for each part of the"
            f" samples, two or more, with paths from its folder on, and may have {', '.join(LABELS[:4])}"
        )
    return parts


def find_parts(paths: Sequence[str], kind_of: Callable[[str], str | None], sure: bool) -> dict[str, str]:
    """Name and kind of each part of the samples that files make by how they lie; none where they lie otherwise.

    kind_of: of a file. sure: it was said that there are such, so that names of folders need not tell. Raises UserError
    for one part alone, or no common names, where it is sure.
    """
    tops = _by_part(paths)
    if tops is None:
        tops, below = defaultdict(dict), below_splits(paths)  # folder -> name without the folder and ending -> path
        for path, parts in below.items():
            if len(parts) > 1:
                own = without_part("/".join([*parts[1:-1], stem_of(parts[-1])]), parts[0])
                tops[parts[0]].setdefault(own, path)
        if not sure and len(tops) > MOST:
            return {}
        if len(tops) < 2 or len(tops) > MOST or not share_names(tops):
            if sure:
                raise UserError(_no_parts(tops))
            return {}
    kinds = {name: _majority(list(names.values()), kind_of) for name, names in tops.items()}
    kinds = {name: kind for name, kind in kinds.items() if kind is not None}
    values = [name for name in kinds if name.lower() not in MAPS]
    told = len({kinds[name] for name in values}) > 1 or (len(values) > 1 and {n.lower() for n in kinds} <= WORDS)
    if len(kinds) < 2 or not (sure or told):
        return {}
    order = sorted(kinds, key=lambda name: (name.lower() not in IMAGE_FOLDERS, name))  # photographs first
    return {name: "classes" if kinds[name] == "image" and name.lower() in MAPS else kinds[name] for name in order}


def _by_part(paths: Sequence[str]) -> dict[str, dict[str, str]] | None:
    """The files of each part where every sample has a folder, with files called after the parts: rgb.jpg, depth.png;
    None where they lie otherwise."""
    few = Counter(stem_of(posixpath.basename(path)).lower() for path in paths[:1000])
    names = [name for name, count in few.items() if count > 1]
    if len(names) < 2 or not set(few) <= WORDS or any("/" not in path for path in paths):
        return None
    return {name: {p: p for p in paths if stem_of(posixpath.basename(p)).lower() == name} for name in names}


def _no_parts(tops: Mapping[str, Mapping[str, str]]) -> str:
    """Why folders hold no samples of several kinds."""
    if 1 < len(tops) <= MOST:
        shown = "; ".join(f"{name} has {some(sorted(names), 2)}" for name, names in list(tops.items())[:3])
        return f"no two folders share a name of a file, by which samples are put together: {shown}"
    return (
        f"samples of several kinds lie in a folder for each kind, and here is {many(len(tops), 'folder')}:"
        f" rgb/0001.jpg depth/0001.png, or a table {PAIRS} with a column for each kind"
    )


def below_splits(paths: Sequence[str]) -> dict[str, list[str]]:
    """Every path's pieces, without a first folder that is a split where all files lie in such."""
    pieces = {path: path.split("/") for path in paths}
    if pieces and all(len(parts) > 1 and parts[0].lower() in SPLITS for parts in pieces.values()):
        return {path: parts[1:] if len(parts) > 2 else parts for path, parts in pieces.items()}
    return pieces


def share_names(tops: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether every folder shares most of its names, or of another's, with that one."""
    names = [set(stems) for stems in tops.values()]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    return bool(pairs) and all(
        any(len(own & other) >= COMMON * min(len(own), len(other)) for other in names if other is not own)
        for own in names
    )


def _majority(paths: Sequence[str], kind_of: Callable[[str], str | None]) -> str | None:
    step = max(1, len(paths) // LOOKED)
    kinds = Counter(filter(None, map(kind_of, paths[::step])))
    return kinds.most_common(1)[0][0] if kinds else None


def grouped(
    paths: Sequence[str], parts: Sequence[str], fits: Callable[[str], list[str]]
) -> tuple[list[tuple[str, ...]], list[str]]:
    """The files of each sample, one for each part, "" where it is missing; and remarks. fits: parts whose kind a file
    is of."""
    samples: dict[str, dict[str, str]] = defaultdict(dict)
    doubles, strays = [], []
    for path in paths:
        place = place_of(path, parts)
        if place is None and len(own := fits(path)) == 1:
            place = own[0], posixpath.join(posixpath.dirname(path), stem_of(posixpath.basename(path)))
        if place is None:
            strays.append(path)
        elif place[0] in samples[place[1]]:
            doubles.append(f"{samples[place[1]][place[0]]} and {path}")
        else:
            samples[place[1]][place[0]] = path
    remarks = [f"two files of one name in a part, of which the first counts: {some(doubles, 2)}"] if doubles else []
    remarks += [f"left out, since nothing says which part they are: {some(strays, 3)}"] if strays else []
    groups = [tuple(sample.get(part, "") for part in parts) for sample in samples.values()]
    return [group for group in groups if any(group)], remarks


def of_table(rows: Sequence[Mapping[str, str]], parts: Sequence[str]) -> tuple[list[tuple[str, ...]], list[str]]:
    """The same by a table."""
    if missing := [part for part in parts if part not in rows[0]] if rows else list(parts):
        raise UserError(
            f"{PAIRS} has no column {', '.join(missing)}; it has {', '.join(rows[0]) if rows else 'no rows'}"
        )
    groups = [tuple(row.get(part, "") for part in parts) for row in rows]
    empty = sum(not any(group) for group in groups)
    return [group for group in groups if any(group)], [f"{PAIRS}: {many(empty, 'row')} name no file"] if empty else []


def names_of(groups: Sequence[tuple[str, ...]], parts: Sequence[str]) -> list[str]:
    """A name for each sample: the path of its first file without what says which part that is."""
    names, seen = [], Counter[str]()
    for group in groups:
        first = next(filter(None, group))
        place = place_of(first, parts)
        ending = posixpath.basename(first)[len(stem_of(posixpath.basename(first))) :]
        own = stem_of(posixpath.basename(first)).lower() in {part.lower() for part in parts}
        name = first if place is None or not place[1] else place[1] if own else place[1] + ending
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def labels_of(rows: Sequence[Mapping[str, str]], parts: Sequence[str]) -> bytes | None:
    """Labels and splits of a table as a `labels.csv`; None where it has no column of labels."""
    kept = [row for row in rows if any(row.get(part) for part in parts)]
    lower = [{key.lower(): value for key, value in row.items()} for row in kept]
    if not any(row.keys() & {"label", "class"} for row in lower):
        return None
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["path", "label", "split"])
    for name, row in zip(names_of([tuple(row.get(part, "") for part in parts) for row in kept], parts), lower):
        writer.writerow([name, row.get("label") or row.get("class", ""), row.get("split", "")])
    return table.getvalue().encode()


def beside(path: str, parts: Sequence[str]) -> tuple[str, ...]:
    """The files of the sample that one is of, one for each part, "" where there is none; just the file where its path
    does not say which part it is."""
    for root in _folders_above(path):
        for row in read_table(root) or ():
            cells = [row.get(part, "") and os.path.abspath(os.path.join(root, row[part])) for part in parts]
            if os.path.abspath(path) in cells:
                return tuple(cells)
    place = place_of(path, parts)
    if place is None:
        return (path,)
    files = {place[0]: path}
    for part in parts:
        for other in sorted(_candidates(path, place[0], part)) if part != place[0] else ():
            if os.path.isfile(other) and place_of(other, parts) == (part, place[1]):
                files.setdefault(part, other)
    return tuple(files.get(part, "") for part in parts)


def _folders_above(path: str) -> list[str]:
    folders = [os.path.dirname(os.path.abspath(path))]
    for _ in range(UPWARDS - 1):
        folders.append(os.path.dirname(folders[-1]))
    return folders


def _candidates(path: str, own: str, part: str) -> list[str]:
    folders, stem = path.split("/")[:-1], glob.escape(without_part(stem_of(posixpath.basename(path)), own))
    for place in reversed(range(len(folders))):
        if folders[place].lower() == own.lower():
            above, below = "/".join(folders[:place]) or "/", folders[place + 1 :]
            names = [name for name in os.listdir(above) if name.lower() == part.lower()]
            folders = [glob.escape("/".join([above, name, *below])) for name in names]
            return [file for folder in folders for file in glob.glob(os.path.join(folder, stem + "*"))]
    return glob.glob(os.path.join(glob.escape("/".join(folders)), f"*{glob.escape(part)}.*"))
