"""Windowed attention and relative positions, added when an encoder is transferred."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.photos import photo
from support.small import SMALL

import unmask
from unmask.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("windowed")
    for split, count in (("train", 8), ("test", 4)):
        for number, name in enumerate(("blue", "red")):
            (root / split / name).mkdir(parents=True)
            for seed in range(count):
                image = photo(100 * number + seed + 10 * count) // 2
                image[..., 2 - 2 * number] += 100
                Image.fromarray(image).save(root / split / name / f"{seed}.png")
    return root


@pytest.fixture(scope="module")
def run(data):
    return unmask.pretrain(data / "train", out=data / "run", **(SMALL | {"steps": 2})).path


def test_windows_and_relative_positions_are_added_learnt_and_kept(run, data):
    options = {"device": "cpu", "precision": "32", "epochs": 2, "batch": 8, "randaug": "off", "lr": 1e-2}
    found = unmask.transfer(run, on=data, out=data / "out", window=2, global_blocks=1, relative=True, **options)
    encoder = found.model.encoder
    assert encoder.own == {"window": 2, "global_blocks": 1, "relative": True}
    assert all(bool(table.abs().max() > 0) for table in encoder.relative.parameters())  # learnt from zero
    pixels = torch.from_numpy(np.stack([photo(s)[:32, :32] for s in range(3)])).permute(0, 3, 1, 2)
    pixels = torch.nn.functional.interpolate(pixels.float(), tuple(encoder.grid.size))
    known = found.model.predict(pixels).probabilities
    for table in encoder.relative.parameters():
        table.data.zero_()
    assert not np.allclose(found.model.predict(pixels).probabilities, known)  # and they are used
    assert np.allclose(unmask.load(data / "out").predict(pixels).probabilities, known, atol=1e-6)


def test_they_are_refused_where_there_are_none(run, data):
    with pytest.raises(UserError, match="give --window too"):
        unmask.transfer(run, on=data, global_blocks=2)
    hiera = "hiera_tiny_224"
    from unmask.cli.commands.transfer import reshaped
    from unmask.models.encoder import create_encoder

    with pytest.raises(UserError, match="--window: for ViTs without rotary positions; hiera_tiny_224"):
        reshaped(create_encoder(hiera, image_size=(64, 64)), {"window": 2})
