"""Samples of several parts: files to make them of, and what is read of them."""

import numpy as np
import soundfile
from PIL import Image

NUMBERS = range(4)


def picture(path, seed, size=(24, 32), channels=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    return path


def tone(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(2000), 4000)


def kinds_of(modality):
    return {name: kind.text.split("(")[0] for name, kind in modality.kinds.items()}


def views(modality, x):
    return dict(zip(modality.kinds, modality.layout.unpack(x)))


def decoded(source, index=0):
    return source.modality.decode(source.raw(index), 64)


def write_pairs(root, count):
    """A small photograph and a sound in each, rgb/0.png and sound/0.wav ..., of two classes and two sites."""
    chance = np.random.default_rng(0)
    for part in ("rgb", "sound"):
        (root / part).mkdir(parents=True)
    rows = ["file,label,site"]
    for number in range(count):
        Image.fromarray(chance.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / "rgb" / f"{number}.png")
        soundfile.write(root / "sound" / f"{number}.wav", 0.1 * chance.standard_normal(1000), 4000)
        rows.append(f"{number}.png,{'ab'[number % 2]},{'north' if number % 4 < 2 else 'south'}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root
