"""The data sheet tells the truth about the data, and samples survive what goes bad later."""

import dataclasses
import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from support.given import Given, noise

from unmask.data.sheet import check_bad, inspect, write_bad_files
from unmask.data.source import open_source
from unmask.errors import DataError


def test_a_folder_is_described_in_full(tmp_path):
    root = tmp_path / "d"
    for split, name, count in (("train", "a", 4), ("train", "b", 2), ("test", "a", 2), ("test", "b", 1)):
        (root / split / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(noise(len(name) + i, (20 + i, 30, 3))).save(root / split / name / f"{split}{name}{i}.png")
    Image.fromarray(noise(99, (20, 30))).save(root / "train" / "a" / "grey.png")
    (root / "train" / "a" / "empty.png").write_bytes(b"")
    (root / "train" / "a" / "png.jpg").write_bytes((root / "train" / "a" / "traina0.png").read_bytes())
    (root / "train" / "readme.txt").write_text("hello")
    source = open_source(root)
    train = [i for i, item in enumerate(source.items) if item.split == "train"]
    told = []
    sheet, _ = inspect(source, indices=train, max_side=100, progress=lambda *at: told.append(at))
    assert (sheet.count, sheet.checked, sheet.num_good, sheet.ignored) == (9, 9, 8, 1)
    assert [(name, reason) for _, name, reason in sheet.bad] == [("train/a/empty.png", "empty file")]
    assert sheet.formats == {"PNG": 8}
    assert sheet.channel_counts == {"1": 1, "3": 7}
    assert sheet.channels == 3
    assert sheet.bits == {"8": 8}
    assert sheet.notes == {"named .jpg, is PNG": 1}
    assert (sheet.min_size, sheet.median_size, sheet.max_size) == ((20, 30), (20, 30), (23, 30))
    assert sheet.common_sizes == {"20 x 30": 4, "21 x 30": 2, "22 x 30": 1, "23 x 30": 1}
    assert sheet.splits == {"train": 9, "test": 3}
    assert sheet.classes == {"a": 7, "b": 2}
    assert sheet.num_duplicates == 3  # b's two are a's first two, and png.jpg is a's first
    assert sheet.duplicates[0] == ["train/a/png.jpg", "train/a/traina0.png", "train/b/trainb0.png"]
    assert sheet.test_in_train == 3
    assert told[-1] == (12, 12)
    assert json.loads(json.dumps(dataclasses.asdict(sheet)))["mean"] == sheet.mean
    assert 4 <= len(sheet.text().splitlines()) <= 12
    assert "1 bad" in sheet.text()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_statistics_are_those_of_all_values(dtype):
    images = [noise(i, (8 + i % 5, 9, 3), dtype) for i in range(70)]
    sheet, _ = inspect(Given(images), max_side=None)
    values = np.concatenate([p.reshape(-1, 3) for p in images]).astype(np.float64)
    mean, std = sheet.statistics(3)
    assert mean == pytest.approx(values.mean(axis=0), rel=1e-9)
    assert std == pytest.approx(values.std(axis=0), rel=1e-9)
    luma = values @ [0.299, 0.587, 0.114]
    luma = luma.round() if dtype == np.uint8 else luma
    assert sheet.statistics(1)[0][0] == pytest.approx(luma.mean(), rel=1e-6)
    assert sheet.statistics(1)[1][0] == pytest.approx(luma.std(), rel=1e-5)
    assert sheet.value_range == (0, 255)


def test_statistics_mix_8_bit_and_deeper_images():
    shallow, deep = noise(1, (6, 6)), noise(2, (9, 6)).astype(np.uint16) * 257
    sheet, _ = inspect(Given([shallow, deep]), max_side=None)
    values = np.concatenate([shallow.ravel(), deep.ravel() / 257.0])
    assert sheet.statistics(1)[0][0] == pytest.approx(values.mean())
    assert sheet.statistics(1)[1][0] == pytest.approx(values.std())
    assert sheet.statistics(3)[0] == pytest.approx([values.mean()] * 3)


def test_statistics_stay_exact_far_from_zero():
    values = 1e6 + np.random.default_rng(0).normal(size=(20, 16, 16))
    sheet, _ = inspect(Given(list(values)), max_side=None)
    assert sheet.statistics(1)[1][0] == pytest.approx(values.astype(np.float32).astype(np.float64).std(), rel=1e-9)


def test_extremes_and_brightness():
    digits = np.zeros((10, 10), np.uint8)
    digits[:, :2] = 250
    digits[0] = 100
    sheet, _ = inspect(Given([digits, digits + 1]), max_side=None)
    assert sheet.share_extreme == pytest.approx(0.9)
    assert sheet.share_bright == pytest.approx(0.18)
    sheet, _ = inspect(Given([digits.astype(np.float32) * 7 - 30]), max_side=None)
    assert sheet.share_extreme == pytest.approx(0.9)
    assert sheet.share_bright == pytest.approx(0.18)


def test_the_sheet_does_not_depend_on_the_number_of_threads_or_their_speed():
    class Slow(Given):
        def read(self, index):
            time.sleep(0.0005 * (index * 7919 % 5))
            return super().read(index)

    contents = [noise(i, dtype=np.float32) for i in range(200)] + [OSError(5, "broken disk"), b""]
    sheets = [inspect(Slow(contents), max_side=8, threads=n)[0] for n in (1, 4)]
    assert sheets[0] == sheets[1]
    assert sheets[0].bad == [(200, "200", "cannot be read (broken disk)"), (201, "201", "empty file")]


def test_decoded_images_are_handed_back_all_or_none():
    source = Given([noise(i) for i in range(150)] + [b"bad"])
    size = 12 * 10 * 3
    cache = inspect(source, max_side=None, keep_bytes=150 * size)[1]
    assert sorted(cache) == list(range(150))
    assert torch.equal(cache[7].permute(1, 2, 0), torch.from_numpy(noise(7)))
    assert inspect(source, max_side=None, keep_bytes=150 * size - 1)[1] == {}
    assert inspect(source, max_side=None)[1] == {}
    assert inspect(source, max_side=None, keep_bytes=10**9, limit=20)[1] == {}


def test_above_the_limit_a_sample_is_checked_and_told():
    source = Given([noise(i) for i in range(50)])
    sheet, _ = inspect(source, max_side=None, limit=20)
    assert (sheet.count, sheet.checked) == (50, 20)
    assert "checked 20 of 50" in sheet.text()
    assert inspect(source, max_side=None, limit=20)[0] == sheet


def test_the_fingerprint_changes_with_names_and_contents_only():
    base = inspect(Given([noise(1), noise(2)]), max_side=None)[0].fingerprint
    assert inspect(Given([noise(1), noise(2)]), max_side=4, threads=1)[0].fingerprint == base
    assert inspect(Given([noise(1), noise(3)]), max_side=None)[0].fingerprint != base
    assert inspect(Given([noise(1), noise(2)], names=["0", "x"]), max_side=None)[0].fingerprint != base
    assert inspect(Given([noise(1), noise(2)]), indices=[0], max_side=None)[0].fingerprint != base


def test_channels_are_suggested_or_the_counts_are_told():
    def suggest(*channels):
        return inspect(Given([noise(i, (5, 30, c)) for i, c in enumerate(channels)]), max_side=None)[0]

    assert suggest(1, 1).channels == 1
    assert suggest(1, 3).channels == 3
    assert suggest(5, 5).channels == 5
    with pytest.raises(DataError, match="1 with 3, 1 with 5"):
        _ = suggest(3, 5).channels
    with pytest.raises(DataError, match="no image"):
        _ = inspect(Given([b""]), max_side=None)[0].channels
    with pytest.raises(DataError, match="5 channels and cannot be given 3"):
        suggest(5, 5).statistics(3)


def test_a_few_images_of_another_kind_are_bad_and_do_not_stop_the_rest():
    source = Given([noise(i) for i in range(30)] + [noise(1, (12, 10, 4))])
    sheet, cache = inspect(source, max_side=None, keep_bytes=10**9)
    assert sheet.channels == 3
    assert sheet.bad == [(30, "30", "has 4 channels, the others have 1 or 3")]
    assert set(sheet.mean) == {"1", "3"}
    assert 30 not in cache


def test_too_many_bad_files_are_refused_with_reasons_and_names():
    few, _ = inspect(Given([noise(i) for i in range(19)] + [b""]), max_side=None)
    check_bad(few)
    with pytest.raises(DataError, match=r"1 of 20 .*\(more than 4%\)"):
        check_bad(few, 0.04)
    with pytest.raises(DataError, match="allow more with --max-bad"):
        check_bad(few, 0.04)
    with pytest.raises(DataError, match=r"Mend or remove them$"):
        check_bad(few, 0.04, fixed=True)
    many, _ = inspect(Given([noise(1), b"", b"", b"text"]), max_side=None)
    with pytest.raises(DataError, match=r"(?s)3 of 4 .*2 empty file, e\.g\. 1, 2\n  1 not an image, e\.g\. 3"):
        check_bad(many)
    check_bad(many, 0.75)
    with pytest.raises(DataError, match="nothing to use"):
        check_bad(inspect(Given([b""]), max_side=None)[0], 1.0)


def test_bad_files_are_written_one_per_line(tmp_path):
    write_bad_files(tmp_path / "bad.txt", [(3, "a/b.png", "truncated"), (9, "c.png", "damaged\nbadly")])
    lines = (tmp_path / "bad.txt").read_text().splitlines()
    assert lines[0].startswith("# 2 bad")
    assert lines[1:] == ["a/b.png\ttruncated", "c.png\tdamaged badly"]


def test_ctrl_c_stops_the_look(tmp_path):
    started = threading.Event()

    class Endless(Given):
        def read(self, index):
            started.set()
            time.sleep(0.001)
            return super().read(index)

    def interrupt(done, total):
        raise KeyboardInterrupt

    source = Endless([noise(0)] * 20000)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        inspect(source, max_side=None, progress=interrupt, threads=2)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint32])
