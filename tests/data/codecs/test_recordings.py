"""Recordings: every format, parts without the rest, resampling, and what is broken refused with its reason."""

import io
import pickle
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.codecs.audio import open_recording, write_wav
from unmask.data.codecs.image import BadImage
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import UserError

FORMATS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]
LOSSY = ("OGG", "MP3")


def tone(seconds=1.0, rate=16000, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def recording(samples, rate=16000, form="WAV", subtype="PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
def test_every_format_is_read_in_parts(form, subtype, tmp_path):
    data = recording(tone(), form=form, subtype=subtype)
    path = tmp_path / "\udce9.mp3"  # the name says MP3 only where the bytes leave it open
    path.write_bytes(data)
    for source in (data, str(path)):
        opened = open_recording(source)
        assert opened.format.startswith(form)
        assert (opened.size, opened.channels, opened.rate, opened.notes) == ((16000,), 1, 16000, ())
        assert opened.duration == 1
        samples, rate = opened.read()
        assert rate == 16000
        assert (samples.shape, samples.dtype) == ((1, 16000), torch.float32)
        assert np.abs(samples[0].numpy() - tone()).mean() < (0.02 if form in LOSSY else 2e-5)
        part, _ = opened.read(0.25, 0.5)
        assert part.shape == (1, 8000)
        assert torch.allclose(part, samples[:, 4000:12000], atol=1e-3 if form in LOSSY else 0)


@pytest.mark.parametrize(
    ("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24), ("PCM_32", 32), ("FLOAT", 32), ("DOUBLE", 64)]
)
def test_values_lie_on_one_scale_whatever_their_bits(subtype, bits):
    opened = open_recording(recording(tone(), subtype=subtype))
    assert opened.bits == bits
    assert float(opened.read()[0].abs().max()) == pytest.approx(0.5, abs=0.01)


def test_channels_are_mixed_and_values_that_are_no_numbers_become_silence():
    both = np.stack([tone(), -tone()], axis=1)
    both[7] = np.nan
    opened = open_recording(recording(both, subtype="FLOAT"))
    assert opened.notes == ("mono mix of 2 channels",)
    assert not opened.read()[0].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_recording_of_no_numbers_is_refused_when_it_is_read_not_taken_for_silence(value):
    held = open_recording(recording(np.full(4000, value, "float32"), subtype="FLOAT"))
    with pytest.raises(BadImage, match=r"no numbers, only NaN or infinity, from 0.00 to 0.25 s"):
        held.read()
    with pytest.raises(BadImage, match="no numbers"):
        held.read(0.1, 0.1, rate=8000)


def test_a_recording_whose_fault_shows_only_when_it_is_read_is_listed_among_good_ones(tmp_path):
    for name, samples in (("good", tone()), ("also", tone()), ("none", np.full(4000, np.nan, "float32"))):
        (tmp_path / f"{name}.wav").write_bytes(recording(samples, subtype="FLOAT"))
    sheet = inspect(open_source(tmp_path, None), max_side=64)[0]
    assert [(name, reason[:10]) for _, name, reason in sheet.bad] == [("none.wav", "no numbers")]


@pytest.mark.parametrize(("stored", "wanted"), [(44100, 16000), (8000, 16000), (48000, 16000), (16000, 22050)])
def test_a_resampled_tone_stays_that_tone(stored, wanted):
    samples, rate = open_recording(recording(tone(rate=stored), stored, subtype="FLOAT")).read(rate=wanted)
    assert rate == wanted
    assert samples.shape == (1, wanted)
    inner = slice(wanted // 10, -wanted // 10)
    assert np.abs(samples[0].numpy() - tone(rate=wanted))[inner].max() < 1e-3


def test_frequencies_that_the_new_rate_cannot_hold_vanish():
    loud, _ = open_recording(recording(tone(rate=44100, frequency=12000), 44100, subtype="FLOAT")).read(rate=16000)
    assert float(loud[:, 1000:-1000].abs().max()) < 1e-3


@given(st.floats(0, 0.6), st.floats(0.001, 0.6), st.sampled_from([(44100, 16000), (8000, 11025), (16000, 16000)]))
@settings(max_examples=25, deadline=None)
def test_a_part_equals_that_part_of_the_whole(start, length, rates):
    noise = np.random.default_rng(0).standard_normal(rates[0] // 2).astype(np.float32) / 8
    opened = open_recording(recording(noise, rates[0], subtype="FLOAT"))
    whole, rate = opened.read(rate=rates[1])
    first = round(start * rate)
    expected = whole[:, first : first + round(length * rate)]
    if expected.shape[1]:
        assert torch.allclose(opened.read(start, length, rate=rates[1])[0], expected, atol=1e-6)
    else:
        with pytest.raises(BadImage, match="nothing lies"):
            opened.read(start, length, rate=rates[1])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_shortest_recordings_are_read(count):
    opened = open_recording(recording(tone()[1 : 1 + count]))
    assert opened.read()[0].shape == (1, count)
    assert opened.read(rate=44100)[0].shape[1] >= count


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
@given(share=st.floats(0, 0.98))
@settings(max_examples=15, deadline=None, derandomize=True)  # a cut between two pages of OGG cannot be told
def test_a_recording_cut_short_is_refused_at_opening(form, subtype, share):
    data = recording(np.random.default_rng(0).uniform(-0.5, 0.5, 16000), form=form, subtype=subtype)
    with pytest.raises(BadImage, match=r"truncated|damaged|empty|not a recording|no samples"):
        open_recording(data[: int(share * len(data))])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (recording(np.zeros(0)), "no samples"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "AAC"),
        (b"\0\0\0\x20ftypisom\0\0\0\0", "a clip, not a recording"),
        (b"<html><p>404", "not a recording but a web page"),
        (b"RIFF\x10\0\0\0WAVEfmt nonsense", "damaged"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        open_recording(data)


def test_a_head_that_states_more_samples_than_a_file_can_hold_is_refused():
    data = bytearray(recording(tone(), form="FLAC"))
    data[22:26] = b"\xff" * 4  # of the 36 bits of the number of samples
    with pytest.raises(BadImage, match=r"damaged: [\d,]+ samples in"):
        open_recording(bytes(data))


def test_a_wav_of_unstated_length_is_read(tmp_path):
    data = bytearray(recording(tone()))
    data[4:8] = b"\xff" * 4  # written to a pipe
    data[data.index(b"data") + 4 :][:4] = b"\xff" * 4
    assert open_recording(bytes(data)).size == (16000,)


def test_an_mp3_that_does_not_state_its_length_is_read_at_a_constant_bit_rate_only():
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 44100)
    noise[:22050] *= 1e-3

    def without_head(mode):
        file = io.BytesIO()
        soundfile.write(file, noise, 44100, format="MP3", bitrate_mode=mode, compression_level=0.5)
        return file.getvalue()[file.getvalue().index(b"\xff\xfb", 4) :]

    assert open_recording(without_head("CONSTANT")).duration == pytest.approx(1, abs=0.1)
    with pytest.raises(BadImage, match="variable bit rate"):
        open_recording(without_head("VARIABLE"))


def test_recordings_can_be_pickled_and_are_written_as_wav(tmp_path):
    path = str(tmp_path / "a.wav")
    write_wav(path, torch.from_numpy(3 * tone())[None], 16000)
    opened = pickle.loads(pickle.dumps(open_recording(path)))
    assert opened.format == "WAV (PCM_16)"
    assert float(opened.read()[0].max()) == pytest.approx(1, abs=1e-3)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(BadImage):
        opened.read()


def test_without_soundfile_a_person_is_told_what_to_install(monkeypatch):
    data = recording(tone())
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match=r"soundfile, which is not installed: .*unmask\[audio\]"):
        open_recording(data)
