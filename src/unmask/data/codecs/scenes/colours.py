"""Which bands of a scene are red, green and blue, by their names, and which three are drawn."""

import re
from collections.abc import Sequence

COLOURS = ("red", "green", "blue")
_SENTINEL = {"b04": "red", "b4": "red", "b03": "green", "b3": "green", "b02": "blue", "b2": "blue"}  # Landsat 8's too
_WAVES = {"red": (620, 700), "green": (520, 600), "blue": (440, 520)}  # nm
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(nm|nanomet\w+|um|µm|micromet\w+)", re.IGNORECASE)


def colour_of(name: str) -> str | None:
    """Red, green or blue, by a band's name: the word or its letter, Sentinel-2's or Landsat 8's number, a wavelength;
    None for others, "red edge" too."""
    plain = re.sub(r"[\s_-]+", " ", name.strip().lower())
    if plain in COLOURS or plain in ("r", "g", "b"):
        return next(colour for colour in COLOURS if colour[0] == plain[0])
    if plain in _SENTINEL:
        return _SENTINEL[plain]
    if match := _LENGTH.search(plain):
        length = float(match[1]) * (1 if match[2][0] == "n" else 1000)
        return next((colour for colour, (low, high) in _WAVES.items() if low <= length < high), None)
    words = plain.split()
    colours = [word for word in words if word in COLOURS]
    return colours[0] if len(colours) == 1 and not {"edge", "nir", "infrared", "swir"} & set(words) else None


def colours_of(names: Sequence[str]) -> dict[str, int]:
    """The place of the band of each colour, where exactly one has it."""
    own = [colour_of(name) for name in names]
    return {colour: own.index(colour) for colour in COLOURS if own.count(colour) == 1}


def composite(names: Sequence[str], count: int) -> tuple[int, ...]:
    """Places of the bands that are drawn as red, green and blue: those of these colours where all three are known, else
    the first three; one of scenes that have one or two. count: bands that there are."""
    places = colours_of(names)
    if len(places) == 3:
        return tuple(places[colour] for colour in COLOURS)
    return (0, 1, 2) if count >= 3 else (0,)
