"""Captions that lie beside images: `captions.csv`, and text of the same name in an archive of shards (WebDataset).

Several captions of an image are lines of one text, in the column `caption` of its item.
"""

import csv
import io
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from unmask.data.labels import CAPTIONS, is_image_name, natural, printable
from unmask.data.names import key_of, match_names
from unmask.data.source import Item
from unmask.errors import many
from unmask.files import parse_json

COLUMN = "caption"  # of an item
NAMES = (COLUMN, "captions", "txt", "text")  # of columns and of members of an archive; the first that is there counts
_FILES = (
    "file", "path", "filename", "file_name", "filepath", "file_path", "image", "image_name", "image_path", "image_file",
    "name",
)  # fmt: skip
_TEXTS = (*NAMES, "description", "sentence", "title", "comment", "prompt")
_SEPARATORS = ",;\t|"
_NAMED = 3  # examples in a remark
LONG = 1 << 20  # bytes of a text beside an image at the most; the rest is not read


def captions_in(columns: Mapping[str, str]) -> tuple[str, ...]:
    """The captions of an image, each once, of what else is told of it; none where there are only blanks."""
    text = next((columns[name] for name in NAMES if columns.get(name, "").strip()), "")
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def find_caption_tables(paths: Sequence[str], is_file: Callable[[str], bool]) -> list[str]:
    """The `captions.csv` in every folder that images lie in, and in those above."""
    folders = {posixpath.dirname(path) for path in paths}
    for folder in list(folders):
        while folder:
            folder = posixpath.dirname(folder)
            folders.add(folder)
    return list(filter(is_file, (posixpath.join(folder, CAPTIONS) for folder in sorted(folders, key=natural))))


def with_captions(
    items: Sequence[Item], paths: Sequence[str], tables: Iterable[tuple[str, bytes]]
) -> tuple[list[Item], list[str]]:
    """The items with their captions, and remarks for the user. paths: of the items; tables: path and content of what
    `find_caption_tables` gave, whose names of files are relative to the table's folder."""
    texts: dict[str, list[str]] = {}
    remarks: list[str] = []
    for name, content in tables:
        rows, said, problem = _rows(content, {posixpath.basename(path) for path in paths})
        if problem:
            remarks.append(f"{name} is not used: {problem}")
            continue
        base = name.removesuffix(CAPTIONS)
        keys = {path: key_of(path.removeprefix(base)) for path in paths if path.startswith(base)}
        matches = match_names([file for file, _ in rows], keys, [base, ""])
        absent: dict[str, list[str]] = {}
        for file, caption in rows:
            if file not in matches.files:
                what = "may mean several images" if file in matches.several else "{are} for images that are not there"
                absent.setdefault(what, []).append(file)
            elif not caption:
                absent.setdefault("{are} empty", []).append(file)
            else:
                texts.setdefault(matches.files[file], []).append(caption)
        remarks += [f"{name}: {said}"] if said else []
        for what, files in absent.items():
            verb = "is" if len(files) == 1 else "are"
            remarks.append(f"{name}: {many(len(files), 'caption')} {what.format(are=verb)}{_examples(files)}")
        remarks += [f"{name}: {remark}" for remark in matches.remarks("captions match")]
    told = [
        replace(item, columns=item.columns | {COLUMN: "\n".join(dict.fromkeys(texts[path]))}) if path in texts else item
        for item, path in zip(items, paths)
    ]
    return told, remarks


def beside_images(paths: Sequence[str], members: Iterable[str], read: Callable[[str], bytes]) -> dict[str, str]:
    """path -> captions, of images in an archive that text or JSON of the same name lies beside: 0001.jpg, 0001.txt."""
    by_stem: dict[str, dict[str, str]] = {}
    for member in members:
        stem, _, ending = member.rpartition(".")
        if ending.lower() in (*NAMES, "json") and not is_image_name(member):
            by_stem.setdefault(stem, {})[ending.lower()] = member
    texts = {}
    for path in paths:
        beside = by_stem.get(path.rpartition(".")[0], {})
        facts = _facts(read(beside["json"])) if "json" in beside else {}
        facts |= {name: _decoded(read(beside[name]))[0] for name in NAMES if name in beside}
        captions = captions_in(facts)
        if captions and not all(_is_number(word) for caption in captions for word in caption.split()):
            texts[path] = "\n".join(captions)  # numbers alone are boxes, as YOLO writes them, or a class
    return texts


