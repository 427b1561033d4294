"""The Free Spoken Digit Dataset with speakers kept apart: class folders in splits train and test.

    python benchmarks/spoken_digits.py recordings --out digits
    python benchmarks/few_labels.py digits/train --on digits --labels-per-class 1 5 10 -- --hours 0.2

RECORDINGS is the folder, or the zip, of the WAV files, https://github.com/Jakobovski/free-spoken-digit-dataset
(CC BY-SA 4.0), named digit_speaker_number.wav. Its own test split has every speaker in training too, so that knowing a
voice helps; here two speakers are heard in the test alone.
"""

import argparse
import io
import re
import sys
import wave
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import smoke

NAME = re.compile(r"(\d)_([a-z]+)_\d+\.wav")


def recordings(place: Path) -> Iterator[tuple[str, bytes]]:
    """Names without folders, and contents."""
    if place.is_dir():
        for path in sorted(place.rglob("*.wav")):
            yield path.name, path.read_bytes()
        return
    with zipfile.ZipFile(place) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".wav"):
                yield PurePosixPath(name).name, archive.read(name)


def write(place: Path, out: Path, test_speakers: list[str]) -> Counter[str]:
    """Copies the recordings; returns how many there are in each split."""
    counts: Counter[str] = Counter()
    speakers: set[str] = set()
    for name, content in recordings(place):
        if (match := NAME.fullmatch(name)) is None:
            sys.exit(f"{name} in {place} is not named digit_speaker_number.wav")
        digit, speaker = match.groups()
        speakers.add(speaker)
        split = "test" if speaker in test_speakers else "train"
        folder = out / split / digit
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        counts[split] += 1
    if missing := set(test_speakers) - speakers:
        sys.exit(f"{', '.join(sorted(missing))} do not speak in {place}; {', '.join(sorted(speakers))} do")
    return counts


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--out", type=Path, default=Path("digits"))
    parser.add_argument("--test-speakers", nargs="+", default=["theo", "yweweler"])
    return parser


def main() -> None:
    options = parser().parse_args()
    counts = write(options.recordings, options.out, options.test_speakers)
    print(f"{counts['train']} recordings to learn from and {counts['test']} to test on, in {options.out}")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    place = folder / "recordings.zip"
    with zipfile.ZipFile(place, "w") as archive:
        for number, speaker in enumerate(("anna", "ben", "theo", "yweweler")):
            content = io.BytesIO()
            with wave.open(content, "wb") as sound:
                sound.setparams((1, 2, 8000, 0, "NONE", ""))
                sound.writeframes(bytes(1600))
            archive.writestr(f"recordings/{number}_{speaker}_0.wav", content.getvalue())
    yield [str(place), "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
