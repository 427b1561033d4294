"""What every pyramid keeps: levels of the promised sizes for images of any size, and no weight that does not learn."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pyramids import HIERA, PLAIN, make

from unmask.registry import names, parse

CASES = [  # pyramid, patch
    ("simple(dim=8)", 16),
    ("simple(dim=8, scales=(8, 2, 0.25))", 14),
    ("taps(dim=8)", 8),
    ("taps(dim=None, scales=(2, 1, 0.5, 0.25))", 4),
    ("stages(dim=8)", None),
    ("stages(dim=None)", None),
]


def test_every_pyramid_has_a_case_here():
    assert {parse(text)[0] for text, _ in CASES} == set(names("pyramid"))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 100),
    st.integers(1, 100),
    st.sampled_from(CASES),
)
def test_every_level_covers_the_padded_image(height, width, case):
    encoder, pyramid = make(case[0], HIERA if "stages" in case[0] else PLAIN, case[1])
    with torch.no_grad():
        maps = pyramid(encoder.features(torch.zeros(1, 3, height, width), pyramid.layers))
    unit = encoder.grid.unit[0]
    rows, columns = (-(-side // unit) * unit for side in (height, width))
    for one, dim, stride in zip(maps, pyramid.dims, pyramid.strides, strict=True):
        assert one.shape == (1, dim, -(-rows // stride), -(-columns // stride))
    assert pyramid.strides == sorted(pyramid.strides)


def test_every_weight_of_a_pyramid_and_of_the_encoder_learns():
    for text, model in (("simple", PLAIN), ("taps", PLAIN), ("stages", HIERA)):
        encoder, pyramid = make(text, model)
        maps = pyramid(encoder.train().features(torch.randn(2, 3, 50, 40), pyramid.layers))
        sum(m.square().mean() for m in maps).backward()
        silent = [
            n for part in (encoder, pyramid) for n, p in part.named_parameters() if p.requires_grad and p.grad is None
        ]
        assert [n for n in silent if "norm." not in n] == []  # the encoder's own last norm is not used
        encoder.eval()
