"""Clips, recordings and tables of numbers are recognised by their first bytes."""

import io

import numpy as np
import pytest

from unmask.data.codecs.signature import HEAD, audio_format, is_series, other_kind, sniff, video_format

VIDEO = [
    (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "mov"),
    (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "mov"),
    (b"\0\0\0\x08wide\0\0\1\0mdat", "mov"),
    (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01", "matroska"),
    (b"RIFF\0\1\0\0AVI LIST", "avi"),
    (b"GIF89a\x08\0\x08\0", "gif"),
    (b"FLV\x01\x05", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "asf"),
    (b"\0\0\x01\xba\x44", "mpeg"),
    (b"G" + bytes(187) + b"G" + bytes(159), "mpegts"),
    (bytes(4) + b"G" + bytes(191) + b"G" + bytes(151), "mpegts"),
    (b"OggS\0\2" + bytes(22) + b"\x80theora", "ogg"),
]
AUDIO = [
    (b"RIFF\0\1\0\0WAVEfmt ", "a", "WAV"),
    (b"RF64\xff\xff\xff\xffWAVEds64", "a", "WAV"),
    (b"fLaC\0\0\0\x22", "a", "FLAC"),
    (b"OggS\0\2" + bytes(22) + b"\x01vorbis", "a", "OGG"),
    (b"ID3\x04\0\0", "a", "MP3"),
    (b"\xff\xfb\x90\xc4", "a.MP3", "MP3"),
    (b"\xff\xf1\x50\x80", "a.aac", "AAC"),
    (b"\0\0\0\x20ftypM4A \0\0\0\0", "a", "AAC"),
    (b"FORM\0\0\1\0AIFFCOMM", "a", "AIFF"),
]
NEITHER = [
    (b"\0\0\0\x20ftypavif\0\0\0\0", "a"),
    (b"\0\0\0\x18ftypheic\0\0\0\0", "a"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "a.mp3"),
    (b"RIFF\0\1\0\0WEBPVP8 ", "a"),
    (b"\xff\xfba,b", "a.csv"),
    (b"G" * 20, "a.ts"),
    (b"", "a.mp4"),
]


@pytest.mark.parametrize(("head", "form"), VIDEO)
def test_containers_of_clips_are_told_by_their_bytes(head, form):
    assert video_format(head) == form
    assert audio_format(head) is None
    assert sniff(head[:32]) == ("GIF" if form == "gif" else None)


@pytest.mark.parametrize(("head", "name", "form"), AUDIO)
def test_recordings_are_told_by_their_bytes(head, name, form):
    assert audio_format(head, name) == form
    assert video_format(head) is None


@pytest.mark.parametrize(("head", "name"), NEITHER)
def test_what_is_neither_is_taken_for_neither(head, name):
    assert video_format(head) is None
    assert audio_format(head, name) is None


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (b"time,x,y\n" + b"0.1,2.5,-3e4\n" * 30, "a.csv", True),
        (b"t;x\n" + b"0,1;2,5\n" * 30, "A.CSV", True),
        (b"1\t2\n" * 30, "a.tsv", True),
        ("t,x\n".encode("utf-16") + b"1\0,\x002\0\n\0" * 30, "a.csv", True),
        (b"date,x\n" + b"2024-01-01 00:00:00,2.5\n" * 9, "a.csv", True),
        (b"file,label\n" + b"a.jpg,cat\n" * 30, "labels.csv", False),
        (b"0 0.5 0.5 0.1 0.1\n" * 9, "a.txt", False),  # boxes of a photograph
        (b"1,2\n" * 30, "a.json", False),
        (b"", "a.csv", False),
    ],
)
def test_tables_of_numbers_are_series(text, name, expected):
    assert is_series(text[:HEAD], name) is expected


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros(99, np.float32), True),
        (np.zeros((500, 6)), True),
        (np.zeros((12, 5000), np.int16), True),
        (np.zeros((64, 64)), False),
        (np.zeros((3, 64, 64)), False),
        (np.zeros(9, "U3"), False),
    ],
)
def test_arrays_whose_axes_are_those_of_recordings_are_series(array, expected):
    file = io.BytesIO()
    np.save(file, array)
    assert is_series(file.getvalue()[:HEAD], "a.npy") is expected


def test_names_still_tell_kinds_that_are_not_read():
    assert other_kind("a.dcm", b"") == "DICOM"
    assert other_kind("a", b"fLaC") == "audio"
