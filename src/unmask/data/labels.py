"""Names, labels and splits in folders, archives and lists: which files are images, and what their paths say."""

import csv
import io
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from unmask.data.names import SPLITS, key_of, masks_taken_for_images, match_names, split_of
from unmask.data.source import SEPARATOR, Item, has_several
from unmask.errors import many

EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .bmp .dib .tif .tiff .webp .avif .jp2 .j2k .jpx .ppm .pgm .pbm .pnm .tga"
    " .qoi .ico .pcx .psd .dds .sgi .heic .heif".split()
)
TABLE, ROBOFLOW_TABLE, CAPTIONS = "labels.csv", "_classes.csv", "captions.csv"
PAIRS = "pairs.csv"  # names the files of samples that consist of several
PACK = "unmask-pack.json"  # makes the folder that holds it one of `unmask pack`
_PATH = ("path", "file", "filename", "image", "name")
_LABEL = ("label", "class", "category", "target")
_LABELS = ("labels", "classes", "tags")  # each cell holds any number of names
_NAMED = 3  # examples in a remark


@dataclass
class Layout:
    """Items in the order of their paths, with remarks for the user."""

    items: list[Item]
    remarks: list[str] = field(default_factory=list)
    plural: bool = False  # as of a Source
    multi_label: bool = False


@dataclass(frozen=True)
class _Row:
    path: str
    label: str | None
    split: str = ""
    columns: dict[str, str] = field(default_factory=dict)


def is_image_name(name: str) -> bool:
    """True for a known image extension, in any case of letters."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def is_hidden(name: str) -> bool:
    """True for a file or folder name that holds no data: a leading dot, or what macOS adds to archives."""
    return name.startswith(".") or name == "__MACOSX"


def natural(name: str) -> list[list[str | tuple[int, str]]]:
    """A sort key by which 9.png comes before 10.png and a/ before a1/, the same on every machine and locale."""
    return [_natural(part) for part in name.split("/")]


def printable(name: str) -> str:
    """A name that any terminal, JSON file and line of text can hold: undecodable bytes and control signs as `\\xff`."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else _escaped(c) for c in name)


def class_name(text: object) -> str:
    """The name of a class, the same from every program: printable, letters composed, no blanks around."""
    return printable(unicodedata.normalize("NFC", str(text)).strip())


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names in one line, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def joined(labels: Iterable[str]) -> str:
    """Several labels of one image as one text, each once and in order; "" for none of the classes."""
    return SEPARATOR.join(sorted({label.strip() for label in labels if label.strip()}, key=natural))


def learnt_and_tested(train: Iterable[str], others: Iterable[str]) -> list[str]:
    """A remark where a file of the train split is in another one too."""
    both = len(set(map(os.path.realpath, train)) & set(map(os.path.realpath, others)))
    what = "which are learnt from and tested on: new images will do worse"
    return [f"{both:,} images are in the train split and in another, {what}"] if both else []


