"""What transfers of every kind of data are tested for: the files of segmenters, and going on after an interruption."""

import signal

import pytest
import torch

import unmask
from unmask.errors import Interrupted
from unmask.tasks.early_stopping import Keeper

OF_A_SEGMENTER = ("config.json", "segmenter.safetensors", "metrics.json", "report.html", "overlays.png", "classes.png",
                  "confusion.png", "images_test.csv", "data_sheet.json", "summary.json")  # fmt: skip
# of label curves: what is trained, and from which weights
RIVALS = (("full", "pretrained"), ("full", "from scratch"), ("linear", "pretrained"), ("linear", "random frozen"))


def missing(folder):
    """Files of a segmenter that are not in its folder."""
    return [name for name in OF_A_SEGMENTER if not (folder / name).exists()]


def interrupted(step, run, **options):
    """Begins a transfer, which a signal, SIGTERM, ends after so many steps; returns the exception."""
    of = Keeper.of

    def broken(self, task):
        look = of(self, task)
        return lambda now, steps: signal.raise_signal(signal.SIGTERM) or {} if now == step else look(now, steps)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Keeper, "of", broken)
        with pytest.raises(Interrupted) as caught:
            unmask.transfer(run, **options)
    return caught.value


def assert_goes_on_to_the_same(done, step, run, **options):
    """A transfer with these options that is interrupted and continued ends like `done`, which was not. options: with
    an `out` of its own."""
    interrupted(step, run, **options)
    assert not (options["out"] / "segmenter.safetensors").exists()
    mended = unmask.transfer(run, **options)
    first, second = done.model.state_dict(), mended.model.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert mended.metrics == done.metrics
