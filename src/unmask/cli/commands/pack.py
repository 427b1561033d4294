"""The command `pack`, step by step: read every image, write it to a file that is fast to read, list bad images."""

import dataclasses
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor

from unmask.cli.continue_run import is_new, own
from unmask.cli.options.pack import Packing
from unmask.cli.verb import verb
from unmask.data.codecs import jpeg
from unmask.data.codecs.decode import MAX_BANDS, decode
from unmask.data.codecs.image import BadImage, DecodedImage
from unmask.data.labels import PACK
from unmask.data.modality import IMAGE
from unmask.data.pack_writer import Packed, PackRecord, PackSettings, Shards
from unmask.data.sheet import inspect, write_bad_files
from unmask.data.source import Source, open_source, why
from unmask.data.sources.pack import INDEX, digest
from unmask.errors import DataError, UserError, many
from unmask.files import Json, read_json, write_atomically, write_json
from unmask.plain import texts
from unmask.runtime.command_line import command_line
from unmask.runtime.cores import in_order, num_cores
from unmask.runtime.progress import make_console, progress

__all__ = ["pack"]


SIZE, QUALITY = 256, 90
PROBED = 64  # images that are looked at before the work begins
SHEET, BAD = "data_sheet.json", "bad_files.txt"


def packing(options: Packing) -> Path:
    """See `unmask.cli.commands.pack.pack`."""
    console, out = make_console(), Path(str(options.out))
    settings = PackSettings(
        data=[str(Path(place).resolve()) if Path(place).exists() else place for place in texts(options.data)],
        format=options.format,
        size=None if options.format == "original" else options.size or SIZE,
        quality=(options.quality or QUALITY) if options.format == "jpeg" else None,
        shard_mb=options.shard_mb,
    )
    if str(out.resolve()) in settings.data:
        raise UserError(f"{out} cannot be packed into itself; give another name for the new pack")
    own(out, "pack", within=True)  # what lies in a pack is the same for everybody
    begun = _begun(out)
    source = _images(texts(options.data))
    command = command_line()
    record = PackRecord(settings, len(source.items), _names(source), command)
    if begun:
        _refuse_another(begun, record, out)
        if begun.complete and (out / SHEET).exists():
            console.print(f"{out} is finished; nothing to do.", soft_wrap=True)
            return out
    else:
        _probe(source, settings)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / PACK, dataclasses.asdict(record))
    if not (begun and begun.complete):
        _write(source, record, out, options.threads or min(16, num_cores()), console)
    _describe(source, out, console)
    return out


def _images(places: Sequence[str]) -> Source:
    """Raises UserError for other kinds of data."""
    try:
        return open_source(places)
    except DataError as error:
        try:
            word = open_source(places, None).modality.word
        except UserError:
            raise error from None
        if word == IMAGE:
            raise
        raise UserError(
            f"packs hold images, and {', '.join(places)} holds {word}s: leave them where they are, or put them into one"
            f" archive, which is read in place: tar cf {word}s.tar -C FOLDER ."
        ) from error


def _begun(out: Path) -> PackRecord | None:
    """What an interrupted call recorded in the folder; None for a new one."""
    if (out / PACK).is_file():
        content = read_json(out / PACK)
        try:
            names = [field.name for field in dataclasses.fields(PackRecord) if field.name != "asked"]
            rest: Json = {name: content[name] for name in names}
            return PackRecord(**rest, asked=PackSettings(**content["asked"]))
        except (KeyError, TypeError):
            raise UserError(f"{out / PACK} is damaged; delete the folder, or give another name for the pack") from None
    if not is_new(out):
        raise UserError(f"{out} is there and is no pack; give a new name for the pack")
    return None


def _refuse_another(begun: PackRecord, record: PackRecord, out: Path) -> None:
    """Raises UserError if the folder holds another pack: of other images, or with other options."""
    before, now = dataclasses.asdict(begun.asked), dataclasses.asdict(record.asked)
    differing = [
        f"{name}: {before[name]} in the folder, {value} now" for name, value in now.items() if value != before[name]
    ]
    if differing:
        raise UserError(f"{out} holds another pack ({'; '.join(differing)}); give another name for the new one")
    if (begun.names, begun.count) != (record.names, record.count):
        raise UserError(
            f"the data changed since {out} was begun ({begun.count:,} images then, {record.count:,} now, or"
            " other names or labels); delete the pack, or give another name for the new one"
        )


def _names(source: Source) -> str:
    return digest("\n".join(f"{i.name}\t{i.label}\t{i.split}\t{i.columns}" for i in source.items).encode())


def _probe(source: Source, settings: PackSettings) -> None:
    """Refuses images that the format cannot hold before the slow part, by a sample from all over the data."""
    for index in sorted(set(np.linspace(0, len(source.items) - 1, PROBED).astype(int).tolist())):
        try:
            image = decode(source.read(index), max_side=SIZE)
        except (BadImage, OSError):
            continue
        if reason := _unfit(image, settings.format):
            raise UserError(f"{source.items[index].name} {reason}")


