"""Every kind of data in every form that data comes in: the table in docs/data.md, cell by cell."""

import io
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sampling import write_image, write_samples
from support.slices import write_series

import unmask
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import UserError

KINDS = {  # the words of the table
    "images": "image",
    "clips": "video",
    "clips, as folders of frames": "video",
    "recordings": "audio",
    "volumes": "volume",
    "volumes, as DICOM series": "volume",
    "scenes": "bands",
    "clouds": "points",
    "signals": "signal",
    "several kinds at once": "multimodal",
}
REMEDY = "folders only|are wanted|packs hold images|no image among|not an image"


def table():
    """Row, column and cell."""
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in page.splitlines() if line[:1] == "|"]
    start = next(place for place, row in enumerate(rows) if row[0] == "kind")
    columns, body = rows[start][1:], rows[start + 2 : start + 2 + len(KINDS)]
    return [(row[0], column, cell) for row in body for column, cell in zip(columns, row[1:])]


def write_frames(folder, each=6):
    for label, name in enumerate(("calm", "loud")):
        for clip in range(each):
            (folder / name / f"{clip:02d}").mkdir(parents=True)
            for number in range(4):
                write_image(folder / name / f"{clip:02d}" / f"{number}", label, number)


def write_slices(folder, each=6):
    for name in ("calm", "loud"):
        for number in range(each):
            write_series(folder / name / f"{number:02d}", number)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory):
    """The folder of a row, twelve samples in each; written once."""
    root, made = tmp_path_factory.mktemp("kinds"), {}

    def folder(row):
        if row not in made:
            made[row] = root / str(len(made))
            if row in ("clips, as folders of frames", "volumes, as DICOM series"):
                (write_frames if "frames" in row else write_slices)(made[row])
            else:
                write_samples(made[row], KINDS[row])
        return made[row]

    return folder


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def as_list(folder, place):
    place = place.with_suffix(".txt")
    place.write_text("\n".join(map(str, files_of(folder))), encoding="utf-8")
    return place


def as_archive(folder, place):
    with zipfile.ZipFile(place.with_suffix(".zip"), "w") as archive:
        for path in files_of(folder):
            archive.write(path, path.relative_to(folder))
    return place.with_suffix(".zip")


def as_tar(folder, place):
    shutil.make_archive(str(place), "tar", folder)
    return place.with_suffix(".tar")


def as_shards(folder, place):
    """Files of one folder share a key if it is a sample; else each has a key of its own, and its label."""
    place.mkdir()
    files = files_of(folder)
    for half in range(2):
        with tarfile.open(place / f"{half}.tar", "w") as shard:
            for number, path in enumerate(files[half::2]):
                shard.add(path, f"{number:03d}{''.join(path.suffixes)}")
                label = path.relative_to(folder).parts[0].encode()
                member = tarfile.TarInfo(f"{number:03d}.cls")
                member.size = len(label)
                shard.addfile(member, io.BytesIO(label))
    return place


def as_parquet(folder, place):
    place.mkdir()
    files = files_of(folder)
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    labels = [path.relative_to(folder).parts[0] for path in files]
    pq.write_table(pa.table({"file": rows, "label": labels}), place / "train.parquet")
    return place


def as_arrays(folder, place):
    """Of kinds that have no arrays, an array of frames or the like, under the name of images."""
    chance, keys = np.random.default_rng(0), {"clouds": "points", "signals": "signals"}
    shapes = {"images": (12, 24, 24, 3), "clouds": (12, 64, 3), "signals": (12, 2, 100)}
    row = next((row for row in shapes if row in place.name), "images")
    array = chance.uniform(0, 255, shapes[row]).astype(np.uint8 if row == "images" else np.float32)
    np.savez(place.with_suffix(".npz"), **{keys.get(row, "images"): array}, labels=np.arange(12) // 6)
    return place.with_suffix(".npz")


def as_pack(folder, place):
    unmask.pack(folder, out=place, format="original")
    return place


FORMS = {"folder": [lambda folder, place: folder], "list": [as_list], "zip, tar": [as_archive, as_tar]}
FORMS |= {"shards of tar": [as_shards], "Parquet, `hf:`": [as_parquet], "arrays": [as_arrays], "pack": [as_pack]}


def open_and_check(make, folder, place, kind):
    """Raises UserError also where a source is opened whose samples are all bad."""
    sheet = inspect(open_source(make(folder, place), kind), max_side=64)[0]
    assert sheet.num_good == 0
    raise UserError(sheet.bad[0][2])


def test_the_table_has_a_row_for_each_kind_and_a_column_for_each_form():
    assert {row for row, _, _ in table()} == set(KINDS)
    assert {column for _, column, _ in table()} == set(FORMS)


@pytest.mark.parametrize(("row", "form", "cell"), table())
def test_a_kind_is_read_or_refused_as_the_table_says(row, form, cell, folder_of, tmp_path):
    kind = KINDS[row]
    for number, make in enumerate(FORMS[form]):
        place = tmp_path / f"{row.replace(' ', '-').replace(',', '')}-{number}"
        if cell == "yes":
            source = open_source(make(folder_of(row), place), kind if "frames" in row else None)
            assert source.modality.text.partition("(")[0] == kind
            sheet = inspect(source, max_side=64)[0]
            assert (sheet.num_good, len(sheet.classes)) == (12, 2)
        else:
            with pytest.raises(UserError, match=REMEDY):
                open_and_check(make, folder_of(row), place, kind)


def test_the_form_of_a_pack_of_clips_is_refused_with_what_to_do(folder_of, tmp_path):
    with pytest.raises(UserError, match=re.escape("tar cf clips.tar")):
        unmask.pack(folder_of("clips"), out=tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
