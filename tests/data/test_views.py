"""Views of each method: pure functions of the generator, any number of channels, torchvision's kernels."""

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import resize

from unmask.data.transform import make_transform
from unmask.data.transforms.kernels.colour import Colours
from unmask.data.transforms.kernels.crop import FixedCrop, RandomCrop, WholeImage
from unmask.errors import UserError
from unmask.registry import names


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def photo_like(channels=3, dtype=torch.uint8, side=48):
    coarse = torch.rand(1, channels, 6, 6, generator=seeded(3))
    x = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")[0].clamp(0, 1)
    return (255 * x).to(torch.uint8) if dtype == torch.uint8 else 4000 * x - 1000


CONTEXT = {"size": (32, 32), "patch": 8}
NUM_VIEWS = {"crops": 1, "simclr": 1, "byol": 2, "dino": 10, "beit": 2, "shifted": 2}


def test_every_transform_is_counted_here():
    assert set(NUM_VIEWS) == set(names("transform"))


@pytest.mark.parametrize("name", names("transform"))
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_transform_is_a_function_of_the_generator_and_keeps_the_dtype(name, channels, dtype):
    transform, image = make_transform((name,), channels=channels, **CONTEXT), photo_like(channels, dtype)
    before = image.clone()
    state = torch.get_rng_state()
    views = transform(image, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(image, before)
    assert len(views) == len(transform.sizes) == NUM_VIEWS[name]
    assert [view.shape for view in views] == [(channels, *size) for size in transform.sizes]
    assert {view.dtype for view in views} == {dtype}
    assert all(view.isfinite().all() for view in views)
    assert all(torch.equal(a, b) for a, b in zip(views, transform(image, seeded(1))))
    assert not all(torch.equal(a, b) for a, b in zip(views, transform(image, seeded(2))))


@pytest.mark.parametrize("name", [name for name in names("transform") if name != "crops"])
def test_what_has_no_meaning_for_bands_is_left_out_and_said(name):
    assert not any("no colours" in note for note in make_transform((name,), channels=3, **CONTEXT).notes)
    notes = make_transform((name,), channels=5, **CONTEXT).notes
    assert any("saturation" in note and "5 channels" in note for note in notes)


def test_a_text_may_overrule_what_the_plan_gives_and_views_add_up():
    transform = make_transform(("crops(crop=1.0)", "simclr(size=(16, 16))"), channels=3, crop=0.1, **CONTEXT)
    assert transform.sizes == [(32, 32), (16, 16)]
    assert transform.views[0].window.scale == (1.0, 1.0)
    assert transform.views[1].window.scale == (0.1, 1.0)


def test_small_views_of_dino_are_whole_patches_and_cover_less():
    transform = make_transform(("dino(local=3)",), channels=3, size=(64, 64), patch=8, crop=0.3)
    assert transform.sizes == [(64, 64)] * 2 + [(24, 24)] * 3
    assert transform.views[0].window.scale == (0.3, 1.0)
    assert transform.views[2].window.scale == (0.05, 0.3)
    assert make_transform(("dino(local=0)",), channels=3, size=(64, 64), patch=8).sizes == [(64, 64)] * 2


def test_the_second_size_of_beit_shows_the_same_crop():
    transform = make_transform(("beit",), channels=3, size=(64, 64), patch=8)
    image = photo_like(side=100)
    for seed in range(5):
        large, small = transform(image, seeded(seed))
        shrunk = resize(large, [32, 32], InterpolationMode.BICUBIC, antialias=True)
        assert (shrunk.float() - small.float()).abs().mean() < 1


def test_colours_change_by_torchvisions_kernels_as_often_as_asked():
    image = photo_like(side=64)
    grey = [Colours(grey=0.3)(image, seeded(i)) for i in range(200)]
    assert 35 < sum(bool((x[0] == x[1]).all()) for x in grey) < 85
    assert torch.equal(Colours(grey=1.0)(image, seeded()), F.rgb_to_grayscale(image, 3))
    assert torch.equal(Colours(solarise=1.0)(image, seeded()), F.solarize(image, 128))
    generator = seeded(4)
    sigma = torch.empty(1).uniform_(0.1, 2.0, generator=generator).item()
    assert torch.equal(Colours(blur=1.0)(image, seeded(4)), F.gaussian_blur(image, [7, 7], sigma))
    means = [float(Colours(jitter=(0.4, 0, 0, 0))(image, seeded(i)).float().mean()) for i in range(60)]
    assert min(means) < 0.75 * float(image.float().mean()) < 1.2 * float(image.float().mean()) < max(means)
    assert torch.equal(Colours()(image, seeded()), image)


def test_without_jitter_nothing_more_is_drawn():
    plain, coloured = seeded(5), seeded(5)
    crop = make_transform(("crops",), channels=3, **CONTEXT)(photo_like(), plain)[0]
    jittered = make_transform(("crops(jitter=1e-9)",), channels=3, **CONTEXT)(photo_like(), coloured)[0]
    assert (crop.float() - jittered.float()).abs().max() <= 2  # the same crop, colours but rounded
    assert not torch.equal(plain.get_state(), coloured.get_state())


def test_deep_images_are_recoloured_on_their_own_scale():
    x = photo_like(1, torch.float32)
    result = Colours(jitter=(0.4, 0.4, 0, 0))(x, seeded(1))
    assert result.min() >= x.min() - 1
    assert result.max() <= x.max() + 1
    assert not torch.allclose(result, x, atol=10)
    middle = (x.min() + x.max()) / 2
    assert torch.allclose(Colours(solarise=1.0)(x, seeded()), torch.where(x >= middle, 2 * middle - x, x), atol=0.1)


@pytest.mark.parametrize(
    "text", ["crops(jitter=2)", "crops(crop_kind='hole')", "dino(smallest=0.5)", "simclr(blur=-1)"]
)
def test_bad_options_of_transforms_are_refused(text):
    with pytest.raises(UserError):
        make_transform((text,), channels=3, **CONTEXT)


def test_every_kind_of_crop_has_a_name_and_only_whole_is_without_chance():
    x = photo_like()
    for kind, window in {"random": RandomCrop, "fixed": FixedCrop, "whole": WholeImage}.items():
        made = make_transform(("crops",), channels=3, crop_kind=kind, flip=False, **CONTEXT)
        assert isinstance(made.views[0].window, window)
        assert torch.equal(made(x, seeded(1))[0], made(x, seeded(2))[0]) is (kind == "whole")
        flipped = make_transform(("crops",), channels=3, crop_kind=kind, flip=True, **CONTEXT)
        assert len({flipped(x, seeded(i))[0].numpy().tobytes() for i in range(20)}) > 1
    assert torch.equal(WholeImage((16, 16), flip=True)(x), WholeImage((16, 16))(x))  # judging has no chance
