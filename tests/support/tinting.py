"""Small labelled images, a run, and a classifier that was made of them: what tests of `transfer` share."""

import pytest
from PIL import Image

import unmask
from support.photos import photo
from support.small import SMALL

FAST = {"batch": 8, "device": "cpu", "precision": "32", "randaug": "off"}


def tinted(number, seed):
    """An image of class 0 (bluish) or 1 (reddish)."""
    image = photo(1000 * number + seed) // 2
    image[..., 2 - 2 * number] += 100
    return image


def write(root, **counts):
    """Class folders: split=(blue, red)."""
    for place, (split, numbers) in enumerate(counts.items()):
        for number, (name, count) in enumerate(zip(("blue", "red"), numbers)):
            folder = root / name if split == "all" else root / split / name
            folder.mkdir(parents=True)
            for seed in range(count):
                Image.fromarray(tinted(number, 100 * place + seed)).save(folder / f"{seed:03d}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("transfer")


@pytest.fixture(scope="module")
def data(place):
    return write(place / "data", train=(8, 8), val=(3, 3), test=(4, 4))


@pytest.fixture(scope="module")
def run(place, data):
    return unmask.pretrain(data, out=place / "run", steps=2, **SMALL).path


@pytest.fixture(scope="module")
def done(run, data):
    """A finished transfer with a val split, an average of weights and a centre crop."""
    return unmask.transfer(run, on=data, epochs=6, ema=0.6, lr=2e-3, eval_crop=0.9, **FAST)
