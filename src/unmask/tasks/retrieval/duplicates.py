"""Duplicates within a data set: same file, same pixels, or nearly the same image; and leaks between its splits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unmask.data.source import Source
from unmask.errors import many
from unmask.files import write_table
from unmask.tasks.retrieval.gallery import Cell, Line, draw_gallery, opened, write_page
from unmask.tasks.retrieval.index import Index
from unmask.tasks.retrieval.neighbours import Pairs, pairs, unit

TABLE, PNG, PAGE = FILES = "duplicates.csv", "duplicates.png", "duplicates.html"
THRESHOLD = 0.98
SHOWN, MEMBERS = 200, 12  # groups in the page, images of a group in it
MEANS = {
    "pixels": "correlation of two images shrunk to 16 x 16 colours; brightness and contrast do not matter",
    "features": "cosine of the encoder's features, less their mean over the data",
}


@dataclass(frozen=True)
class Member:
    path: str
    kind: str  # "first", "same file", "same pixels" as an earlier one of the group, or "near"
    nearest: str  # most similar other image of the group
    similarity: float  # to it; 1 for the same pixels
    split: str
    label: str
    row: int = field(repr=False)  # in the index


@dataclass(frozen=True)
class Group:
    members: list[Member]
    leak: bool  # holds images of train and of val or test
    mixed: bool  # its members have different labels


@dataclass(frozen=True)
class Copies:
    groups: list[Group]  # those across splits first, then the largest
    by: str
    threshold: float
    exact: bool  # False if very many images were compared by lists that can miss some
    count: int  # images compared
    closest: float | None  # likeness of the most similar pair below the threshold

    @property
    def leaked(self) -> list[str]:
        """Images of val and test with a copy or near copy in train."""
        return [m.path for group in self.groups if group.leak for m in group.members if m.split in ("val", "test")]


def find_copies(
    index: Index,
    source: Source,
    by: str = "pixels",
    threshold: float | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Copies:
    """Groups of copies: images of the same pixels form a group, and near copies are linked transitively."""
    threshold = THRESHOLD if threshold is None else threshold
    first: dict[bytes, int] = {}  # pixels -> the first row that has them
    for row, pixels in enumerate(index.pixels):
        first.setdefault(pixels, row)
    unique = np.array(list(first.values()))
    vectors = index.tiny[unique] if by == "pixels" else unit(index.features[unique] - index.features.mean(axis=0))
    alike = pairs(vectors, threshold, device, progress=lambda done: progress(done, len(unique)))
    number = {row: place for place, row in enumerate(unique.tolist())}
    members: dict[int, list[int]] = {}
    for row, pixels in enumerate(index.pixels):
        members.setdefault(int(alike.group[number[first[pixels]]]), []).append(row)
    groups = [_group(rows, index, source, alike, number, first, unique) for rows in members.values() if len(rows) > 1]
    groups.sort(key=lambda group: (not group.leak, -len(group.members), group.members[0].path))
    below = alike.similarity[np.isfinite(alike.similarity) & (alike.similarity < threshold)]
    closest = float(below.max()) if len(below) else None
    return Copies(groups, by, threshold, alike.exact, len(index.pixels), closest)


def _group(
    rows: list[int],
    index: Index,
    source: Source,
    alike: Pairs,
    number: dict[int, int],
    first: dict[bytes, int],
    unique: np.ndarray,
) -> Group:
    files: set[bytes] = set()
    pixels: set[bytes] = set()
    twins: dict[bytes, list[int]] = {}
    for row in rows:
        twins.setdefault(index.pixels[row], []).append(row)
    members = []
    for row in rows:
        item = source.items[index.numbers[row]]
        place = number[first[index.pixels[row]]]
        twin = next((other for other in twins[index.pixels[row]][:2] if other != row), None)
        partner = int(unique[alike.partner[place]]) if twin is None else twin
        similarity = float(alike.similarity[place]) if twin is None else 1.0
        kind = "near" if members else "first"
        if index.files[row] in files:
            kind = "same file"
        elif index.pixels[row] in pixels:
            kind = "same pixels"
        files.add(index.files[row])
        pixels.add(index.pixels[row])
        nearest = source.items[index.numbers[partner]].name
        members.append(Member(item.name, kind, nearest, similarity, item.split or "", item.label or "", row))
    splits = {member.split for member in members}
    leak = "train" in splits and bool(splits & {"val", "test"})
    return Group(members, leak, len({member.label for member in members}) > 1)


def write_copies(copies: Copies, index: Index, source: Source, out: Path) -> list[str]:
    """Writes the table, and images if there are groups; returns a summary."""
    heading = ["group", "path", "kind", "nearest", "similarity", "split", "label", "leak", "labels_differ"]
    rows = []
    for number, group in enumerate(copies.groups, 1):
        flags = ["yes" if flag else "" for flag in (group.leak, group.mixed)]
        rows += [
            [number, m.path, m.kind, m.nearest, f"{m.similarity:.4f}", m.split, m.label, *flags] for m in group.members
        ]
    write_table(out / TABLE, heading, rows)
    said = _sentences(copies, source.modality.word, any(item.split for item in source.items))
    for name in (PNG, PAGE):
        (out / name).unlink(missing_ok=True)
    if not copies.groups:
        return [*said, f"Written: {out / TABLE}"]
    lines = [_line(number, group, index) for number, group in enumerate(copies.groups[:SHOWN], 1)]
    more = [f"{len(copies.groups) - SHOWN:,} more groups are in {TABLE}."] if len(copies.groups) > SHOWN else []
    draw_gallery(lines, out / PNG, said[-1])
    write_page(lines, out / PAGE, "Copies and near copies", [*said, *more])
    return [*said, f"Written: {out / TABLE}, {out / PNG}, {out / PAGE}"]


def _line(number: int, group: Group, index: Index) -> Line:
    flags = [word for word, flag in (("train and test share it", group.leak), ("labels differ", group.mixed)) if flag]
    beyond = len(group.members) - MEMBERS
    title = f"Group {number}: {len(group.members)} files" + "".join(f" · {flag}" for flag in flags)
    title += f" · {beyond} not shown" if beyond > 0 else ""
    cells = []
    for m in group.members[:MEMBERS]:
        words = (m.path, f"likeness {m.similarity:.4f}", " · ".join(text for text in (m.label, m.split) if text))
        cells.append(Cell(opened(index.thumb(m.row)), tuple(word for word in words if word), m.kind))
    return Line(title, cells)


def _sentences(copies: Copies, word: str, splits: bool) -> list[str]:
    def number(kinds: Sequence[str]) -> int:
        return sum(m.kind in kinds for group in copies.groups for m in group.members)

    total = sum(len(group.members) for group in copies.groups)
    said = [
        f"{many(copies.count, word)}: {many(len(copies.groups), 'group')} of copies with {total:,} {word}s; besides"
        f" the first of each group {number(['same file']):,} are the same file, {number(['same pixels']):,} have the"
        f" same pixels, {number(['near']):,} are near copies"
        if copies.groups
        else f"{many(copies.count, word)}: no copies and no near copies"
    ]
    if splits:
        leaked = copies.leaked
        example = f", e.g. {leaked[0]}" if leaked else ""
        said.append(f"{len(leaked):,} val or test {word}s have a copy or near copy in train{example}")
    mixed = sum(group.mixed for group in copies.groups)
    if mixed:
        said.append(f"{mixed:,} groups have members with different labels")
    below = "" if copies.closest is None else f"; the most similar pair below that has {copies.closest:.4f}"
    lists = "" if copies.exact else "; by faiss's lists, which can miss some"
    said.append(
        f"Near copies have a likeness of {copies.threshold:g} or more (--threshold), the"
        f" {MEANS[copies.by]}{below}{lists}"
    )
    return said
