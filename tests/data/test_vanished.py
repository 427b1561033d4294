"""Data that goes away, or is cut, after it was looked at."""

import contextlib
import io
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support.photos import photo

import unmask
from unmask.data.datasets.images import BAD_FILES, Samples
from unmask.data.loaders.map_style import Loader, each_once
from unmask.data.sheet import write_bad_files
from unmask.data.source import open_source
from unmask.data.transforms.kernels.crop import WholeImage
from unmask.errors import DataError
from unmask.training.log import Log, read


@pytest.fixture
def classes(tmp_path):
    """Two class folders of 12 images each."""
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for seed in range(12):
            Image.fromarray(photo(seed)).save(tmp_path / "data" / name / f"{seed:02d}.png")
    return tmp_path / "data"


def test_half_a_folder_that_is_deleted_leaves_a_run_that_can_go_on(classes):
    source = open_source(str(classes))
    samples = Samples(source, range(24), channels=3)
    shutil.rmtree(classes / "a")
    used = [samples.substitute(place)[1] for place in range(24)]
    assert min(used) >= 12
    assert len(set(used[:12])) > 3  # the neighbour of the gap does not stand in for all
    shutil.rmtree(classes)
    with pytest.raises(DataError, match=r"no image of 24 can be used any more, e.g. a/05.png: .*still there\?$"):
        Samples(source, range(24), channels=3).image(5)


def test_an_array_that_is_cut_while_it_is_read_is_a_bad_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(pixels))
    for name in ("x.npy", "fortran.npy"):
        source = open_source(str(tmp_path / name))
        assert np.array_equal(source.read(7), pixels[7])
    samples = Samples(open_source(str(tmp_path / "x.npy")), range(40), channels=3)
    samples.image(39)
    os.truncate(tmp_path / "x.npy", 10 * 64 * 64 * 3)
    assert samples.substitute(39)[1] < 10
    assert "cut" in samples.bad[39]


@pytest.mark.parametrize("format", ["raw", "original"])
def test_a_pack_that_is_cut_while_it_is_read_is_a_bad_image(classes, tmp_path, format):
    unmask.pack(classes, tmp_path / "p", format=format)
    samples = Samples(open_source(str(tmp_path / "p")), range(24), channels=3)
    samples.image(23)
    os.truncate(tmp_path / "p" / "shard-00000.bin", 5000)
    os.truncate(tmp_path / "p" / "index.npy", 0)
    with contextlib.suppress(DataError):
        samples.image(23)
    assert "cut" in samples.bad[23]


def test_an_image_that_stands_in_for_another_brings_its_own_label(classes):
    samples = Samples(open_source(str(classes)), range(24), channels=3)
    shutil.rmtree(classes / "a")
    batches = Loader(samples=samples, view=WholeImage((32, 32)), batch=24)()
    assert next(batches)["label"].tolist() == [1] * 24


def test_nothing_is_judged_or_predicted_of_another_image(classes):
    samples = Samples(open_source(str(classes)), range(24), channels=3)
    (classes / "a" / "05.png").unlink()
    with pytest.raises(DataError, match=r"a/05.png cannot be used any more: .*No such file"):
        list(each_once(samples, WholeImage((32, 32)), 8))
    assert torch.equal(samples.itself(6), samples.image(6))


def test_a_training_says_that_its_images_are_lost_at_the_first_and_at_twice_as_many(classes, tmp_path):
    samples = Samples(open_source(str(classes)), range(24), channels=3)
    write_bad_files(tmp_path / BAD_FILES, [(30, "c.png", "empty file")])
    samples.report_bad_to(tmp_path / BAD_FILES)
    console = Console(file=io.StringIO(), width=200)
    log, said = Log(tmp_path, console, 8, 24), []
    log.start(0, 9)
    for step in range(1, 6):
        if step in (2, 3):
            (classes / "a" / f"{step:02d}.png").unlink()
        if step == 5:
            shutil.rmtree(classes / "b")
        for place in range(24):
            samples.substitute(place)
        log.step(step, 0.1, {"loss": 1.0}, float(step), 0)
        lines = [line for line in console.file.getvalue().splitlines() if "no longer" in line]
        said.append(lines[sum(map(len, said)) :])
    assert [len(lines) for lines in said] == [0, 1, 1, 0, 1]
    assert said[2] == ["step 3: 2 of 24 images can no longer be read, and others take their place: bad_files.txt"]
    assert said[4][0].startswith("step 5: 14 of 24")
    assert said[4][0].endswith("bad_files.txt; is the data still there?")
    assert [r["images"] for r in read(tmp_path / "metrics.jsonl") if r.get("event") == "lost"] == [1, 2, 14]
