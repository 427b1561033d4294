"""Clips: every container, every frame where it belongs, and what is broken refused with its reason."""

import ctypes
import gc
import io
import pickle
import sys
from contextlib import suppress
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.clipmaking import KINDS, clip, frame, numbers, sound_only

from unmask.data.codecs.containers.cut_short import gif_frames
from unmask.data.codecs.image import BadImage
from unmask.data.codecs.signature import HEAD, video_format
from unmask.data.codecs.video import open_clip
from unmask.errors import UserError

ORDER = [23, 0, 7, 7, 12, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_its_frames_by_number(kind, tmp_path):
    data = clip(kind)
    path = tmp_path / "file:\udce9 without an ending"
    path.write_bytes(data)
    assert video_format(data[:HEAD])
    for source in (data, str(path)):
        opened = open_clip(source)
        assert opened.size == (24, 32, 48)
        assert (opened.channels, opened.bits, opened.estimated) == (3, 8, False)
        assert opened.rate == pytest.approx(12, rel=0.05)  # a GIF counts in hundredths of a second
        assert opened.duration == pytest.approx(2, rel=0.05)
        frames = opened.frames(ORDER)
        assert frames.dtype == torch.uint8
        assert frames.shape == (3, 6, 32, 48)
        assert numbers(frames) == ORDER
        assert numbers(opened.at([-1, 0, 0.51, 1.99, 99])) == [0, 0, 6, 23, 23]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("mp4", {"g": "6"}), ("avi", {"bf": "2", "qmin": "1", "qmax": "2"}), ("mkv", {"bf": "3", "g": "5"})],
)
def test_sought_frames_equal_those_of_one_pass(kind, options):
    opened = open_clip(clip(kind, 30, **options))
    whole = opened.frames(range(30))
    assert numbers(whole) == list(range(30))
    for index in (29, 0, 13, 5, 24, 6):
        assert torch.equal(opened.frames([index]), whole[:, index : index + 1])


def test_h264_in_avi_keeps_no_order_and_is_counted_from_the_start():
    opened = open_clip(clip("avi", codec="libx264", g="6"))
    assert numbers(opened.frames(ORDER)) == ORDER
    assert numbers(opened.at([0, 1])) == [0, 12]


def test_variable_frame_rates_go_by_time():
    times = [0, 1, 2, 3, 10, 11, 12, 30]
    opened = open_clip(clip("mkv", 8, times=times, rate=10))
    assert any("variable frame rate" in note for note in opened.notes)
    assert opened.num_frames == 8
    assert numbers(opened.frames(range(8))) == list(range(8))
    wanted = [0.05, 0.35, 0.99, 1.05, 2.9, 3.0]
    for counted in (True, False):
        assert numbers(open_clip(clip("mkv", 8, times=times, rate=10), count=counted).at(wanted)) == [0, 3, 3, 4, 6, 7]


def test_an_uncounted_clip_says_that_its_number_of_frames_is_an_estimate_and_counts_when_it_must():
    data = clip("mkv", 8, times=[0, 1, 2, 3, 10, 11, 12, 30], rate=10)
    quick = open_clip(data, count=False)
    assert quick.estimated
    assert quick.num_frames != 8
    assert quick.counted().num_frames == 8
    assert not quick.counted().estimated
    assert numbers(quick.frames([7, 2])) == [7, 2]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_rotation_tag_turns_size_and_frames(degrees, mirrored):
    opened = open_clip(clip("mov", 3, rotation=(degrees, mirrored), mark=True))
    expected = np.rot90(frame(1, mark=True), degrees // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert opened.size[1:] == expected.shape[:2]
    assert bool(opened.notes) == bool(degrees or mirrored)
    shown = opened.frames([1])[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(shown.astype(int) - expected).mean() < 10


def test_pixels_are_made_square_and_frames_shrink():
    opened = open_clip(clip("mp4", 3, aspect=Fraction(2)))
    assert opened.size == (3, 32, 96)
    assert opened.frames([0]).shape == (3, 1, 32, 96)
    assert opened.frames([0], max_side=16).shape == (3, 1, 16, 48)
    assert any("2:1" in note for note in opened.notes)


def test_only_grey_streams_have_one_channel():
    grey = open_clip(clip("mkv", 4, codec="ffv1", pixels="gray"))
    assert grey.channels == 1
    assert numbers(grey.frames(range(4))) == [0, 1, 2, 3]
    deep = open_clip(clip("mkv", 4, codec="ffv1", pixels="gray10le"))
    assert (deep.channels, deep.bits) == (1, 10)
    assert numbers(deep.frames([3])) == [3]


def test_transparent_frames_lie_on_white():
    file = io.BytesIO()
    pictures = [Image.new("RGBA", (8, 8), (0, 0, 0, 0)) for _ in range(2)]
    for number, picture in enumerate(pictures):
        picture.putpixel((number, 0), (200, 0, 0, 255))
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], disposal=2)
    frames = open_clip(file.getvalue()).frames([1])
    assert frames[:, 0, 7, 7].tolist() == [255, 255, 255]
    assert frames[:, 0, 0, 1].tolist() == [200, 0, 0]


WHOLE = ("mp4", "mov", "avi", "mkv", "webm", "gif", "index first", "fragments")


@cache
def whole(kind: str) -> bytes:
    flags = {"index first": "faststart", "fragments": "frag_keyframe+empty_moov"}.get(kind)
    return clip("mp4" if flags else kind, 12, container={"movflags": flags} if flags else None)


