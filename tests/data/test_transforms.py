"""Views: torchvision's algorithm, one generator, any number of channels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2.functional import resize

from unmask.data.annotations.objects import Shown, Target
from unmask.data.transforms.kernels.crop import FixedCrop, RandomCrop, WholeImage, fill_for
from unmask.data.transforms.labelled.detection import Fitted, Jitter
from unmask.data.transforms.labelled.segmentation import SceneView
from unmask.errors import UserError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ramp(height, width, channels=3, dtype=torch.uint8):
    rows = torch.linspace(0, 120, height)[:, None] + torch.linspace(0, 130, width)
    return (rows + torch.arange(channels)[:, None, None]).to(dtype)


@pytest.mark.parametrize("shape", [(40, 60), (300, 20), (100, 600), (7, 500), (1, 1)])
def test_crops_are_those_of_torchvision(shape):
    view = RandomCrop((32, 32), scale=(0.08, 1.0))
    theirs = RandomResizedCrop(32, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    for seed in range(120):
        torch.manual_seed(seed)
        expected = theirs.make_params([torch.zeros(1, *shape)])
        assert view.box(*shape, seeded(seed)) == tuple(expected[k] for k in ("top", "left", "height", "width"))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from([1, 2, 3, 4, 10]),
    st.sampled_from([torch.uint8, torch.float32]),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),
    st.integers(0, 1000),
)
def test_any_image_gives_a_view_of_the_size_asked_for(height, width, channels, dtype, size, seed):
    image = ramp(height, width, channels, dtype)
    before = image.clone()
    for view in (RandomCrop(size), WholeImage(size)):
        result = view(image, seeded(seed))
        assert result.shape == (channels, *size)
        assert result.dtype == dtype
        assert result.isfinite().all()
        assert torch.equal(result, view(image, seeded(seed)))
    assert torch.equal(image, before)


def test_the_view_depends_on_the_generator_alone():
    view, image = RandomCrop((16, 16)), ramp(50, 70)
    first = view(image, seeded(1))
    torch.manual_seed(123)
    assert torch.equal(first, view(image, seeded(1)))
    assert not torch.equal(first, view(image, seeded(2)))
    state = torch.get_rng_state()
    view(image, seeded(3))
    assert torch.equal(state, torch.get_rng_state())


def test_half_of_the_views_are_mirrored_and_none_without_flip():
    image = ramp(30, 30)
    rising = lambda x: bool(x[0, 0, 0] < x[0, 0, -1])  # noqa: E731
    generator = seeded()
    mirrored = sum(not rising(RandomCrop((8, 8))(image, generator)) for _ in range(400))
    assert 150 < mirrored < 250
    assert all(rising(RandomCrop((8, 8), flip=False)(image, seeded(i))) for i in range(50))


def test_crops_cover_the_share_of_the_area_asked_for():
    view, generator = RandomCrop((8, 8), scale=(0.2, 0.5)), seeded()
    shares = [h * w / 10000 for _, _, h, w in (view.box(100, 100, generator) for _ in range(300))]
    assert 0.19 < min(shares) < 0.23
    assert 0.47 < max(shares) < 0.51


def test_crops_for_a_wide_result_are_wide():
    view, generator = RandomCrop((16, 32), scale=(0.2, 0.3)), seeded()
    shapes = [w / h for _, _, h, w in (view.box(200, 200, generator) for _ in range(200))]
    assert 1.4 < min(shapes)
    assert max(shapes) < 2.8


def test_uint8_is_clamped_and_floats_ring_freely():
    step = torch.zeros(1, 32, 32)
    step[..., 16:] = 255
    whole = WholeImage((64, 64))
    assert whole(step).max() > 255
    assert whole(step.to(torch.uint8)).max() == 255


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(16, 40), (40, 16), (24, 24), (33, 7)])
def test_views_are_torchvisions_antialiased_resize_to_the_pixel_also_where_they_are_not_square(size, dtype):
    """Views of noise, which aliases: without antialiasing every pixel differs."""
    noise = torch.randint(0, 256, (3, 150, 210), generator=seeded(0)).to(dtype)
    for view in (RandomCrop(size, scale=(0.6, 1.0), flip=False), FixedCrop(size, flip=False)):
        seen = view(noise, seeded(1))
        if isinstance(view, RandomCrop):
            top, left, height, width = view.box(150, 210, seeded(1))
        else:
            (height, width), generator = view.window(150, 210), seeded(1)
            top, left = (
                int(torch.randint(0, have - part + 1, (1,), generator=generator))
                for have, part in ((150, height), (210, width))
            )
        part = noise[:, top : top + height, left : left + width]
        assert torch.equal(seen, resize(part, list(size), InterpolationMode.BICUBIC, antialias=True))
    share = max(size[0] / 150, size[1] / 210)
    covering = [max(size[0], round(150 * share)), max(size[1], round(210 * share))]
    whole = resize(noise, covering, InterpolationMode.BICUBIC, antialias=True)
    top, left = (covering[0] - size[0]) // 2, (covering[1] - size[1]) // 2
    assert torch.equal(WholeImage(size)(noise), whole[:, top : top + size[0], left : left + size[1]])


def test_the_whole_image_is_covered_and_centred():
    image = torch.zeros(1, 20, 60, dtype=torch.uint8)
    image[:, :, 20:40] = 200
    assert (WholeImage((20, 20))(image) == 200).all()
    assert torch.equal(WholeImage((20, 60))(image), image)
    assert WholeImage((10, 10))(image).float().mean() > 195


def test_a_view_never_shares_memory_with_the_image():
    image = ramp(16, 16)
    for view in (RandomCrop((16, 16), scale=(1.0, 1.0), flip=False), WholeImage((16, 16))):
        view(image, seeded()).zero_()
    assert image.float().mean() > 50


@pytest.mark.parametrize(
    "options",
    [{"size": (1, 4)}, {"size": (4, 4), "scale": (0.0, 1.0)}, {"size": (4, 4), "scale": (0.5, 0.2)}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError):
        RandomCrop(**options)


def test_opencv_has_no_threads_that_a_fork_would_lose():
    from unmask.data.codecs.opencv import cv2

    assert cv2.getNumThreads() == 1


def test_boxes_and_masks_move_with_the_image():
    image = torch.full((3, 50, 80), 60, dtype=torch.uint8)
    image[:, 10:30, 20:60] = 250
    masks = (image[:1] > 100).to(torch.uint8)
    one = torch.tensor([0])
    crowd = torch.tensor([False])
    shown = Shown(image, Target(torch.tensor([[20.0, 10, 60, 30]]), one, crowd, masks))
    view, kept = Jitter((64, 64), (60.0,) * 3), 0
    for seed in range(20):
        seen = view(shown, torch.Generator().manual_seed(seed))
        again = view(shown, torch.Generator().manual_seed(seed))
        assert all(torch.equal(a, b) for a, b in zip((seen.image, *seen.target), (again.image, *again.target)))
        assert seen.image.shape == (3, 64, 64)
        rows, columns = torch.where(seen.image[0] > 155)
        if not len(seen.target.boxes):
            assert len(rows) < 64
            continue
        kept += 1
        box = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        torch.testing.assert_close(seen.target.boxes[0], box, atol=1.6, rtol=0)
        same = (seen.target.masks[0] > 0) == (seen.image[0] > 155)
        assert same.float().mean() > 0.95
    assert kept > 15
    crowded = Shown(image, shown.target._replace(crowd=torch.tensor([True])))
    assert not len(view(crowded, torch.Generator().manual_seed(0)).target.boxes)
    fitted = Fitted((64, 128), (60.0,) * 3)(image.transpose(1, 2))  # upright: the window turns
    assert fitted.image.shape == (3, 128, 64)
    assert fitted.rates == (102 / 80, 64 / 50)


def test_what_lies_beyond_an_image_fits_its_dtype_whatever_the_mean_of_the_encoder():
    assert fill_for((-3.0, 12.5, 5e6), torch.uint8) == [0, 12.5, 255]
    assert fill_for((-3.0, 5e6), torch.float32) == [-3, 5e6]
    image, far = torch.full((3, 20, 40), 7, dtype=torch.uint8), (-900.0, 12.0, 5e6)
    both = torch.cat([image, torch.zeros(1, 20, 40, dtype=torch.uint8)])
    shown = SceneView((32, 32), side=32, fill=far, scale=(0.5, 0.5), distort=False)(both, seeded())
    assert shown.dtype == torch.uint8
    assert {tuple(column) for column in shown[:3].flatten(1).T.tolist()} == {(7, 7, 7), (0, 12, 255)}