def _facts(content: bytes) -> dict[str, str]:
    try:
        facts = parse_json(content)
    except ValueError:
        return {}
    return text_columns(facts) if isinstance(facts, dict) else {}


def text_columns(facts: Mapping[str, object]) -> dict[str, str]:
    """Of what a JSON says, what is told in words and numbers; several captions in a list become lines."""
    columns = {str(name): str(value) for name, value in facts.items() if isinstance(value, (str, int, float))}
    for name in NAMES:
        value = facts.get(name)
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            columns[name] = "\n".join(" ".join(line.split()) for line in value)
    return columns


def _rows(content: bytes, names: set[str]) -> tuple[list[tuple[str, str]], str, str]:
    """File and caption of every row; how the text was read, where that is worth saying; what is wrong with the table.
    names: of the images, by which a table without a header is known."""
    text, said = _decoded(content)
    first = text.lstrip("\n").split("\n", 1)[0]
    separator = max(_SEPARATORS, key=first.count)
    if not first.strip():
        return [], "", "it is empty"
    try:
        table = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(map(str.strip, row))
        ]
    except csv.Error as error:
        return [], "", f"it is no CSV file ({error})"
    header = [cell.strip().lower() for cell in table[0]]
    file = next((header.index(name) for name in _FILES if name in header), None)
    caption = next((header.index(name) for name in _TEXTS if name in header), None)
    if file is None and caption is None and len(header) >= 2 and posixpath.basename(table[0][0].strip()) in names:
        file, caption, header = 0, 1, header[:2]  # no header
    elif file is None or caption is None or file == caption:
        shown = printable(", ".join(header))
        return [], "", f"its columns are {shown}; it needs one of {', '.join(_FILES)} and one of {', '.join(_TEXTS)}"
    else:
        table = table[1:]
    last = caption == len(header) - 1  # then a separator in a caption without quotes belongs to it
    rows = []
    for row in table:
        cells = row[caption:] if last else row[caption : caption + 1]
        rows.append((row[file].strip() if file < len(row) else "", " ".join(separator.join(cells).split())))
    return rows, said, ""


def _decoded(content: bytes) -> tuple[str, str]:
    """A text, and how it was read if that is a guess."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace").replace("\r\n", "\n"), "read as UTF-16"
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n"), ""
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace").replace("\r\n", "\n")
        return text, "is no UTF-8 and was read as Windows-1252; save it as UTF-8 if words look wrong"


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _examples(files: Sequence[str]) -> str:
    names = list(dict.fromkeys(files))
    shown = ", ".join(printable(name) or "(no name)" for name in names[:_NAMED])
    return f": {shown}{', ...' if len(names) > _NAMED else ''}"


def count_captions(items: Sequence[Item]) -> dict[str, int]:
    """Facts for the data sheet; empty where no image has a caption."""
    texts = [captions_in(item.columns) for item in items]
    captions = [caption for several in texts for caption in several]
    if not captions:
        return {}
    return {
        "images": sum(map(bool, texts)),
        "captions": len(captions),
        "different": len(set(captions)),
        "words": len({word for caption in set(captions) for word in caption.lower().split()}),
        "longest": max(len(caption.split()) for caption in captions),  # in words
    }


def captions_in_words(facts: Mapping[str, int], count: int, word: str) -> str:
    """A line of the data sheet. count: samples that were looked at; word: what one is called."""
    without = f", {count - facts['images']:,} have none" if facts["images"] < count else ""
    shared = facts["captions"] - facts["different"]
    alike = f"; {shared:,} are the same as another's" if shared else ""
    said = f"{many(facts['captions'], 'caption')} of {many(facts['images'], word)}{without}"
    return f"{said}; {facts['words']:,} different words{alike}"
