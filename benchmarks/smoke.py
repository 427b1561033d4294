"""`--smoke` of every benchmark: its whole path in seconds, on a few made-up images. Figures of such a run mean nothing;
it shows that the benchmark still works. It needs no data, no network and no GPU, and writes into a temporary folder
unless `--out` names another:

    python benchmarks/step.py --smoke
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

HELP = "run everything in seconds on made-up data, with --out FOLDER or nothing else; the figures mean nothing"
MODEL = "vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)"
DECODER = "full(dim=32, depth=1, heads=2)"


def start(main: Callable[[], object], commands: Callable[[Path, Path], Iterable[list[str]]]) -> None:
    """Calls `main`, which reads the command line. With --smoke, once for each of the command lines that `commands`
    yields for a temporary folder, where it may put data, and the folder for results."""
    if "--smoke" not in sys.argv[1:]:
        main()
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help=HELP)
    parser.add_argument("--out", type=Path, help="folder for results; by default a temporary one")
    out, script = parser.parse_args().out, Path(sys.argv[0]).name
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for command in commands(folder, (out or folder / "out").absolute()):
            print(f"smoke run, the figures mean nothing: {script} {shlex.join(command)}", flush=True)
            sys.argv[1:] = command
            main()


def image(seed: int, side: int = 64) -> Image.Image:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def images(folder: Path, count: int, seed: int = 0, side: int = 64, mode: str = "RGB") -> Path:
    """`count` JPEG files in a folder, in colour or grey ("L")."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image(1000 * seed + number, side).convert(mode).save(folder / f"{number:03d}.jpg", quality=95)
    return folder


def labelled(root: Path, train: int = 8, test: int = 4) -> Path:
    """Class folders, two classes, in splits train and test; so many images of each class."""
    for number, (split, count) in enumerate((("train", train), ("test", test))):
        for place, name in enumerate(("one", "other")):
            images(root / split / name, count, seed=2 * number + place)
    return root
