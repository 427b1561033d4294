"""Pyramids: what each level is made of, its size for images of any size, and the way out as one graph."""

import re
from pathlib import Path

import pytest
import torch
from support.pyramids import HIERA, PLAIN, SMALL, make
from torch import nn
from torch.nn import functional as F

from unmask.errors import UserError
from unmask.models.pyramid import ChannelNorm


@pytest.mark.parametrize(
    ("text", "patch", "strides"),
    [
        ("simple", 16, [4, 8, 16, 32]),
        ("simple", 8, [2, 4, 8, 16]),
        ("simple", 14, [3.5, 7, 14, 28]),
        ("taps", 4, [1, 2, 4, 8]),
        ("simple(scales=(2, 1, 0.5, 0.25))", 8, [4, 8, 16, 32]),
    ],
)
def test_strides_are_the_truth_for_every_patch(text, patch, strides):
    _, pyramid = make(text, PLAIN, patch)
    assert pyramid.strides == strides
    assert pyramid.dims == [256] * 4


def test_the_simple_pyramid_is_made_of_the_last_block_as_published():
    """Two transposed convolutions with a norm and GELU between, each halving the channels; then 1 x 1 and 3 x 3."""
    _, pyramid = make("simple(dim=6)")
    assert pyramid.layers == (4,)
    x = torch.randn(2, 16, 3, 5)
    state = pyramid.state_dict()

    def norm(x, name):
        weight, bias = state[name + ".weight"], state[name + ".bias"]
        return F.layer_norm(x.movedim(1, 3), x.shape[1:2], weight, bias, 1e-6).movedim(3, 1)

    def end(x, level, at):
        one, two = (state[f"levels.{level}.{at + i}.weight"] for i in (0, 2))
        assert one.shape == (6, x.shape[1], 1, 1)
        assert two.shape == (6, 6, 3, 3)
        x = norm(F.conv2d(x, one), f"levels.{level}.{at + 1}")
        return norm(F.conv2d(x, two, padding=1), f"levels.{level}.{at + 3}")

    def up(x, name):
        return F.conv_transpose2d(x, state[name + ".weight"], state[name + ".bias"], stride=2)

    four = up(F.gelu(norm(up(x, "levels.0.0"), "levels.0.1")), "levels.0.3")
    assert four.shape == (2, 4, 12, 20)
    right = [end(four, 0, 4), end(up(x, "levels.1.0"), 1, 1), end(x, 2, 0)]
    right.append(end(F.pad(x, (0, 1, 0, 1), value=-1e9).unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)), 3, 1))
    for got, wanted in zip(pyramid([x]), right, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    convolutions = [m for m in pyramid.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 8
    assert all(m.bias is None for m in convolutions)


def test_taps_are_quarters_and_keep_the_width_when_asked():
    depths = {depth: make("taps", f"vit_tiny_patch16_224({SMALL}, depth={depth})")[1].layers for depth in (2, 6, 12)}
    assert depths == {2: (0, 0, 1, 1), 6: (1, 2, 4, 5), 12: (2, 5, 8, 11)}
    encoder, pyramid = make("taps(dim=None, norm='batch', layers=(0, 2, 3, -1))")
    kinds = [[type(m) for m in level] for level in pyramid.levels]
    up = nn.ConvTranspose2d
    assert kinds == [[up, nn.BatchNorm2d, nn.GELU, up], [up], [], [nn.MaxPool2d]]
    assert pyramid.layers == (0, 2, 3, 4)
    assert pyramid.dims == [16] * 4
    maps = encoder.features(torch.randn(2, 3, 48, 48), pyramid.layers)
    assert torch.equal(pyramid(maps)[2], maps[2])  # no norm on taps
    assert torch.equal(pyramid(maps)[3], F.max_pool2d(maps[3], 2, ceil_mode=True))
    merged = make("taps(dim=8)")[1]
    assert isinstance(merged.levels[0][1], ChannelNorm)
    changed = [*maps[:3], maps[3] + 1]
    assert not torch.allclose(merged(changed)[0], merged(maps)[0])  # coarse levels reach fine ones


@pytest.mark.parametrize(
    ("text", "model", "says"),
    [
        ("stages", PLAIN, "simple or taps"),
        ("taps", HIERA, "stages"),
        ("simple(scales=(3, 1))", PLAIN, "power of two"),
        ("simple(scales=(1, 2))", PLAIN, "must fall"),
        ("simple(dim=0)", PLAIN, "1 or more"),
        ("taps(layers=(0, 1))", PLAIN, "4 scales"),
        ("taps(layers=(0, 1, 2, 9))", PLAIN, "no layer 9"),
        ("taps(norm='group')", PLAIN, "layer, batch"),
        ("simpel", PLAIN, "simple"),
    ],
)
def test_pyramids_that_cannot_be_are_refused(text, model, says):
    with pytest.raises(UserError, match=says):
        make(text, model)


def test_the_snippet_in_the_docs_runs():
    text = (Path(__file__).parents[2] / "docs" / "dense.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(code, "docs/dense.md", "exec"), {})