def spreadsheet(content: bytes) -> tuple[io.StringIO, str]:
    """A table of names of files as spreadsheets and scripts write it: its text, and what separates its cells. UTF-16 by
    its mark, else UTF-8, whose bytes that are none stay as in names of files; cells in quotes may hold line breaks."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    return io.StringIO(text), max(",;\t", key=text.split("\n", 1)[0].count)


def find_tables(paths: Sequence[str], is_file: Callable[[str], bool]) -> list[str]:
    """The tables that label images at `paths`: the labels.csv at the root or in the outermost folder that everything
    lies in; without one, each `_classes.csv` beside images, as Roboflow writes them."""
    common = os.path.commonpath(paths).split("/") if paths else []
    places = ["/".join([*common[:depth], TABLE]) for depth in range(len(common) + 1)]
    if table := next(filter(is_file, places), None):
        return [table]
    folders = sorted({posixpath.dirname(path) for path in paths}, key=natural)
    return list(filter(is_file, (posixpath.join(folder, ROBOFLOW_TABLE) for folder in folders)))


def arrange(paths: Sequence[str], tables: Sequence[tuple[str, bytes]] = (), word: str = "image") -> Layout:
    """Labels and splits for images, or other samples, at `paths` (relative, parts separated by /).

    tables: path and content of what `find_tables` gave; without one, class folders are looked for. Splits are folders
    named as in SPLITS, at the root or below the single folder that everything lies in. word: what a sample is called.
    """
    folders = [path.split("/")[:-1] for path in paths]
    root = _wrapper(folders)
    folders = [parts[root:] for parts in folders]
    split_folders = _split_folders(folders)
    has_splits = bool(split_folders)
    layout = Layout([], _taken_for_classes(folders, split_folders))
    splits = [SPLITS.get(parts[0].lower()) if has_splits and parts else None for parts in folders]
    if has_splits and None in splits:
        layout.remarks.append(f"outside of the train, val and test folders: {many(splits.count(None), 'file')}")
    labels = _class_folders(folders, splits, has_splits)
    layout.items = [Item(printable(p), label, split) for p, label, split in zip(paths, labels, splits)]
    layout.remarks += masks_taken_for_images(paths)
    _apply_tables(layout, paths, tables, word)
    return layout


def _natural(part: str) -> list[str | tuple[int, str]]:
    pieces = re.split(r"([0-9]+)", part)  # text and digits in turn, so that like is compared with like
    return [(len(p.lstrip("0")), p.lstrip("0") + p) if i % 2 else p for i, p in enumerate(pieces)]


def _escaped(sign: str) -> str:
    if "\udc80" <= sign <= "\udcff":  # a byte that is no UTF-8, as Python carries it in file names
        return f"\\x{ord(sign) - 0xDC00:02x}"
    return sign.encode("unicode_escape").decode()


def _wrapper(folders: list[list[str]]) -> int:
    """How many folders are wrapped around everything, such as the one an archive was made from."""
    depth = 0
    while folders:
        tops = {parts[depth] if len(parts) > depth else None for parts in folders}
        top = next(iter(tops))
        if len(tops) != 1 or top is None or top.lower() in SPLITS:
            return depth
        depth += 1
    return depth


def _split_folders(folders: list[list[str]]) -> set[str]:
    """Folder names that are splits: where there is nothing but split folders, or a train folder that is no class."""
    tops = {parts[0].lower() if parts else "" for parts in folders}
    named = tops & SPLITS.keys()
    if named == tops:
        return named
    if "train" not in {SPLITS[name] for name in named} or _are_classes(folders, tops, named):
        return set()
    return named


def _are_classes(folders: list[list[str]], tops: set[str], named: set[str]) -> bool:
    """True where folders with a split's name are classes among others: bus/, car/, train/. None of them holds class
    folders, no image lies beside them, and there is one of them, or there are more others than of them (train/,
    test/ and unlabeled/ are splits). Masks and train_old/ beside train/ are no classes."""
    inside = {name: {parts[1] for parts in folders if len(parts) > 1 and parts[0].lower() == name} for name in named}
    others = tops - named
    if "" in tops or any(len(below) > 1 for below in inside.values()):
        return False
    if any(split_of(name) or re.search("mask|label|annot|segm|truth", name) for name in others):
        return False
    return len(named) == 1 or len(others) > len(named)


def _taken_for_classes(folders: list[list[str]], splits: set[str]) -> list[str]:
    """A remark where a folder with a split's name is taken for a class."""
    names = sorted({parts[0] for parts in folders if parts and parts[0].lower() in SPLITS}, key=natural)
    if splits or not names or not all(folders) or len({parts[0] for parts in folders}) < 2:
        return []
    what = "is taken for a class, not a split" if len(names) == 1 else "are taken for classes, not splits"
    return [f"{', '.join(names)} {what}: other folders lie beside, and none holds folders of classes"]


def _class_folders(folders: list[list[str]], splits: list[str | None], split: bool) -> list[str | None]:
    """The first folder below the root or the split, if every image lies in one and there are several."""
    below = [parts[1:] if split else parts for parts in folders]
    counted = [parts for parts, part in zip(below, splits) if part or not split]
    if all(counted) and len({parts[0] for parts in counted}) >= 2:
        return [class_name(parts[0]) if parts and (part or not split) else None for parts, part in zip(below, splits)]
    return [None] * len(folders)


