"""Writes the features of a whole data set to one file, in chunks: an interrupted command resumes where it stopped."""

import hashlib
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unmask.data.limits import require_modest_zip
from unmask.errors import UserError
from unmask.evaluation.features import check_poolings, features_hash, finite, judged, pooled
from unmask.files import write_atomically
from unmask.models.encoder import Encoder

Extract = Callable[[Tensor], Tensor]  # raw samples b c h w -> features b d
CHUNK = 4096  # samples
KEY = "fingerprint.txt"
Chunks = Iterable[np.ndarray]  # each b d, float32
FOREIGN = b"unmask_"  # before our keys in a parquet file's metadata


@runtime_checkable
class Named(Protocol):
    """The samples to embed, such as `unmask.data.datasets.images.Samples`."""

    names: list[str]
    labels: Tensor | None  # n, int64; -1 for none
    classes: list[str]

    def __len__(self) -> int: ...


def write_features(
    model: Encoder | Extract,
    samples: Named,
    out: Path,
    *,
    load: Callable[[list[int]], Shaped[Tensor, "b c *size"]],  # indices into `samples` -> raw samples
    pooling: str = "mean",  # of an Encoder; a function does its own
    batch: int = 64,  # samples
    chunk: int = CHUNK,  # samples per chunk: an interruption loses at most this many
    device: torch.device | str = "cpu",  # where the model is
    autocast: torch.dtype | None = None,  # e.g. torch.bfloat16
    identity: str = "",  # anything else that determines the features, e.g. image size or a weights hash
    say: Callable[[str], Any] | None = None,  # called with messages about what is reused and what is computed
    progress: Callable[[int], Any] | None = None,  # called with the number of samples done so far
) -> int:
    """Writes `out`, .npz or .parquet, and returns the number of samples computed in this call; 0 if the file existed.

    Finished chunks stay in `OUT.parts/` until all are done. They, and a finished `out`, are reused only if their
    fingerprint matches: weights, pooling, names, labels, sizes and `identity`. Otherwise everything starts over. Raises
    UserError for another suffix, an existing file that unmask did not write, no samples, or non-finite features.
    """
    out, say = Path(out), say or (lambda text: None)
    check_suffix(out)
    poolings = check_poolings(model, [pooling]) if isinstance(model, Encoder) else ()
    if not len(samples):
        raise UserError("there are no samples to embed")
    if not poolings and not identity:
        raise ValueError("embedding by a function needs `identity`, or other weights could not be told apart")
    settings = {"pooling": pooling, "batch": batch, "chunk": chunk, "autocast": str(autocast), "identity": identity}
    key = _fingerprint(model, samples, settings)
    if out.exists():
        if (written := fingerprint_of_file(out)) == key:
            say(f"{out} is finished already: the same weights, samples and pooling; nothing to do")
            return 0
        if written is None:
            raise UserError(f"{out} exists and was not written by unmask embed; move it or choose another name")
        say(f"{out} holds features of another model, data or pooling; it will be replaced")
    parts = out.with_name(out.name + ".parts")
    starts = range(0, len(samples), chunk)
    paths = [parts / f"chunk-{number:05d}.npz" for number in range(len(starts))]
    _prepare(parts, key, say)
    extract = _extractor(model, pooling, device, autocast)
    num_done = 0
    for path, start in zip(paths, starts):
        stop = min(start + chunk, len(samples))
        if _length(path) != stop - start:
            with judged(model) if isinstance(model, Encoder) else torch.inference_mode():
                x = _compute(extract, load, range(start, stop), batch)
            write_atomically(path, lambda part, x=x: _save(part, x))
            num_done += stop - start
        if progress:
            progress(stop)
    if num_done < len(samples):
        say(f"{len(samples) - num_done:,} of {len(samples):,} samples were done before and not computed again")
    chunks = (_load(path) for path in paths)
    write = WRITERS[out.suffix]
    write_atomically(out, lambda part: write(part, chunks, samples, {"fingerprint": key, "pooling": pooling}))
    _clear(parts)
    return num_done


def check_suffix(out: Path) -> None:
    """Raises UserError unless the file's suffix can be written; to be called before anything slow."""
    if Path(out).suffix not in WRITERS:
        raise UserError(f"features are written as .npz or .parquet, by the file's ending; got {Path(out).name!r}")


