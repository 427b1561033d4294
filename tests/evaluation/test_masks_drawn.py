"""Any mask can be drawn on images: by a run, by an encoder, or by the images alone; or it says why not."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.methods import small_encoder, small_method, teacher_file, views_of

import unmask
from unmask.errors import UserError
from unmask.evaluation.masks_drawn import MaskMaker, mask_rows, named
from unmask.registry import find, names

CHANCE = 5
LEARNED = [name for name in names("mask") if "errors" in find("mask", name).needs]
OTHERS = [name for name in names("mask") if name not in LEARNED and name != "multiblock"]  # whose blocks need 5 x 5


def drawn(maker, x):
    return maker(x, torch.Generator().manual_seed(CHANCE))


@pytest.fixture
def x():
    return views_of(small_method("mae"), count=2)["views"][0].float()


@pytest.mark.parametrize("name", OTHERS)
def test_every_mask_can_be_drawn_by_a_trained_method_and_by_an_encoder_alone(name, x):
    for model in (small_method("mae"), small_encoder()):
        maker = MaskMaker(name, model.eval())
        mask = drawn(maker, x)
        assert torch.equal(mask.hidden, drawn(maker, x).hidden)
        assert mask.hidden.shape == (2, maker.sampler.count(maker.grid))
        hidden = maker.hidden_pixels(mask)
        assert hidden.shape == (2, 1, 32, 32)
        assert hidden.sum() == mask.hidden.numel() * 64


@pytest.mark.parametrize("mask", ["attention", "adaptive", "parts"])
def test_a_run_draws_its_mask_as_it_trained_with_it(mask, x):
    method = small_method(f"mae(mask={mask})").eval()
    if method.guide.own is not None:
        with torch.no_grad():
            for parameter in method.guide.own.module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))  # another teacher than the encoder
    mine = method.draw({"views": [x]}, torch.Generator().manual_seed(CHANCE))
    assert torch.equal(drawn(MaskMaker(mask, method), x).hidden, mine.hidden)
    frozen = f"{mask}(of={str(teacher_file())!r})"
    if mask != "adaptive":
        assert not torch.equal(drawn(MaskMaker(frozen, method), x).hidden, mine.hidden)


def test_masks_move_with_the_progress_that_is_asked_for(x):
    method = small_method("mae").eval()
    counts = [drawn(MaskMaker("random(ratio=(0.25, 0.75))", method, p), x).hidden.shape[1] for p in (0.0, 0.5, 1.0)]
    assert counts == [4, 8, 12]


def test_masks_that_need_what_is_not_there_say_so(x):
    for name in names("mask"):
        if name in LEARNED or find("mask", name).needs - {"progress"}:
            with pytest.raises(UserError, match=rf"{name} looks at images with a network: name a run"):
                MaskMaker(name, None, 1.0, (32, 32), 8)
    for name in LEARNED:
        for model in (small_method("mae"), small_encoder()):
            with pytest.raises(UserError, match=f"{name} is learned in a training, and this model was trained without"):
                MaskMaker(name, model)
    with pytest.raises(UserError, match="leaves none of 16 patches visible"):
        MaskMaker("random(ratio=0.99)", small_encoder())


def test_what_is_hidden_is_grey_in_the_drawing(x):
    makers = {text: MaskMaker(text, None, 1.0, (32, 32), 8) for text in named(["random", "block"], [0.25, 0.5])}
    rows, note = mask_rows(["a", "b"], [*x], makers, seed=0)
    assert note == "grey: hidden patches (25%, 50%, 25%, 50%)"
    for row in rows:
        shown, *masked = row.columns.values()
        assert list(row.columns) == ["input", *makers]
        shares = [(image == 0.62).all(axis=2).mean() for image in masked]
        np.testing.assert_allclose(shares, [0.25, 0.5, 0.25, 0.5])
        assert all(np.array_equal(image[image != 0.62], shown[image != 0.62]) for image in masked)


@pytest.mark.slow
def test_the_command_draws_masks_of_a_run_of_weights_and_of_images_alone(run, photos, tmp_path, monkeypatch):
    options = {"most": 1, "device": "cpu"}
    rebuilt = unmask.show(
        run.path, photos, mask=("attention", "noise(colour='red')"), out=tmp_path / "r.png", **options
    )
    masks = ("tube", "attention", "parts(parts=3)", "noise")
    options["what"] = "masks"
    whole = unmask.show(run.path, photos, mask=masks, out=tmp_path / "w.png", **options)
    weights = unmask.show(run.path / "encoder.safetensors", photos, mask="attention", out=tmp_path / "e.png", **options)
    monkeypatch.chdir(tmp_path)
    alone = unmask.show(photos, mask=("block", "noise"), ratio=(0.5, 0.9), **options)
    sizes = {Image.open(path).size for path in (rebuilt, whole, weights, alone)}
    assert len(sizes) > 1
    assert alone.resolve() == tmp_path / "show" / "masks.png"
    with pytest.raises(UserError, match="attention looks at images with a network"):
        unmask.show(photos, mask="attention", **options)
    with pytest.raises(UserError, match="adaptive is learned in a training"):
        unmask.show(run.path, photos, mask="adaptive", out=tmp_path / "x.png", **options)
    with pytest.raises(UserError, match="nothing is hidden"):
        unmask.show(run.path, photos, what="features", mask="block", out=tmp_path / "x.png")
