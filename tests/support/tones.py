"""Pairs of an image and a tone: the hue of the image says how high the tone is."""

import colorsys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

RATE, SECONDS, SIDE = 4000, 0.5, 32
LOWEST, HIGHEST = 200.0, 1500.0  # Hz; of the hues from red to blue
HUES = 0.0, 0.7


def hue_image(hue: float, chance: np.random.Generator) -> Image.Image:
    """Nearly one colour, somewhat brighter here and there."""
    colour = 255 * np.array(colorsys.hsv_to_rgb(hue, 0.8, 0.8))
    pixels = colour + chance.normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def tone(share: float, chance: np.random.Generator) -> np.ndarray:
    """share: how high, 0 to 1."""
    pitch = LOWEST * (HIGHEST / LOWEST) ** share
    time = np.arange(int(RATE * SECONDS)) / RATE
    return 0.3 * np.sin(2 * np.pi * pitch * time + chance.uniform(0, 6)) + 0.01 * chance.standard_normal(len(time))


def hues_with_tones(folder: Path, counts: dict[str, int], shuffled: bool = False, missing: int = 0) -> Path:
    """rgb/SPLIT/00.png and sound/SPLIT/00.wav, `counts` of each split. shuffled: which tone an image has says nothing;
    missing: one of so many has no tone."""
    for split, count in counts.items():
        chance = np.random.default_rng([count, len(split)])
        shares = (np.arange(count) + 0.5) / count
        tones = chance.permutation(shares) if shuffled else shares
        for part in ("rgb", "sound"):
            (folder / part / split).mkdir(parents=True)
        for number, (share, height) in enumerate(zip(shares, tones)):
            hue = HUES[0] + (HUES[1] - HUES[0]) * share
            hue_image(hue, chance).save(folder / "rgb" / split / f"{number:03d}.png")
            if not missing or number % missing:
                soundfile.write(folder / "sound" / split / f"{number:03d}.wav", tone(height, chance), RATE)
    return folder
