"""Recipes after MAE's own: each is planned as it stands, and trains on a folder of images when flags make it small."""

import inspect

import pytest
import torch
from support.methods import teacher_file
from support.small import SMALL, sheet_of

import unmask
from unmask.cli.commands.pretrain import asked_for
from unmask.cli.options.pretrain import Pretrain
from unmask.errors import UserError
from unmask.planning.model import plan_model
from unmask.planning.plan import Plan
from unmask.planning.recipe_book import Setting, follow, recipes, told_what_is_needed
from unmask.registry import parse
from unmask.runtime.machine import Machine

GPU, CPU = Machine("cuda", "a GPU", 8, 2**36, "bf16", ""), Machine("cpu", "a CPU", 2, 2**34, "32", "")
NAMES = [name for name, recipe in recipes().items() if recipe.verb == "pretrain"]
PHOTOS = sheet_of(
    channel_counts={"3": 50_000}, count=50_000, median_size=(256, 256), share_extreme=0.1, bits={"8": 50_000},
    value_range=(0.0, 255.0),
)  # fmt: skip
TINY = "embed_dim=48, depth=2, num_heads=3"
MODELS = {  # where a recipe's model is part of it
    "modern_mae": f"vit_small_patch16_rope_mixed_224({TINY}, num_reg_tokens=4, swiglu_mlp=True)",
    "pixio": f"vit_tiny_patch16_224({TINY}, class_tokens=8, learned_positions=True)",
    "eva02_style": f"eva02_tiny_patch14_224({TINY})",
    "hiera_mae": "hiera_tiny_224(embed_dim=8, num_heads=1, stages=(1, 1, 1, 1), q_pool=2)",
}
DECODERS = {
    "cross": "dim=16, depth=1, heads=2",
    "full": "dim=16, depth=2, heads=2",
    "multiscale": "dim=16, depth=1, heads=2",
}


def teachers(name):
    """Flags that give a recipe the teacher that it needs."""
    options = recipes()[name].options(Setting())
    weights = {"attention_of": str(teacher_file()), "of": str(teacher_file())}
    flags = {}
    for option in ("method", "target"):
        part, written = parse(options.get(option) or "pixels")
        if weights.keys() & written.keys():
            written = {key: weights.get(key, value) for key, value in written.items()}
            flags[option] = f"{part}({', '.join(f'{key}={value!r}' for key, value in written.items())})"
    return flags


@pytest.mark.parametrize("machine", [GPU, CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_planned_without_another_flag_than_its_teacher(name, machine):
    given = {"recipe": name} | teachers(name)
    options, reasons = follow(Pretrain(data="x", **given), "pretrain", machine.device)
    plan = Plan(asked_for(options), dict(reasons))
    with torch.device("meta"):
        encoder = plan_model(plan, PHOTOS, machine)
    values = recipes()[name].options(Setting(machine.device))
    assert values.keys() - given.keys() <= plan.reasons.keys() | {"blr", "epochs", "warmup"}
    assert plan.reasons["mask"].startswith(f"recipe {name}")
    assert encoder.grid.num_units > 4


def shrunk(name):
    """Flags that make a recipe small enough for a test, and keep what it is about."""
    options, hiera = recipes()[name].options(Setting()), name == "hiera_mae"
    small = {"model": MODELS.get(name, SMALL["model"]), "image_size": 64 if hiera else 32, "channels": 3}
    small |= {"patch_size": 32 if hiera else 8, "batch": 4, "steps": 4, "device": "cpu", "precision": "32"}
    if "decoder" in options:
        kind = parse(options["decoder"])[0]
        small["decoder"] = f"{kind}({DECODERS[kind]})"
    elif options.get("method") != "simmim":
        small["decoder"] = SMALL["decoder"]
    return small | teachers(name) | ({"resolutions": "none"} if "resolutions" in options else {})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_trains_on_a_folder_of_images(name, photos, tmp_path):
    run = unmask.pretrain(photos, out=tmp_path / "run", recipe=name, **shrunk(name))
    assert run.finished
    settings, values = run.config.options(), recipes()[name].options(Setting())
    for key in ("mask", "crop", "crop_kind", "flip"):
        assert settings[key] == values.get(key, settings[key]), key
    assert run.config.record.reasons["mask"].startswith(f"recipe {name}")
    assert torch.isfinite(run.encoder()(torch.zeros(1, 3, *settings["image_size"])).units).all()


@pytest.mark.parametrize("name", [name for name in NAMES if recipes()[name].needs])
def test_recipes_say_how_to_give_the_teacher_that_they_lack(name):
    with pytest.raises(UserError, match=f"--recipe {name} needs .*PATH.* Without it: the teacher"):
        with told_what_is_needed(name, "pretrain"):
            raise UserError("the teacher cannot be opened: no network")
    with pytest.raises(UserError, match=r"^--mask"), told_what_is_needed(name, "pretrain"):
        raise UserError("--mask is another matter")


def test_a_recipe_fills_in_the_method_unless_another_is_given():
    dbot, _ = follow(Pretrain(data="x", recipe="dbot"), "pretrain")
    own, reasons = follow(Pretrain(data="x", recipe="dbot", method="simmim"), "pretrain")
    assert (dbot.method, own.method) == ("dbot(rounds=2)", "simmim")
    assert "method" not in reasons
    assert follow(Pretrain(data="x", recipe="texture"), "pretrain")[0].crop_kind == "fixed"
    assert follow(Pretrain(data="x", recipe="texture", crop_kind="whole"), "pretrain")[0].crop_kind == "whole"


def test_every_recipe_is_a_function_that_says_what_it_does():
    for name in NAMES:
        make = recipes()[name].options
        assert len(inspect.signature(make).parameters) == 1
        assert make.__name__ == "<lambda>" or make.__doc__
