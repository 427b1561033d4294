"""Hugging Face data sets by name, `hf:user/name`, read as a stream with the `datasets` library.

It knows configurations, splits and every file layout of the Hub. `hf:user/name:config:split` names both; without them
the default configuration and the training split are read. A folder on disk in the Hub's layout is a name too.
"""

import os
from collections.abc import Iterator
from typing import Any

from unmask.data.modality import IMAGE
from unmask.data.shards.expand import Shard
from unmask.data.shards.remote import Patience, explained
from unmask.data.shards.stream import Sample, Stream
from unmask.data.shards.wanted import DECLARED, Wanted
from unmask.errors import DataError, UserError
from unmask.files import Json
from unmask.version import install_line

__all__ = ["Hub"]

LABELS = ("label", "labels", "class", "cls", "category", "target", "fine_label")


class Hub(Stream):
    """One shard for every file of the set; retries are those of the library (20 tries, 5 s apart)."""

    def __init__(self, where: str, shards: list[Shard], patience: Patience | None = None):
        if len(shards) != 1:
            raise UserError(f"{where}: give one data set by name, or files of several by hf://datasets/...")
        self.place = shards[0].place
        self.open: dict[int, Any] = {}  # one per process
        data = self._data()
        number = getattr(data, "num_shards", None) or data.n_shards
        tag = _revision(self.place)
        super().__init__(where, [Shard(f"{self.place}/{i:05d}", tag=tag) for i in range(number)], patience)
        features = data.features or {}
        kinds = {DECLARED.get(type(feature).__name__): name for name, feature in reversed(features.items())}
        self.declared = {kind: name for kind, name in kinds.items() if kind}  # the first column of each kind
        if not self.declared:
            shown = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items()) or "not declared"
            raise DataError(
                f"{self.place} declares no column of images or recordings; its columns: {shown}. Its files may still"
                " be read by hf://datasets/NAME/... if they are parquet or tar"
            )
        self.content = self.declared.get(IMAGE) or next(name for name in features if name in self.declared.values())
        declared = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
        self.label: str | None = next((name for name in [*declared, *LABELS] if name in features), None)
        self.classes = list(features[declared[0]].names) if declared else None
        self.told = data.info.splits

    @classmethod
    def accepts(cls, place: str) -> bool:
        return place.startswith("hf:") and "://" not in place

    def take(self, wanted: Wanted) -> None:
        super().take(wanted)
        self.content = self.declared.get(wanted.modality.text.partition("(")[0], self.content)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"open": {}}

    def count(self, shard: int) -> int | None:
        split = (self.told or {}).get(_split(self.place) or "train")
        return split.num_examples if split and len(self.shards) == 1 else None

    def samples(self, shard: int, first: int = 0) -> Iterator[Sample]:
        data = self._data()
        part = data.shard(num_shards=len(self.shards), index=shard)
        if first:
            part = part.skip(first)
        rows = iter(part)
        number = first
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # the library has tried often enough
                raise explained(error, self.shards[shard].place) from error
            yield self._sample(number, row)
            number += 1

    def _sample(self, number: int, row: Json) -> Sample:
        content, label = row[self.content] or {}, row.get(self.label) if self.label else None
        data = content.get("bytes")
        if data is None and content.get("path") and os.path.isfile(content["path"]):
            with open(content["path"], "rb") as file:
                data = file.read()
        if label is not None and self.classes:
            label = self.classes[label] if 0 <= label < len(self.classes) else None
        rest = {k: str(v) for k, v in row.items() if k not in (self.content, self.label) and _simple(v)}
        problem = None if data is not None else f"no {self.modality.word} in this row"
        return Sample(f"row {number}", data, None if label is None else str(label), rest, problem)

    def _data(self) -> Any:
        if os.getpid() not in self.open:
            self.open = {os.getpid(): _load(self.place)}
        return self.open[os.getpid()]


def _load(place: str) -> Any:
    try:
        import datasets
        from datasets import get_dataset_split_names, load_dataset
    except ImportError as error:
        raise UserError(f"{place} needs a package that is not installed: {install_line('datasets')}") from error
    name, config, split = [*place.removeprefix("hf:").split(":"), "", ""][:3]
    try:
        if not split:
            splits = get_dataset_split_names(name, config or None)
            split = "train" if "train" in splits else splits[0]
        data: Any = load_dataset(name, config or None, split=split, streaming=True)
    except Exception as error:  # the library has many kinds, and words of its own for what is wrong
        text = " ".join(str(error).split())
        raise DataError(f"{place} cannot be opened: {type(error).__name__}: {text[:300]}") from error
    for column, kind in (data.features or {}).items():
        if type(kind).__name__ in DECLARED:
            undecoded = getattr(datasets, type(kind).__name__)(decode=False)  # bytes, decoded as all others are
            data = data.cast_column(column, undecoded)
    return data


def _revision(place: str) -> str:
    """The commit of a set on the Hub, so that a run is not continued on another; a folder on disk has none."""
    name = place.removeprefix("hf:").split(":")[0]
    if os.path.isdir(name):
        return ""
    from huggingface_hub import HfApi

    return HfApi().dataset_info(name).sha or ""


def _split(place: str) -> str | None:
    return (*place.split(":"), None, None)[3]


def _simple(value: object) -> bool:
    return isinstance(value, (str, int, float))
