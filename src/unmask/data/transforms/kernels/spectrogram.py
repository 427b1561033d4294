"""Log-mel spectrograms as AST and AudioMAE take them (Kaldi's filter banks), and sound from such spectrograms.

Windows of 25 ms every 10 ms that lie wholly within the recording, their mean removed, pre-emphasis 0.97, Hann, power
spectrum, triangles that are even on Kaldi's mel scale (1127 ln(1 + f / 700), from 20 Hz to half the rate), natural
logarithm. Gong et al. 2021 (AST), Huang et al. 2022 (AudioMAE); Griffin and Lim 1984, in the faster form of Perraudin
et al. 2013.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from unmask.errors import UserError, require_whole

EMPHASIS = 0.97
FLOOR = 1.1920929e-07  # the least power, so that silence has a logarithm: float32's epsilon, as in Kaldi
LIFT = math.log(1e6)  # the most that `levelled` adds, 60 dB: silence stays silence
MOMENTUM = 0.99
ROUNDS = 100  # multiplicative updates from mel bands to a spectrum


@dataclass(frozen=True)
class Mel:
    """How sound becomes a picture. `bands` of the lowest frequencies are empty (always silent) where they are narrower
    than the spectrum's steps: see `empty`."""

    rate: int = 16000  # samples per second
    bands: int = 128
    window: float = 0.025  # seconds
    hop: float = 0.010  # seconds
    low: float = 20.0  # Hz
    high: float | None = None  # Hz; None: half the rate
    fft: int | None = None  # samples; None: the window's, rounded up to a power of two, as in Kaldi

    def __post_init__(self):
        require_whole("rate", self.rate)
        require_whole("bands", self.bands)
        if not 0 < self.hop <= self.window or int(self.window * self.rate) < 2 or int(self.hop * self.rate) < 1:
            raise UserError(
                f"windows last 2 samples or more, and hops at most as long; got {self.window}, {self.hop} s"
            )
        if not 0 <= self.low < self.top <= self.rate / 2:
            raise UserError(f"need 0 <= low < high <= {self.rate / 2} Hz; got {self.low} to {self.top} Hz")
        if self.num_fft < self.num_window:
            raise UserError(f"fft must be at least the window's {self.num_window} samples; got {self.fft}")

    @property
    def top(self) -> float:
        return self.rate / 2 if self.high is None else self.high

    @property
    def num_window(self) -> int:
        return int(self.window * self.rate + 1e-6)

    @property
    def num_hop(self) -> int:
        return int(self.hop * self.rate + 1e-6)

    @property
    def num_fft(self) -> int:
        return self.fft or 1 << (self.num_window - 1).bit_length()

    @property
    def empty(self) -> int:
        """How many bands lie between two steps of the spectrum, and so are silent whatever the sound."""
        return int((filters(self).sum(dim=1) == 0).sum())

    def num_frames(self, num_samples: int) -> int:
        """Windows in so many samples: at least one, since shorter recordings are filled up with silence."""
        return 1 + max(0, num_samples - self.num_window) // self.num_hop

    def num_samples(self, num_frames: int) -> int:
        """The fewest samples that give so many windows."""
        return self.num_window + (num_frames - 1) * self.num_hop


