"""Number, name and colour of each class in masks, from the files that usually accompany them.

A list, {"0": name}, {name: number}, or entries with name, id and color, as JSON or YAML; CamVid's `label_colors.txt`
(r g b name per line, Brostow et al. 2009), `class_dict.csv` (name, r, g, b), CVAT's `labelmap.txt` (name:r,g,b:parts:
actions) and Roboflow's `_classes.csv` (number, name).
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unmask.data.codecs.image import BadImage
from unmask.data.labels import class_name, some
from unmask.errors import DataError, UserError, closest
from unmask.files import parse_json

FILES = ("classes.json", "classes.yaml", "classes.yml", "label_colors.txt", "class_dict.csv", "labelmap.txt")
FILES += ("_classes.csv", "config.yaml", "data.yaml", "dataset.yaml")
GENERAL = FILES[-3:]  # names that other programs use too
WRAPPERS = ("classes", "names", "labels", "categories", "palette")
COLOURS = ("color", "colour", "rgb")
VOID = 255  # in maps of classes: not learnt and not judged; in masks, unless it is the number of a class
MOST_YAML, MOST_DEEP = 1 << 20, 50  # characters, and levels: PyYAML takes long, the longer the deeper
NO_CLASS = -1  # in maps of the numbers that the data itself uses: surely none of its classes
_VOID = re.compile(r"(?<![a-z])(void|unlabell?ed|ignored?|don'?t[ _-]?care)(?![a-z])")
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Legend:
    """Classes of the numbers in masks; `names` may be empty if only the masks themselves are known."""

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)
    where: str = ""  # the file it comes from

    def void(self, void_classes: Sequence[str] = ()) -> set[int]:
        """Numbers that mean no class: those asked for by name or number (`none`: no number at all), or without that the
        classes that are called void, unlabelled or ignore, and 255 if no class has it."""
        if "none" in void_classes and len(void_classes) > 1:
            raise UserError(f"--void {' '.join(void_classes)} says none and names some: leave out either")
        if void_classes:
            return {number for text in void_classes if text != "none" for number in [self._number(text)]}
        numbers = {number for number, name in self.names.items() if _VOID.search(name.lower())}
        return numbers | ({VOID} - self.names.keys())

    def _number(self, text: str) -> int:
        if re.fullmatch(r"-?[0-9]+", text):
            return int(text)
        for number, name in self.names.items():
            if name == class_name(text):
                return number
        listed = ", ".join(list(self.names.values())[:12]) or "none is named"
        raise UserError(f"--void {text}: no class of that name{closest(text, self.names.values())} Classes: {listed}")


def number_by_name(numberings: Iterable[Mapping[int, str]], remarks: list[str]) -> dict[str, int]:
    """The number of every class, in order, where files number classes each in its own way: the name says which class
    it is. It keeps the number that it had first, or gets a free one where another class has that."""
    numbers: dict[str, int] = {}
    given: dict[str, set[int]] = defaultdict(set)
    for numbering in numberings:
        for number, name in sorted(numbering.items()):
            given[name].add(number)
            if name not in numbers:
                used = set(numbers.values())
                free = max(used - {VOID}, default=0) + 1
                numbers[name] = number if number not in used else free + (free == VOID)
    several = [f"{name} ({', '.join(map(str, sorted(given[name] | {n})))})" for name, n in numbers.items()
               if given[name] != {n}]  # fmt: skip
    if several:
        remarks.append(f"classes have other numbers in other files, and go by their names: {some(several, 4)}")
    return dict(sorted(numbers.items(), key=lambda pair: pair[1]))


def joined(legends: Sequence[Legend], remarks: list[str]) -> Legend:
    """One legend for masks of several, by the names of the classes."""
    if all(legend == legends[0] for legend in legends):
        return legends[0]
    numbers = number_by_name([legend.names for legend in legends], remarks)
    colours = {numbers[legend.names[n]]: c for legend in reversed(legends) for n, c in legend.colours.items()}
    return Legend({n: name for name, n in numbers.items()}, colours, ", ".join(legend.where for legend in legends))


def renumbered(values: np.ndarray, legend: Legend, common: Legend) -> np.ndarray:
    """The numbers of a mask as those of the same classes in another legend. Raises BadImage for a number that is no
    class here, but is one there."""
    if legend.names.items() <= common.names.items() and not (common.names.keys() - legend.names.keys()):
        return values
    numbers = {name: number for number, name in common.names.items()}
    own, places = np.unique(values, return_inverse=True)
    new = own.copy()
    for place, number in enumerate(own.tolist()):
        if number in legend.names:
            new[place] = numbers[legend.names[number]]
        elif number == VOID:
            new[place] = NO_CLASS
        elif number in common.names:
            raise BadImage(f"its mask has the number {number}, which {legend.where} does not name")
    return new[places].reshape(values.shape)


def find_legend(folder: Path) -> Legend | None:
    """The legend in a folder's own file; None if there is no file that names classes."""
    for name in FILES:
        if (folder / name).is_file() and (name not in GENERAL or _names_classes(folder / name)):
            return read_legend(folder / name)
    return None