def _unfit(image: DecodedImage, form: str) -> str | None:
    channels = image.pixels.shape[0]
    if form == "jpeg" and image.pixels.is_floating_point():
        return f"has {image.bits} bits per value and JPEG keeps 8: give --format raw, or original"
    if form == "jpeg" and channels not in (1, 3):
        return f"has {channels} channels and JPEG keeps 1 or 3: give --format raw, or original"
    if form == "raw" and channels > MAX_BANDS:
        return f"has {channels} channels and raw pixels may have {MAX_BANDS}: give --format original"
    return None


def _make(source: Source, settings: PackSettings, index: int) -> Packed | str:
    """An image ready to be written, or the reason why it cannot be used."""
    try:
        data = source.read(index)
        whole = settings.format == "original" and isinstance(data, np.ndarray)  # an array has no file to keep
        image = decode(data, max_side=None if whole else settings.size or SIZE)
    except (BadImage, OSError) as error:
        return why(error)
    if reason := _unfit(image, settings.format):
        return reason
    if isinstance(data, bytes):
        if settings.format == "original":
            return Packed(data)
        header = jpeg.plain_header(data) if settings.format == "jpeg" else None
        if header is not None and min(header[:2]) <= (settings.size or SIZE):
            return Packed(data)  # small enough: another round of compression would only cost quality
    if settings.format == "jpeg":
        return Packed(jpeg.encode(_last(image.pixels), settings.quality or QUALITY))
    pixels = _last(image.pixels).astype("<f4" if image.pixels.is_floating_point() else np.uint8)
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return Packed(pixels.tobytes(), pixels.shape, 2 if image.pixels.is_floating_point() else 1)


def _last(pixels: Tensor) -> np.ndarray:
    """h w c, or h w for one channel."""
    values = pixels.permute(1, 2, 0).numpy()
    return values[..., 0] if values.shape[2] == 1 else values


def _write(source: Source, record: PackRecord, out: Path, threads: int, console: Console) -> None:
    make = partial(_make, source, record.asked)
    shards = Shards(out, record.asked.shard_mb * 2**20)
    left = range(shards.done, len(source.items))
    if shards.done:
        console.print(f"Continuing after {shards.done:,} of {len(source.items):,} images.", soft_wrap=True)
    try:
        with progress(console, "packing", len(source.items)) as update:
            update(shards.done)
            for index, made in zip(left, in_order(make, left, threads, ahead=4)):
                item = source.items[index]
                shards.add(item.name, [item.label, item.split, item.columns], made)
                update(index + 1)
    except OSError as error:
        shards.leave()
        raise OSError(error.errno, error.strerror or str(error), str(error.filename or out)) from error
    except BaseException:
        shards.leave()
        raise
    shards.close()
    if not shards.rows:
        shutil.rmtree(out)
        name, reason = shards.bad[0][1:]
        raise DataError(f"none of {len(source.items):,} images in {source.where} can be used; {name}: {reason}")
    _finish(source, shards, record, out)


def _finish(source: Source, shards: Shards, record: PackRecord, out: Path) -> None:
    index = np.array(shards.rows, np.int64)
    write_atomically(out / INDEX, lambda part: _save(part, index))
    names = sorted(out.glob("shard-*.jsonl"))
    facts = dataclasses.asdict(dataclasses.replace(record, complete=True)) | {
        "shards": [
            {"bytes": path.with_suffix(".bin").stat().st_size, "names": digest(path.read_bytes())} for path in names
        ],
        "index": digest((out / INDEX).read_bytes()),
        "format": record.asked.format,
        "plural": source.plural,
        "multi_label": source.multi_label,
        "remarks": source.remarks,
        "bad": len(shards.bad),
        "ignored": source.ignored,
    }
    write_bad_files(out / BAD, shards.bad)
    write_json(out / PACK, facts)


def _save(path: Path, index: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, index)


def _describe(source: Source, out: Path, console: Console) -> None:
    """The data sheet of the packed images, all of which are read back; it lists the bad originals."""
    packed = open_source(str(out))
    with progress(console, "reading it back", len(packed.items)) as update:
        sheet, _ = inspect(packed, max_side=None, progress=update)
    if sheet.bad:
        raise DataError(f"{out}: {sheet.bad[0][1]} cannot be read back ({sheet.bad[0][2]}); is the disk sound?")
    sheet = dataclasses.replace(sheet, where=source.where)  # the same wherever the pack is taken
    write_json(out / SHEET, dataclasses.asdict(sheet))
    num_bytes = sum(path.stat().st_size for path in out.glob("shard-*.bin"))
    left_out = len(source.items) - len(packed.items)
    console.print(sheet.text(), soft_wrap=True)
    console.print(
        f"Packed {many(len(packed.items), 'image')} into {out}: {num_bytes / 1e6:,.1f} MB in"
        f" {many(len(list(out.glob('shard-*.bin'))), 'file')}, {num_bytes / len(packed.items) / 1e3:,.1f} kB each;"
        + (f" {left_out:,} bad ones are listed in {out / BAD}." if left_out else " none was bad."),
        soft_wrap=True,
    )


@verb(Packing)
def pack(options: Packing) -> Path:
    """Writes the pack, or resumes an interrupted call; returns its folder.

    Raises UserError for a folder that holds something else, or images that the format cannot hold; DataError if no
    image can be used.
    """
    return packing(options)