@lru_cache(maxsize=16)
def filters(mel: Mel) -> Float[Tensor, "bands bins"]:
    """Triangles on the mel scale, each with its peak (1) at the neighbours' feet."""
    scale = 1127.0 * torch.log1p(torch.tensor([mel.low, mel.top], dtype=torch.float64) / 700.0)
    feet = torch.linspace(float(scale[0]), float(scale[1]), mel.bands + 2, dtype=torch.float64)
    bins = torch.arange(mel.num_fft // 2 + 1, dtype=torch.float64) * mel.rate / mel.num_fft
    places = 1127.0 * torch.log1p(bins / 700.0)
    left, peak, right = feet[:-2, None], feet[1:-1, None], feet[2:, None]
    rising, falling = (places - left) / (peak - left), (right - places) / (right - peak)
    return torch.minimum(rising, falling).clamp_min(0).float()


def log_mel(samples: Float[Tensor, "*b n"], mel: Mel) -> Float[Tensor, "*b bands frames"]:
    """samples: -1..1 at `mel.rate`. Natural logarithms of power, from -15.9 (silence) upwards."""
    missing = mel.num_window - samples.shape[-1]
    if missing > 0:
        samples = torch.nn.functional.pad(samples, (0, missing))
    windows = samples.unfold(-1, mel.num_window, mel.num_hop)  # ... frames window
    windows = windows - windows.mean(dim=-1, keepdim=True)
    before = torch.cat([windows[..., :1], windows[..., :-1]], dim=-1)
    windows = (windows - EMPHASIS * before) * _hann(mel, samples)
    power = torch.fft.rfft(windows, n=mel.num_fft).abs().square()
    return (power @ filters(mel).to(samples).T).clamp_min(FLOOR).log().transpose(-1, -2)


def levelled(spectrogram: Float[Tensor, "*b bands frames"]) -> Float[Tensor, "*b bands frames"]:
    """The same sound as loud as all others: the mean power of its bands is 1, unless it is silent."""
    loudness = spectrogram.exp().mean(dim=(-2, -1), keepdim=True).log()
    return spectrogram - loudness.clamp_min(-LIFT)


def sound_from(
    spectrogram: Float[Tensor, "bands frames"], mel: Mel, *, rounds: int = 60, seed: int = 0
) -> Float[Tensor, "n"]:
    """Sound of which `log_mel` gives about this spectrogram: values as `log_mel` gives them, so a normalisation must
    have been undone. The mel bands do not say phases: they begin at random, by `seed`, and are made consistent in
    `rounds` rounds. n is `mel.num_samples(frames)`; values lie in -1..1."""
    from scipy.signal import lfilter

    magnitude = _spectrum(spectrogram.exp(), mel).sqrt()  # bins frames
    hann = torch.hann_window(mel.num_window, periodic=False).to(magnitude)
    shape = {"n_fft": mel.num_fft, "hop_length": mel.num_hop, "win_length": mel.num_window, "window": hann}
    inner = (magnitude.shape[1] - 1) * mel.num_hop  # samples from the middle of the first window to that of the last
    angles = 2 * math.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(seed))
    phase = torch.polar(torch.ones_like(angles), angles).to(magnitude.device)
    earlier = torch.zeros_like(phase)
    for _ in range(rounds if inner else 0):
        waves = torch.istft(magnitude * phase, center=True, length=inner, **shape)
        consistent = torch.stft(waves, center=True, pad_mode="constant", return_complex=True, **shape)
        phase = consistent - MOMENTUM / (1 + MOMENTUM) * earlier
        phase = phase / phase.abs().clamp_min(1e-12)
        earlier = consistent
    if not inner:
        return torch.zeros(mel.num_samples(1))
    waves = torch.istft(magnitude * phase, center=True, length=inner, **shape)
    waves = torch.from_numpy(lfilter([1.0], [1.0, -EMPHASIS], waves.double().cpu().numpy())).float()
    half = mel.num_window // 2
    waves = torch.nn.functional.pad(waves, (half, mel.num_window - half))
    return waves / waves.abs().max().clamp_min(1.0)


def _hann(mel: Mel, like: Tensor) -> Float[Tensor, "window"]:
    return torch.hann_window(mel.num_window, periodic=False, dtype=like.dtype, device=like.device)


def _spectrum(bands: Float[Tensor, "bands frames"], mel: Mel) -> Float[Tensor, "bins frames"]:
    """A non-negative power spectrum with about these bands: least squares by multiplicative updates (Lee and Seung
    2001), from the bands spread over the bins that they cover."""
    weights = filters(mel).to(bands)
    power = weights.T @ (bands / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)) + 1e-12
    goal = weights.T @ bands
    for _ in range(ROUNDS):
        power = power * goal / (weights.T @ (weights @ power)).clamp_min(1e-12)
    return power