def test_an_image_of_another_range_does_not_spoil_the_statistics_of_the_others(dtype):
    plain = [noise(i) for i in range(60)]
    alone, _ = inspect(Given(plain), max_side=None)
    deep = (np.arange(64.0).reshape(8, 8) * 3e7).astype(dtype)
    unit = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for odd in (deep, unit):
        sheet, cache = inspect(Given([*plain, odd]), max_side=None, keep_bytes=1 << 20)
        assert (sheet.mean, sheet.std) == (alone.mean, alone.std)
        assert "most others from 0 to 255" in sheet.bad[0][2]
        assert 60 not in cache


def test_8_bit_images_among_measurements_are_set_aside_and_too_many_refused():
    deep = [noise(i).astype(np.float32) * 40 for i in range(12)]
    sheet, _ = inspect(Given([*deep, noise(1)]), max_side=None)
    assert [index for index, _, _ in sheet.bad] == [12]
    with pytest.raises(DataError, match="bring all to one range"):
        check_bad(sheet)


def test_measurements_of_different_strength_and_floats_on_the_8_bit_scale_stay_together():
    for images in ([noise(i).astype(np.float32) * 10**i for i in range(4)], [noise(0), noise(1).astype(np.float32)]):
        assert inspect(Given([*images, np.zeros((8, 8, 3), np.float32)]), max_side=None)[0].bad == []


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_constant_channel_has_a_deviation_of_one_and_is_said(dtype):
    images = [np.concatenate([noise(i), np.full((*noise(i).shape[:2], 1), 7)], -1).astype(dtype) for i in range(6)]
    sheet, _ = inspect(Given(images), max_side=None)
    assert sheet.statistics(4)[1][3] == 1
    assert sheet.statistics(4)[0][3] == 7
    assert sheet.remarks == ["channel 4 is 7 everywhere: nothing is learnt from it, and its std is set to 1"]
    black, _ = inspect(Given([np.zeros((8, 8, 3), dtype)] * 3), max_side=None)
    assert black.statistics(3) == ((0, 0, 0), (1, 1, 1))
    assert "one colour (0, 0, 0)" in black.remarks[0]


@pytest.mark.parametrize(("scale", "said"), [(1.0, False), (0.5, False), (1 / 255, True), (257.0, True)])
def test_values_out_of_the_encoder_s_range_are_said(scale, said):
    images = [(scale * noise(i, (8, 9, 3), np.uint8)).astype(np.float32) for i in range(9)]
    sheet, _ = inspect(Given(images), max_side=None)
    remarks = sheet.unlike((124.0, 116.0, 104.0), (58.0, 57.0, 57.0))
    assert [remark.startswith("values are not in the encoder's range: channel 1") for remark in remarks] == [
        True
    ] * said
    with pytest.raises(DataError, match="cannot be given 4"):
        sheet.unlike((0.0,) * 4, (1.0,) * 4)


def test_a_channel_that_is_constant_is_in_range():
    images = [np.concatenate([noise(i, (8, 9, 2)), np.zeros((8, 9, 1), np.uint8)], axis=-1) for i in range(9)]
    sheet, _ = inspect(Given(images), max_side=None)
    assert sheet.unlike((124.0, 116.0, 0.0), (58.0, 57.0, 1.0)) == []
