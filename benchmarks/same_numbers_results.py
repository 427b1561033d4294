"""What `same_numbers.py` reads from the files of a run, and whether two readings are equal to the bit."""

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Keys of numbers that differ from one run of the same code to the next: times, speeds, memory.
UNSTEADY = re.compile(r"(^|_)(seconds?|time|speed|hours|waiting|memory|mb|ms|per_second|latency)(_|$)")

Values = dict[str, str]  # where a number or tensor stands -> its exact value: a float's hexadecimal form, or a SHA-256


def read_numbers(path: Path, name: str, renamed: Mapping[str, str]) -> Values:
    """All steady numbers of a .jsonl, .json or .csv file, by place. name: the file's, with keys of a JSON object after
    a `#` where only some count, such as "config.json#promises,scores". renamed: old keys -> new ones.

    Raises OSError or ValueError for what cannot be read.
    """
    name, _, keys = name.partition("#")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        pairs = (pair for record in map(json.loads, text.splitlines()) for pair in _record(record))
    elif path.suffix == ".csv":
        rows = enumerate(csv.DictReader(text.splitlines()), 1)
        pairs = (((f"row {number}", str(key)), value) for number, row in rows for key, value in row.items())
    else:
        content = json.loads(text)
        pairs = _leaves({key: content[key] for key in keys.split(",") if key in content} if keys else content)
    values: Values = {}
    for keys_to_it, value in pairs:
        exact = _exact(value)
        if exact is None or any(UNSTEADY.search(key) for key in keys_to_it):
            continue
        place = f"{name} {_rename('.'.join(keys_to_it), renamed)}"
        repeats = 2
        while place in values:  # two records of one step may have a key in common
            place, repeats = f"{place.removesuffix(f' ({repeats - 1})')} ({repeats})", repeats + 1
        values[place] = exact
    return values


def _record(record: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything that a line says of its step, the step itself included."""
    for keys, value in _leaves(record):
        yield (f"step {record['step']}" if "step" in record else "record", *keys), value


def _leaves(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, (*keys, str(key)))
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from _leaves(value, (*keys, str(number)))
    else:
        yield keys, content


def _exact(value: Any) -> str | None:
    """Equal for equal numbers only, also of -0.0 and NaN; None for what is no number, as text in a table may be."""
    try:
        return None if value is None else float(value).hex()
    except ValueError:
        return None


def _rename(place: str, renamed: Mapping[str, str]) -> str:
    """A key of the table with dots is the beginning of a place; one without is any part of it."""
    for old, new in renamed.items():
        if "." in old:
            place = new + place[len(old) :] if f"{place}.".startswith(f"{old}.") else place
        else:
            place = ".".join(new if part == old else part for part in place.split("."))
    return place


def read_tensors(path: Path, name: str, renamed: Mapping[str, str]) -> Values:
    """SHA-256 of every tensor's type, shape and content in a .safetensors or .ckpt file, by its name."""
    import torch
    from safetensors.torch import load_file

    is_plain = path.suffix == ".safetensors"
    content = load_file(path) if is_plain else torch.load(path, map_location="cpu", weights_only=True)
    digests: Values = {}
    for keys, tensor in _leaves(content):
        if isinstance(tensor, torch.Tensor):
            raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + raw).hexdigest()
            digests[f"{name} {_rename('.'.join(keys), renamed)}"] = digest
    return digests


def differing_numbers(before: Values, now: Values) -> list[str]:
    """A sentence for every number that is not the same, or gone. Numbers that are new do not count."""
    lines = []
    for place, value in before.items():
        if place not in now:
            lines.append(f"{place} is {_decimal(value)} before and missing now")
        elif now[place] != value:
            lines.append(f"{place} is {_decimal(value)} before and {_decimal(now[place])} now")
    return lines


def differing_tensors(before: Values, now: Values) -> list[str]:
    """As `differing_numbers`. Where tensors were renamed, every content must still be there as many times as before."""
    if before.keys() <= now.keys():
        changed = [place for place, digest in before.items() if now[place] != digest]
        return [f"tensor {place} is {before[place][:12]} before and {now[place][:12]} now" for place in changed]
    missing = Counter(before.values()) - Counter(now.values())
    return [f"tensor {place} is in no tensor of now" for place, digest in before.items() if missing[digest]]


def _decimal(value: str) -> str:
    return repr(float.fromhex(value))
