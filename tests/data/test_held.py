"""Clips whose frames fit into memory are decoded once, before training, which then sees the same numbers."""

import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from rich.console import Console
from support.clipmaking import clip

from unmask.data.codecs.image import BadImage
from unmask.data.codecs.video import FileClip, open_clip
from unmask.data.datasets import held as module
from unmask.data.datasets.held import hold
from unmask.data.modalities.video import Moving
from unmask.planning.inspect_data import look_at


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(clip(count=8 + number, size=(48, 64)))
    return tmp_path


def opened(folder, console, **options):
    given = {"max_side": 32, "modality": "video(frames=4, step=2)"} | options
    return look_at([str(folder)], console, **given)[1]


def test_held_clips_give_the_same_frames_and_views_without_being_decoded_again(folder, monkeypatch):
    console = Console(record=True, width=200, file=io.StringIO())
    held, read = opened(folder, console), opened(folder, console, in_memory="off")
    assert console.export_text().count("In memory: 4 clips, decoded") == 1
    modality = held.source.modality
    view = modality.window("random", (4, 16, 16), 0.5, False, "exact")

    def views(samples):
        for i in range(4):
            chance = torch.Generator().manual_seed(i)
            yield samples.image(i).frames([0, 3, 5])
            yield view(samples.image(i), chance)
            yield view(modality.repeated(samples.image(i), chance), chance)  # as with --views-per-image

    wanted = list(views(read))
    monkeypatch.setattr(FileClip, "_pictures", None)
    for seen, expected in zip(views(held), wanted, strict=True):
        assert torch.equal(seen, expected)
    for channels in (1, 3):
        held.channels = channels
        assert held.image(0).frames([1]).shape == (channels, 1, 32, 43)


def test_nothing_is_held_that_does_not_fit_or_is_there_already(monkeypatch):
    moving = {n: Moving(open_clip(clip(count=8, size=(48, 64))), 3, 24) for n in range(3)}
    needed = sum(content.held_bytes for content in moving.values())
    assert needed == 3 * 8 * 24 * 32 * 3
    assert hold(moving, needed - 1) is None
    found = hold(moving, needed)
    assert found is not None
    assert sum(content.nbytes for content in found.values()) == needed
    monkeypatch.setattr(module, "MOST", needed - 1)
    assert hold(moving, 10 * needed) is None
    assert hold({0: torch.zeros(3, 4, 4)}, 10**9) is None
    assert hold({}, 10**9) is None


@dataclass(frozen=True)
class Broken(FileClip):
    def frames(self, indices, max_side=None):
        raise BadImage("truncated")


def test_a_clip_that_turns_out_damaged_stays_as_it_is_and_others_are_held():
    good = Moving(open_clip(clip(count=8, size=(48, 64))), 3, None)
    file = good.clip
    bad = replace(good, clip=Broken(file.format, file.size, file.channels, file.bits, file.rate, file.duration))
    found = hold({0: bad, 1: good}, 10**9)
    assert found is not None
    assert found[0] is bad
    np.testing.assert_array_equal(found[1].frames(range(8)), good.frames(range(8)))
