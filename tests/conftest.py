"""What tests share: small images on disk, a small encoder."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes run side by side; they must not fight for the cores


def keep_bytecode():
    """Where compiled modules are neither there nor may be written beside the sources, every process of the tests would
    compile torch and all others anew, for 10 to 20 seconds of a core: they are kept in a folder that git ignores."""
    torch = importlib.util.find_spec("torch")
    if sys.dont_write_bytecode and torch and torch.cached and not Path(torch.cached).exists():
        place = str(Path(__file__).parent.parent / ".pytest_cache" / "bytecode")
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = place  # the first is for processes begun by this one
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.dont_write_bytecode = False


keep_bytecode()

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo


@pytest.fixture(autouse=True, scope="session")
def small_runs():
    """What takes most of a small run's time is made smaller: panels and films show two images, not six; fewer steps are
    measured, and fewer images for the losses of trivial predictors; curves of labels are drawn again less often. Only
    the first pretraining of a process renders its figures; the others leave blank ones of the same size."""
    from unmask.cli.commands import pretrain
    from unmask.evaluation import watch
    from unmask.planning import build, measure
    from unmask.studies.label_curve import curve

    train, trained = pretrain.train, []

    def trained_with_blank_figures(*arguments, **named):
        with pytest.MonkeyPatch.context() as patch:
            if trained:
                patch.setattr("matplotlib.figure.Figure.savefig", blank)
            trained.append(True)
            return train(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "IMAGES", 2)
        patch.setattr(measure, "STEPS", 3)
        patch.setattr(build, "INSPECTED", 24)
        patch.setattr(curve, "RESAMPLES", 200)
        patch.setattr(pretrain, "train", trained_with_blank_figures)
        yield


def blank(figure, file, **options):
    """In place of a figure's `savefig`."""
    width, height = figure.get_size_inches() * options.get("dpi", figure.dpi)
    Image.new("L", (round(width), round(height)), 255).save(file, "PNG", compress_level=1)


@pytest.fixture
def photos(tmp_path):
    """A flat folder of 24 photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(24):
        Image.fromarray(photo(seed)).save(folder / f"{seed:03d}.png")
    return folder


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
    """A finished run of two steps on 24 photographs, made once: tests that write into it take `run`, a copy."""
    from support.small import SMALL

    import unmask

    root = tmp_path_factory.mktemp("pretrained")
    (root / "photos").mkdir()
    for seed in range(24):
        Image.fromarray(photo(seed)).save(root / "photos" / f"{seed:03d}.png")
    return unmask.pretrain(root / "photos", out=root / "run", steps=2, **SMALL)


@pytest.fixture
def run(pretrained, tmp_path):
    return type(pretrained)(shutil.copytree(pretrained.path, tmp_path / "run"))


@pytest.fixture
def labelled(tmp_path):
    """Class folders with a train and a test split: reddish and bluish photographs."""
    root = tmp_path / "labelled"
    for split, count in (("train", 12), ("test", 8)):
        for number, name in enumerate(("blue", "red")):
            (root / split / name).mkdir(parents=True)
            for seed in range(count):
                image = photo(1000 * number + seed + 100 * (split == "test")) // 2
                image[..., 2 - 2 * number] += 100
                Image.fromarray(image).save(root / split / name / f"{seed:03d}.png")
    return root


@pytest.fixture
def encoder():
    from unmask.models.encoder import create_encoder

    torch.manual_seed(0)
    return create_encoder("vit_tiny_patch16_224(depth=2)", image_size=(32, 32), patch_size=8)


@pytest.fixture
def raw():
    """Three images, raw: 3 3 32 32, float32."""
    return torch.from_numpy(np.stack([photo(seed, 32, 32) for seed in range(3)])).permute(0, 3, 1, 2).float()