@pytest.mark.parametrize("kind", WHOLE)
@given(share=st.floats(0, 0.995))
@example(share=0.53515625)  # between two pictures of the GIF
@settings(max_examples=8, deadline=None, derandomize=True)  # a cut between two fragments cannot be told
def test_a_clip_cut_short_is_refused_at_opening(kind, share):
    with pytest.raises(BadImage, match=r"truncated|damaged|empty|not a clip|no stream"):
        open_clip(whole(kind)[: int(share * len(whole(kind)))], count=False)


@pytest.mark.parametrize("kind", WHOLE)
@given(places=st.lists(st.floats(0.02, 0.999), min_size=1, max_size=20), byte=st.integers(0, 255))
@settings(max_examples=8, deadline=None)
def test_damage_gives_frames_or_a_reason(kind, places, byte):
    data = bytearray(whole(kind))
    for place in places:
        data[int(place * len(data))] = byte
    with suppress(BadImage):  # and nothing else
        opened = open_clip(bytes(data))
        assert opened.frames([0, opened.num_frames - 1]).shape[1] == 2


def one_picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "GIF")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (sound_only(), "sound only"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "sound only"),
        (one_picture(), "one frame only"),
        (clip("mp4", 1), "one frame only"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><p>404", "not a clip but a web page"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "not a clip"),
    ],
)
def test_what_is_no_clip_is_refused_with_its_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        open_clip(data)
    with pytest.raises(BadImage, match=reason):
        open_clip(data, count=False)


def test_paths_that_are_no_files_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.mp4"):
        with pytest.raises(BadImage, match=r"no such file|not a regular file"):
            open_clip(str(path))


def test_frames_beyond_the_clip_are_refused():
    with pytest.raises(BadImage, match="24 frames; frame 24"):
        open_clip(clip()).frames([0, 24])


def test_gif_frames_are_counted_from_the_bytes():
    assert gif_frames(one_picture()) == 1
    assert gif_frames(clip("gif", 5)) == 5


def test_a_clip_can_be_pickled_and_leaves_no_file_open(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(clip("mkv", 8))
    opened = open_clip(str(path))
    opened.frames([3])
    moved = pickle.loads(pickle.dumps(opened))
    path.rename(tmp_path / "b.mkv")
    assert torch.equal(open_clip(str(tmp_path / "b.mkv")).frames([5]), open_clip(clip("mkv", 8)).frames([5]))
    with pytest.raises(BadImage, match=r"No such file|truncated or damaged"):
        moved.frames([5])


class Allocated(ctypes.Structure):
    """What glibc's `mallinfo2` returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in (*"abcdefg", "in_use", "free", "releasable")]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs a glibc that counts what is allocated")
def test_reading_a_part_of_a_clip_leaves_nothing_allocated():
    count = ctypes.CDLL(None).mallinfo2
    count.restype = Allocated
    opened = open_clip(clip("mp4"))
    before = 0
    for read in range(180):
        opened.frames([2])
        if read == 59:  # pools are full by then
            gc.collect()
            before = count().in_use
    gc.collect()
    assert (count().in_use - before) / 120 < 60  # bytes per read; PyAV loses 150 with each loop that is not closed


def test_a_folder_of_frames_is_a_clip(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for number, path in enumerate(paths):
        Image.fromarray(frame(number)).save(path)
    opened = open_clip(paths, rate=2)
    assert (opened.format, opened.size, opened.channels) == ("PNG frames", (4, 32, 48), 3)
    assert (opened.rate, opened.duration) == (2, 2)
    assert numbers(opened.frames([3, 0, 3])) == [3, 0, 3]
    assert numbers(opened.at([0.6, 9])) == [1, 3]
    assert opened.frames([0], max_side=16).shape == (3, 1, 16, 24)
    with pytest.raises(BadImage, match="carry no times"):
        open_clip(paths).at([0])
    with pytest.raises(BadImage, match="one frame only"):
        open_clip(paths[:1])
    Image.fromarray(frame(2, (16, 48))).save(paths[2])
    with pytest.raises(BadImage, match="frame 2 is 16 x 48"):
        opened.frames([0, 2])
    (tmp_path / "1.png").write_bytes(b"broken")
    with pytest.raises(BadImage, match="frame 1: not an image"):
        opened.frames([1])


@pytest.mark.parametrize("shape", ["thw", "thwc", "tchw"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_arrays_are_clips(shape, kind):
    array = np.stack([frame(number) for number in range(4)]).astype(kind) * (257 if kind == np.uint16 else 1)
    array = {"thw": array[..., 0], "thwc": array, "tchw": array.transpose(0, 3, 1, 2)}[shape]
    opened = open_clip(array)
    assert (opened.size, opened.channels) == ((4, 32, 48), 1 if shape == "thw" else 3)
    assert numbers(opened.frames([2, 1])) == [2, 1]


@pytest.mark.parametrize("array", [np.zeros((4, 8)), np.zeros((4, 8, 8)), np.zeros((1, 8, 8), np.uint8)])
def test_arrays_that_are_no_clips_are_refused(array):
    with pytest.raises(BadImage):
        open_clip(array)


def test_without_pyav_a_person_is_told_what_to_install(monkeypatch):
    data = clip("mp4", 3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"PyAV, which is not installed: .*unmask\[video\]"):
        open_clip(data)