def fingerprint_of_file(path: Path) -> str | None:
    """The fingerprint of a finished file, or None for a file that `unmask embed` did not write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            return (pq.read_schema(path).metadata or {})[FOREIGN + b"fingerprint"].decode()
        require_modest_zip(path)
        with np.load(path) as content:
            return str(content["fingerprint"])
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, pa.ArrowException):
        return None


def write_npz(path: Path, chunks: Chunks, samples: Named, facts: dict[str, str]) -> None:
    """Arrays: features n d, paths n, and, if there are labels, labels n (-1 for none) and classes; facts as text."""
    first, chunks = _peek(chunks)
    arrays: dict[str, Any] = {"paths": np.array(samples.names, dtype=str)}
    if samples.labels is not None:
        arrays |= {"labels": samples.labels.numpy(), "classes": np.array(samples.classes, dtype=str)}
    with zipfile.ZipFile(path, "w") as archive:  # np.savez would hold all features at once, and twice
        with archive.open("features.npy", "w", force_zip64=True) as file:
            shape = (len(samples), first.shape[1])
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk, dtype="<f4").tobytes())
        for name, array in (arrays | {k: np.array(v) for k, v in facts.items()}).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def write_parquet(path: Path, chunks: Chunks, samples: Named, facts: dict[str, str]) -> None:
    """Columns: paths, features (lists of d float32) and, with labels, labels and label_names, empty for none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first, chunks = _peek(chunks)
    columns = [("paths", pa.string()), ("features", pa.list_(pa.float32(), first.shape[1]))]
    if samples.labels is not None:
        columns += [("labels", pa.int64()), ("label_names", pa.string())]
    metadata = {FOREIGN + k.encode(): v.encode() for k, v in facts.items()}
    schema = pa.schema(columns, metadata=metadata)
    with pq.ParquetWriter(path, schema) as writer:
        start = 0
        for chunk in chunks:
            stop = start + len(chunk)
            names = [name.encode(errors="backslashreplace").decode() for name in samples.names[start:stop]]
            flat = pa.array(chunk.ravel(), pa.float32())
            content = [pa.array(names), pa.FixedSizeListArray.from_arrays(flat, chunk.shape[1])]
            if samples.labels is not None:
                labels = [label if label >= 0 else None for label in samples.labels[start:stop].tolist()]
                named = [None if label is None else samples.classes[label] for label in labels]
                content += [pa.array(labels, pa.int64()), pa.array(named, pa.string())]
            writer.write_table(pa.table(content, schema=schema))
            start = stop


WRITERS: dict[str, Callable[[Path, Chunks, Named, dict[str, str]], None]] = {
    ".npz": write_npz,
    ".parquet": write_parquet,
}


def _extractor(
    model: Encoder | Extract, pooling: str, device: torch.device | str, autocast: torch.dtype | None
) -> Extract:
    def extract(x: Tensor) -> Tensor:
        x = x.to(device, non_blocking=True)
        with torch.autocast(torch.device(device).type, dtype=autocast) if autocast else nullcontext():
            return pooled(model, x, [pooling])[pooling] if isinstance(model, Encoder) else model(x)

    return extract


def _compute(
    extract: Extract, load: Callable[[list[int]], Tensor], rows: Sequence[int], batch: int
) -> Float[np.ndarray, "n d"]:
    features = []
    for start in range(0, len(rows), batch):
        x = extract(load(list(rows[start : start + batch])))
        features.append(finite(x.float().cpu().numpy(), "computed"))
    return np.concatenate(features)


def _fingerprint(model: Encoder | Extract, samples: Named, settings: dict[str, Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    facts = [settings, list(samples.names), list(samples.classes)]
    if isinstance(model, Encoder):
        facts += [features_hash(model, settings["pooling"]), model.arguments]
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    digest.update(b"" if samples.labels is None else samples.labels.numpy().tobytes())
    return digest.hexdigest()


def _prepare(parts: Path, key: str, say: Callable[[str], Any]) -> None:
    """The folder for chunks of this fingerprint; those of another are deleted."""
    parts.mkdir(parents=True, exist_ok=True)
    key_file = parts / KEY
    if key_file.exists() and key_file.read_text() == key:
        return
    if any(parts.glob("chunk-*.npz")):
        say(f"{parts} holds chunks of another model, data or pooling; starting over")
    _clear(parts)
    parts.mkdir()
    write_atomically(key_file, lambda part: part.write_text(key))


def _clear(parts: Path) -> None:
    """Deletes our own files only; a folder that holds others is kept."""
    for path in [*parts.glob("chunk-*.npz"), *parts.glob(".*.part"), parts / KEY]:
        path.unlink(missing_ok=True)
    if not any(parts.iterdir()):
        parts.rmdir()


def _save(path: Path, x: np.ndarray) -> None:
    with open(path, "wb") as file:  # a file, since savez would add .npz to the name
        np.savez(file, features=x)


def _load(path: Path) -> Float[np.ndarray, "n d"]:
    require_modest_zip(path)
    with np.load(path) as content:
        return content["features"]


def _length(path: Path) -> int:
    """Number of samples in a chunk; 0 if it is missing or unreadable."""
    try:
        return len(_load(path))
    except Exception:  # numpy and zipfile raise many kinds for a damaged file; it is computed again
        return 0


def _peek(chunks: Chunks) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """The first chunk, for its width, and an iterator over all of them."""
    rest = iter(chunks)
    first = next(rest)
    return first, itertools.chain([first], rest)
