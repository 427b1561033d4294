"""Options that cannot work are refused before the data is opened, and no others."""

import pytest
from support.small import SMALL, sheet_of

import unmask
from unmask.cli.options.pretrain import Pretrain
from unmask.errors import UserError
from unmask.plain import plain
from unmask.planning.initial_weights import Start
from unmask.planning.loaders import divide
from unmask.planning.model import plan_model
from unmask.planning.plan import Plan
from unmask.planning.validate import refuse_early
from unmask.runtime.machine import machine

TINY = "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"


class Opened(Exception):
    pass


@pytest.fixture(autouse=True)
def _data_that_must_not_be_opened(monkeypatch):
    def look_at(*_, **__):
        raise Opened

    monkeypatch.setattr("unmask.cli.commands.pretrain.look_at", look_at)


def begin(tmp_path, **options):
    unmask.pretrain("anything", out=tmp_path / "run", **{"device": "cpu", "precision": "32"} | options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"decoder": "cross(predict=0)"}, "above 0 and at most 1"),
        ({"decoder": "cross(predict=1.5)"}, "got 1.5"),
        ({"decoder": "cross(layers=7)"}, "has 6 layers that cross can mix, got layers=7"),  # of the model of a CPU
        ({"decoder": "cross(layers=3)", "model": TINY}, "has 2 layers"),
        ({"decoder": "partial(keep=0)"}, "keep is a share"),
        ({"decoder": "windowed(window=0)"}, "window, in units along each axis, is a whole number, 1 or more; got 0"),
        ({"decoder": "full(depth=0)"}, "the decoder's depth is a whole number, 1 or more; got 0"),
        ({"decoder": "full(heads=0)"}, "the decoder's heads is a whole number"),
        ({"decoder": "full(dim=100)"}, "got dim 100 and 16 heads; near it 96 or 112"),
        ({"decoder": "full(dim=2, heads=1)"}, "too small for positions"),
        ({"decoder": "full(deph=2)"}, "did you mean 'depth'"),
        ({"decoder": "full(position='learned')"}, "'fixed' or 'stored'"),
        ({"method": "mae(symmetric=True)", "decoder": "cross"}, "cannot take tokens of all units"),
        ({"mask": "random(ratio=1)"}, "both excluded; got 1"),
        ({"mask": "blob(radius=0)"}, "radius, in units, is a whole number, 1 or more; got 0"),
        ({"mask": "block(boxes=0)"}, "boxes is a whole number"),
        ({"target": "pca(components=0)"}, "components is a whole number, 1 or more; got 0"),
        ({"target": "pca(components=49)", "patch_size": 4, "channels": 3}, "can keep 1 to 48"),
        ({"target": "pixels(normalise=True)"}, "did you mean 'normalize'"),
        ({"batch": 8, "views_per_image": 3}, "3 crops .* do not go evenly into 8 .* near it 2 or 4"),
        ({"batch": 8, "accumulate": 4, "views_per_image": 4}, "4 crops .* do not go evenly into 2"),
        ({"batch": 9, "accumulate": 2}, "near it are 8 and 10"),
        ({"image_size": 30, "patch_size": 8}, r"the nearest is \(32, 32\)"),
        ({"image_size": 100, "model": "hiera_tiny_224"}, r"no multiple of Hiera's 32; the nearest is \(96, 96\)"),
        ({"resolutions": "60:0.5,224", "patch_size": 16}, r"no multiple of patch size 16; the nearest is \(64, 64\)"),
        ({"image_size": 16, "patch_size": 16}, "a mask needs at least 2 units"),
        ({"model": "vit_tiny_patch16_224(window=0)"}, "a whole number, 1 or more; got 0"),
        ({"model": "vit_tiny_patch16_224(dept=2)"}, "timm cannot build"),
        ({"model": "resnet50"}, "Models that can"),
        ({"init": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"method": "mae(mask=nosuch)"}, "no mask 'nosuch'"),
        ({"method": 'mae(mask="block")', "mask": "grid"}, "given twice"),
        ({"views": "simclar"}, "simclr"),
        ({"precision": "fp8"}, "fp8"),
        ({"method": "simclr", "batch": 1}, "simclr compares the images of a batch: --batch is 2 or more, got 1"),
        ({"method": "dinov2", "batch": 1}, "2 or more, got 1"),
        ({"method": "byol", "batch": 8, "accumulate": 2}, "parts of it are not the same.*--grad-cache"),
        ({"method": "ibot", "grad_cache": True, "accumulate": 2}, "which ibot does not"),
        ({"method": "mocov3", "batch": 8, "views_per_image": 2}, "puts each in it 2 times"),
        ({"method": "simclr", "views": "crops"}, "needs 2 views .* as simclr simclr makes; --views crops makes 1"),
        ({"method": "mae", "views": ("simclr", "simclr")}, "needs 1 view of each image, as crops makes"),
        ({"method": "dino(local=4)", "views": "dino(local=3)"}, r"needs 6 views .* makes 5"),
        ({"method": "dino", "crop_kind": "whole"}, "belongs to the view crops"),
        ({"method": "swav", "crop": 0.05}, "large ones from --crop on, which must lie above it; got 0.05"),
        ({"method": "simclr", "mask": "random"}, "simclr has no --mask"),
        ({"method": "ijepa", "mask": "random"}, "its mask is multiblock; got random"),
        ({"method": "ibot", "mask": "multiblock"}, "either visible or hidden, once; multiblock leaves some out"),
        ({"mask": "multiblock", "decoder": "windowed"}, "puts all patches back on the grid"),
        ({"method": "data2vec", "decoder": "cross(layers=2)"}, "reads 2 layers .* gives it the last one"),
        ({"method": "ijepa", "image_size": 32, "patch_size": 16}, "leave no context on a grid of 4"),
        ({"method": "simmim", "model": "hiera_tiny_224"}, "Hiera drops them; use mae"),
        ({"method": "byol", "model": "swin_tiny_patch4_window7_224"}, "cannot be pretrained, with this or another"),
        ({"method": "dino", "model": "convnext_atto"}, "cannot be pretrained, with this or another"),
        ({"method": "dino(temperature=0)"}, r"dino\(temperature=0\): temperature must be above 0, got 0"),
        ({"method": "byol(momentum=1.5)"}, "momentum must be between 0 and 1, got 1.5"),
        ({"method": "swav(prototypes=2.5)"}, "prototypes is a whole number; got 2.5"),
        ({"method": "dino(balance='sinkhorm')"}, "balance is 'centre' or 'sinkhorn'; got 'sinkhorm'"),
        ({"method": "simclr(momentum=0.9)"}, "simclr has no option 'momentum'"),
        ({"method": "mae(mask=3)"}, "a mask is named by text"),
        ({"method": "data2vec(masks_per_image=-1)"}, "masks_per_image must be above 0"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_it_is_refused_in_one_line_before_the_data_is_opened(options, words, tmp_path):
    with pytest.raises(UserError, match=words) as caught:
        begin(tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_warmup_that_leaves_no_step_is_refused_before_too():
    options = Pretrain("anything", init="weights", decoder_warmup=5, steps=5)
    with pytest.raises(UserError, match="leaves none of 5 steps"):
        refuse_early(plain(options), Start(), machine("cpu", "32"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        SMALL,
        {"decoder": "cross(layers=6)"},
        {"decoder": "windowed(window=3)", "patch_size": 12},  # the image size will be a multiple
        {"target": "pca(components=96)"},  # fits or not, as the data's size and channels will say
        {"target": "pca(components=96)", "patch_size": 4},
        {"model": "vit_tiny_patch16_224(window=4)", "image_size": (96, 64)},
        {"model": "hiera_tiny_224"},
        {"model": "eva02_tiny_patch14_224", "mask": "block", "decoder": "partial"},
        {"recipe": "budget"},
        {"recipe": "mae_vit_huge"},
        {"decoder": "parts_of_mine.picky"},
        {"model": "parts_of_mine.picky", "decoder": "cross(layers=99)"},
        {"views_per_image": 3, "accumulate": 2},
        {"resolutions": "auto"},
    ],
    ids=str,
)
def test_what_may_work_gets_to_the_data(options, tmp_path, monkeypatch):
    (tmp_path / "parts_of_mine").mkdir()
    (tmp_path / "parts_of_mine" / "picky.py").write_text(
        "__all__ = ['Picky']\nclass Picky:\n    def __init__(self, grid, **_):\n        raise ValueError(grid)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Opened):
        begin(tmp_path, **options)


@pytest.mark.parametrize(("crops", "parts"), [(3, None), (1, 3), (3, 2)])
def test_a_batch_that_is_chosen_goes_evenly_into_parts_and_crops(crops, parts):
    sheet = sheet_of(channel_counts={"3": 900}, count=900, median_size=(64, 64), share_extreme=0.1)
    plan = Plan(plain(Pretrain("x", views_per_image=crops, accumulate=parts)))
    plan_model(plan, sheet, machine("cpu", "32"))
    assert divide(plan.settings["batch"], plan.settings["accumulate"], crops) % crops == 0
    assert 16 < plan.settings["batch"] <= 32


def test_an_image_size_that_is_chosen_is_a_multiple_of_the_patch_asked_for():
    sheet = sheet_of(channel_counts={"3": 900}, count=900, median_size=(300, 200), share_extreme=0.1)
    plan = Plan(plain(Pretrain("x", patch_size=12)))
    plan_model(plan, sheet, machine("cpu", "32"))
    assert plan.settings["image_size"] == [60, 60]
    assert "multiple of the patch" in plan.reasons["image_size"]
