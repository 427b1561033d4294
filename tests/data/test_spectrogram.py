"""Log-mel spectrograms equal those of transformers in numbers, and a tone comes back as that tone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ASTFeatureExtractor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from unmask.data.codecs.audio import write_wav
from unmask.data.source import open_source
from unmask.data.transforms.kernels.spectrogram import Mel, filters, levelled, log_mel, sound_from
from unmask.errors import UserError


def noise(seconds=0.7, rate=16000):
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(int(seconds * rate))).astype(np.float32)


def tone(frequency, seconds=1.0, rate=16000):
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize(("rate", "bands"), [(16000, 128), (8000, 64), (22050, 80), (44100, 128)])
def test_values_equal_those_of_transformers(rate, bands):
    mel, samples = Mel(rate, bands), noise(rate=rate)
    bank = mel_filter_bank(
        mel.num_fft // 2 + 1, bands, 20, rate / 2, rate, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    assert np.allclose(filters(mel).numpy().T, bank, atol=1e-6)
    expected = spectrogram(
        samples,
        window_function(mel.num_window, "hann", periodic=False),
        frame_length=mel.num_window,
        hop_length=mel.num_hop,
        fft_length=mel.num_fft,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=bank,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    )
    ours = log_mel(torch.from_numpy(samples), mel)
    assert ours.shape == expected.shape == (bands, mel.num_frames(len(samples)))
    assert np.abs(ours.numpy() - expected).max() < 2e-3


@pytest.mark.filterwarnings("ignore")
def test_values_equal_those_of_the_feature_extractor_of_ast():
    samples = noise()
    expected = ASTFeatureExtractor(max_length=200)(samples, sampling_rate=16000, return_tensors="pt").input_values[0]
    ours = (log_mel(torch.from_numpy(samples), Mel()) + 4.2677393) / (2 * 4.5689974)
    assert torch.allclose(expected[: ours.shape[1]], ours.T, atol=3e-4)


def test_batches_give_what_each_recording_gives():
    samples = torch.from_numpy(np.stack([noise(), tone(440, 0.7)]))
    both = log_mel(samples[:, None], Mel())
    assert both.shape[:3] == (2, 1, 128)
    assert torch.allclose(both[1, 0], log_mel(samples[1], Mel()), atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 399, 400, 559, 560])
def test_the_shortest_recordings_give_one_window(count):
    mel = Mel()
    assert log_mel(torch.zeros(count), mel).shape == (128, 2 if count == 560 else 1)
    assert mel.num_frames(count) == (2 if count == 560 else 1)
    assert mel.num_frames(mel.num_samples(7)) == 7
    assert mel.num_frames(mel.num_samples(7) - 1) == 6


@pytest.mark.parametrize("frequency", [300, 440, 1000, 3100])
def test_a_tone_comes_back_as_that_tone(frequency):
    mel, samples = Mel(bands=128), tone(frequency)
    picture = log_mel(torch.from_numpy(samples), mel)
    sound = sound_from(picture, mel, rounds=30)
    assert len(sound) == mel.num_samples(picture.shape[1])
    spectrum = torch.fft.rfft(sound * torch.hann_window(len(sound))).abs()
    peak = float(spectrum.argmax()) * mel.rate / len(sound)
    assert abs(peak - frequency) < 0.03 * frequency
    assert float(sound.abs().max()) == pytest.approx(0.3, rel=0.5)
    again = log_mel(sound, mel)
    loud = picture > picture.max() - 6
    assert float((again - picture)[loud].abs().mean()) < 1.0
    assert torch.equal(sound, sound_from(picture, mel, rounds=30))


def test_noise_keeps_its_picture():
    mel = Mel(bands=64)
    picture = log_mel(torch.from_numpy(noise()), mel)
    inner = slice(3, -3)
    assert float((log_mel(sound_from(picture, mel), mel) - picture)[:, inner].abs().mean()) < 1.0


def test_silence_and_single_windows_become_sound():
    assert torch.isfinite(sound_from(torch.full((128, 9), -15.9), Mel())).all()
    assert len(sound_from(torch.zeros(128, 1), Mel())) == 400


def test_bands_too_narrow_for_the_spectrum_are_counted():
    assert Mel(8000, 128).empty == 4
    assert Mel(8000, 128, fft=2048).empty == 0
    assert Mel(8000, 40).empty == 0


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"bands": 0}, {"hop": 0.05}, {"high": 9000}, {"low": 9000}, {"fft": 256}, {"window": 1e-5}]
)
def test_settings_that_cannot_work_are_refused(options):
    with pytest.raises(UserError):
        Mel(**options)


@given(gain=st.floats(0.02, 50))
@settings(max_examples=20, deadline=None)
def test_a_levelled_spectrogram_does_not_depend_on_the_volume(gain):
    samples, mel = torch.from_numpy(noise()), Mel()
    expected = levelled(log_mel(samples, mel))
    heard = log_mel(0.02 * samples, mel) > -14  # at any of these volumes
    assert torch.allclose(levelled(log_mel(gain * samples, mel))[heard], expected[heard], atol=2e-3)
    assert abs(float(expected.exp().mean()) - 1) < 1e-4


def test_silence_is_not_made_loud():
    silence = log_mel(torch.zeros(16000), Mel())
    added = levelled(silence) - silence
    assert torch.allclose(added, torch.full_like(added, np.log(1e6)))  # 60 dB, the most


@pytest.mark.parametrize("level", ["even", "stored"])
def test_recordings_are_brought_to_one_loudness_unless_it_is_to_be_kept(tmp_path, level):
    for number, gain in enumerate((0.01, 0.1, 1.0)):
        write_wav(str(tmp_path / f"{number}.wav"), torch.from_numpy(gain * noise())[None], 16000)
    source = open_source(tmp_path, "audio" if level == "even" else 'audio(level="stored")')
    assert f'level="{level}"' in source.modality.text
    decoded = [source.modality.decode(source.raw(number)) for number in range(3)]
    assert ("brought to one loudness" in decoded[0].notes) == (level == "even")
    whole = source.modality.whole((128, 32))
    quiet, loud = whole(decoded[0].content), whole(decoded[2].content)
    assert (float((quiet - loud)[:, 64:].abs().mean()) < 0.2) == (level == "even")