def _apply_tables(layout: Layout, paths: Sequence[str], tables: Sequence[tuple[str, bytes]], word: str) -> None:
    """Tables win over folders: an image without a row has no label, and keeps the split of its folder."""
    places = {path: i for i, path in enumerate(paths)}
    rows_by_image: dict[int, _Row] = {}
    used: list[str] = []
    for name, content in tables:
        rows, plural, problem = _rows(content)
        if problem:
            layout.remarks += [f"{name} is not used: {problem}"] if name.endswith(TABLE) else []
            continue
        base = name[: -len(posixpath.basename(name))]
        inside = [path for path in paths if path.startswith(base) or name.endswith(TABLE)]
        keys = {path: key_of(path.removeprefix(base)) for path in inside}
        matches = match_names([row.path for row in rows], keys, [base, ""])
        problems: dict[str, list[str]] = {}
        for row in rows:
            if row.path not in matches.files:
                problem = f"match several {word}s" if row.path in matches.several else f"match no {word}"
                problems.setdefault(problem, []).append(row.path)
            elif rows_by_image.setdefault(places[matches.files[row.path]], row) is not row:
                problem = (
                    f"are for {'an' if word[0] in 'aeiou' else 'a'} {word} that has a row already; the first counts"
                )
                problems.setdefault(problem, []).append(row.path)
        layout.remarks += [f"{name}: {len(which):,} rows {what}{_examples(which)}" for what, which in problems.items()]
        layout.remarks += [f"{name}: {remark}" for remark in matches.remarks("rows match")]
        layout.plural |= plural
        used.append(name)
    if not used:
        return
    layout.items = [_labelled(item, rows_by_image.get(i)) for i, item in enumerate(layout.items)]
    layout.multi_label = layout.plural and has_several(item.label for item in layout.items)
    missing = [path for i, path in enumerate(paths) if i not in rows_by_image]
    if missing:
        have = f"{many(len(missing), word)} {'has' if len(missing) == 1 else 'have'}"
        layout.remarks.append(f"{used[0]}: {have} no row, so no label{_examples(missing)}")


def _labelled(item: Item, row: _Row | None) -> Item:
    if row is None:
        return Item(item.name, None, item.split)
    return Item(item.name, row.label, SPLITS.get(row.split.lower(), item.split), row.columns)


def _examples(names: list[str]) -> str:
    shown = ", ".join(printable(name) or "(no name)" for name in names[:_NAMED])
    return f": {shown}{', ...' if len(names) > _NAMED else ''}"


def _rows(content: bytes) -> tuple[list[_Row], bool, str]:
    """Every row, whether an image may have several labels, and what is wrong with the table."""
    try:
        text, delimiter = spreadsheet(content)
        reader = csv.reader(text, delimiter=delimiter)
        table = [[cell.strip() for cell in row] for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        return [], False, f"it is no CSV file ({error})"
    header = [cell.lower() for cell in table[0]] if table else []
    path = next((header.index(name) for name in _PATH if name in header), None)
    label = next((header.index(name) for name in _LABEL + _LABELS if name in header), None)
    if path is not None and label is None and (rows := _rows_of_zeros_and_ones(table, path)):
        return rows, True, ""
    if path is None or label is None:
        return (
            [],
            False,
            (
                f"its columns are {printable(', '.join(header)) or 'none'}; it needs one of {', '.join(_PATH)}"
                f" and one of {', '.join(_LABEL)}, or for several labels per image one of {', '.join(_LABELS)}"
            ),
        )
    split = header.index("split") if "split" in header else None
    plural = header[label] in _LABELS
    others = {
        printable(cell): column
        for column, cell in reversed(list(enumerate(table[0])))  # of two alike the first counts
        if cell and column not in (path, label, split)
    }

    def cell(row: list[str], column: int | None) -> str:
        return row[column] if column is not None and column < len(row) else ""

    def read(row: list[str]) -> _Row:
        text = class_name(cell(row, label))
        own_label = joined(text.split(SEPARATOR)) if plural else text or None
        columns = {name: printable(cell(row, column)) for name, column in reversed(others.items())}
        return _Row(cell(row, path), own_label, cell(row, split), columns)

    return [read(row) for row in table[1:]], plural, ""


def _rows_of_zeros_and_ones(table: list[list[str]], path: int) -> list[_Row]:
    """Of a table with a column for each class, as Roboflow writes it; nothing where a cell is neither 0 nor 1."""
    classes = {column: class_name(name) for column, name in enumerate(table[0]) if column != path and name}
    if not classes or any(len(row) <= max(classes) or {row[c] for c in classes} - {"0", "1"} for row in table[1:]):
        return []
    return [_Row(row[path], joined(name for c, name in classes.items() if row[c] == "1")) for row in table[1:]]