def read_legend(path: Path) -> Legend:
    """Raises DataError for a file that names no classes, saying what is expected."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    ending = Path(path).suffix.lower()
    try:
        if ending in (".txt", ".csv"):
            entries = _table(text)
        else:
            entries = _entries(_parsed(text, ending))
        if not entries:
            raise ValueError("it names none")
        return _made(entries, str(path))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f'{path} does not tell the classes ({error}); write a list of names, {{"0": "sky"}}, {{"sky": 0}}, or'
            ' {"sky": {"id": 0, "color": [128, 128, 128]}}'
        ) from error


def _names_classes(path: Path) -> bool:
    content = read_yaml(path)
    return isinstance(content, Mapping) and bool({"classes", "names"} & content.keys())


def read_yaml(path: Path) -> Any:
    """A YAML file's content; DataError where it is none."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def parse_yaml(text: str) -> Any:
    """What YAML says. Raises ValueError, also for aliases: nine lines of them can stand for a billion values."""
    import yaml

    if len(text) > MOST_YAML:
        raise ValueError(f"{len(text):,} characters of YAML, more than the {MOST_YAML:,} that are read")
    loader, depth = (
        getattr(yaml, "CSafeLoader", yaml.SafeLoader),
        0,
    )  # the first is ten times as fast, where it is there
    try:
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has aliases (*name), which are not read: write out what they stand for")
            if depth > MOST_DEEP:
                raise ValueError("it is nested too deeply")
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {' '.join(str(error).split())}") from error


def _parsed(text: str, ending: str) -> Any:
    if ending == ".json":
        return parse_json(text)
    return parse_yaml(text)


def _entries(value: object) -> list[tuple[int, str, Colour | None]]:
    """Number, name and colour of each class, from any of the shapes."""
    if isinstance(value, Mapping):
        inner = next((key for key in WRAPPERS if isinstance(value.get(key), Mapping | list)), None)
        if inner is not None:
            return _entries(value[inner])
        return [_of_pair(place, key, content) for place, (key, content) in enumerate(value.items())]
    if isinstance(value, list):
        return [_of_item(place, item) for place, item in enumerate(value)]
    raise ValueError(f"it holds a {type(value).__name__}")


def _of_item(place: int, item: object) -> tuple[int, str, Colour | None]:
    if isinstance(item, str):
        return place, item, None
    if not isinstance(item, Mapping):
        raise ValueError(f"entry {place} is {item!r}")
    number = next((item[key] for key in ("id", "index", "value") if key in item), place)
    return int(number), _name(item.get("name")), _colour(item)


def _of_pair(place: int, key: object, content: object) -> tuple[int, str, Colour | None]:
    numbered = re.fullmatch(r"[0-9]+", str(key)) is not None
    if isinstance(content, Mapping):
        number = int(str(key)) if numbered else content.get("id", content.get("index", place))
        return int(number), _name(content.get("name") if numbered else key), _colour(content)
    if numbered and isinstance(content, str):
        return int(str(key)), content, None
    if isinstance(content, bool) or numbered:
        raise ValueError(f"{key!r}: {content!r}")
    if isinstance(content, int):
        return content, str(key), None
    return place, str(key), _rgb(content)  # {name: [r, g, b]}


def _name(value: object) -> str:
    if value is None or isinstance(value, Mapping | list) or not str(value).strip():
        raise ValueError(f"a class is called {value!r}")
    return str(value)


def _colour(entry: Mapping[str, Any]) -> Colour | None:
    value = next((entry[key] for key in COLOURS if entry.get(key) is not None), None)
    return None if value is None else _rgb(value)


def _rgb(value: object) -> Colour:
    if isinstance(value, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", value):
        text = value.removeprefix("#")
        value = [int(text[i : i + 2], 16) for i in (0, 2, 4)]
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise ValueError(f"colour {value!r}: three numbers from 0 to 255 are a colour")
    red, green, blue = (int(part) for part in value)
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError(f"colour {value!r}: three numbers from 0 to 255 are a colour")
    return red, green, blue


def _table(text: str) -> list[tuple[int, str, Colour | None]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lines and re.match(r"\s*(name|pixel value)\s*,", lines[0].lower()):
        rows = list(csv.DictReader([lines[0].lower(), *lines[1:]], skipinitialspace=True))
        if "name" not in rows[0]:
            return [(int(row["pixel value"]), row["class"].strip(), None) for row in rows]
        return [(place, row["name"], _rgb([row[c] for c in "rgb"])) for place, row in enumerate(rows)]
    labelmap = [re.match(r"\s*(.+?)\s*:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::|$)", line) for line in lines]
    if lines and None not in labelmap:
        return [(place, match[1], _rgb(match.groups()[1:])) for place, match in enumerate(labelmap) if match]
    matches = [re.match(r"\s*(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*?)\s*$", line) for line in lines]
    if not matches or None in matches:
        raise ValueError("a line is r g b name")
    return [(place, match[4], _rgb(match.groups()[:3])) for place, match in enumerate(matches) if match]


def _made(entries: list[tuple[int, str, Colour | None]], where: str) -> Legend:
    names: dict[int, str] = {}
    for number, name, _ in entries:
        if number in names or number < 0:
            raise ValueError(f"the number {number} is given twice, or below 0")
        names[number] = class_name(name)
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        raise ValueError(f"two classes are called {twice[0]}")
    colours = {number: colour for number, _, colour in entries if colour is not None}
    if len(set(colours.values())) < len(colours):
        raise ValueError("two classes share a colour")
    return Legend(names, colours, where)
