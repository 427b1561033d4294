"""Published recipes: every one is built and compared with the publication's own rules and numbers."""

import math
import re
from pathlib import Path

import pytest
import torch
from support.small import sheet_of

from unmask.cli.commands.pretrain import asked_for as asked_of_pretrain
from unmask.cli.commands.transfer import asked_for as asked_of_transfer
from unmask.cli.options.pretrain import Pretrain
from unmask.cli.options.transfer import Transfer
from unmask.cli.task_options import joined
from unmask.errors import UserError
from unmask.methods.mae import MAE
from unmask.models.classifier import Classifier
from unmask.models.encoder import create_encoder
from unmask.planning.batch import LARGEST
from unmask.planning.length import plan_length
from unmask.planning.model import plan_model
from unmask.planning.plan import Plan
from unmask.planning.recipe_book import NOT_RUN, Setting, follow, markdown, recipes
from unmask.runtime.machine import Machine
from unmask.tasks.classification.objective import Classify
from unmask.tasks.classification.plan import plan_transfer
from unmask.tasks.classification.settings import ClassifySettings
from unmask.training.optimizer import groups
from unmask.training.schedule import learning_rate

COUNT = 1_281_167  # images of ImageNet-1K's training split
GPU = Machine("cuda", "a GPU", 8, 2**36, "bf16", "")
CPU = Machine("cpu", "a CPU", 2, 2**34, "32", "")
MPS = Machine("mps", "another GPU", 8, 2**34, "32", "")
SHEET = sheet_of(
    channel_counts={"3": COUNT},
    count=COUNT,
    median_size=(375, 500),
    share_extreme=0.1,
    bits={"8": COUNT},
    value_range=(0.0, 255.0),
)
PRETRAIN = [name for name, recipe in recipes().items() if recipe.verb == "pretrain" and "_vit_" in name]
TRANSFER = [name for name, recipe in recipes().items() if recipe.verb == "transfer"]
DEPTH = 4  # blocks of encoders whose number of parameters does not matter
COUNTS = {  # parameters without position tables: of the encoder, of the decoder
    "mae_vit_base": (85_647_360, 26_008_320),
    "mae_vit_large": (303_099_904, 26_139_392),
    "mae_vit_large_ablation": (303_099_904, 26_139_392),
    "mae_vit_huge": (630_435_840, 26_178_124),
}
PEAKS = {  # learning rate at the published batch
    "mae_finetune_vit_base": 2e-3,
    "mae_finetune_vit_large": 4e-3,
    "mae_finetune_vit_base_paper": 4e-3,
    "mae_linear_vit_large_paper": 6.4,
    "mae_scratch_vit_huge": 1.6e-3,
    "mae_partial_vit_large": 4e-3,
    "mae_lite_finetune_vit_tiny": 4e-3,
}


def pretrain_plan(machine=GPU, **given):
    options, reasons = follow(Pretrain(data="x", **given), "pretrain", machine.device)
    plan = Plan(asked_of_pretrain(options), dict(reasons))
    with torch.device("meta"):
        return plan, plan_model(plan, SHEET, machine)


def transfer_plan(encoder, machine=GPU, count=COUNT, **given):
    options, reasons = follow(joined(Transfer, "classify")(run="x", on="y", **given), "transfer")
    plan = Plan(asked_of_transfer(options), dict(reasons))
    plan_transfer(plan, count, encoder, plan.settings["init"] == "none", SHEET, machine)
    return plan


def transfer_with(recipe):
    return follow(Transfer(run="x", on="y", recipe=recipe), "transfer")


def shallow(name):
    size = re.search(r"vit_([a-z]+)", name)[1]
    patch = 14 if size == "huge" else 16
    with torch.device("meta"):
        return create_encoder(f"vit_{size}_patch{patch}_224(depth={DEPTH})")


def elements(module):
    return sum(p.numel() for name, p in module.named_parameters() if not name.endswith("pos_embed"))


@pytest.mark.parametrize("name", PRETRAIN)
def test_pretraining_recipes_build_the_published_models_groups_and_schedule(name):
    plan, encoder = pretrain_plan(recipe=name)
    settings = plan.settings
    assert plan.reasons["model"] == plan.reasons["batch"] == f"recipe {name}"
    with torch.device("meta"):
        objective = MAE(encoder, settings["mask"], settings["target"], settings["decoder"])
    if name in COUNTS:
        assert (elements(objective.encoder), elements(objective.decoder)) == COUNTS[name]
    else:
        assert (
            round(elements(Classifier(encoder, [str(i) for i in range(1000)])) / 1e6, 1) == 5.7
        )  # ViT-Ti with its head

    decayed, free = groups(objective, settings["weight_decay"])
    assert (decayed["weight_decay"], free["weight_decay"], decayed["scale"], free["scale"]) == (0.05, 0.0, 1.0, 1.0)
    assert all(p.ndim == 1 for p in free["params"])
    assert {id(encoder.net.cls_token), id(objective.decoder.mask_token)} <= {id(p) for p in decayed["params"]}
    assert id(encoder.net.pos_embed) not in {id(p) for group in (decayed, free) for p in group["params"]}

    steps, _ = plan_length(plan, COUNT, 0.1, GPU, 0.0)
    warmup = round(settings["warmup"] * COUNT / settings["batch"])
    assert steps == round({"mae_vit_large_ablation": 800, "mae_lite_vit_tiny": 400}.get(name, 1600) * COUNT / 4096)
    assert warmup == round(40 * COUNT / 4096)
    rate = [
        learning_rate(step, steps=steps, warmup=warmup, peak=settings["lr"])
        for step in (0, warmup, (warmup + steps) // 2, steps)
    ]
    assert rate == pytest.approx([0.0, 2.4e-3, 1.2e-3, 0.0], abs=1e-6)
    assert (settings["crop"], settings["flip"]) == (0.08 if "lite" in name else 0.2, "on")
    assert ("normalize=False" in settings["target"]) == (name == "mae_vit_large_ablation")


@pytest.mark.parametrize(("machine", "masks"), [(MPS, 1), (GPU, 2)])
def test_the_budget_recipe_fits_data_and_machine_and_every_part_can_be_switched_off(machine, masks):
    settings = pretrain_plan(machine, recipe="budget")[0].settings
    assert settings["mask"] == "random(ratio=0.85)"
    assert settings["decoder"].startswith("cross(dim=128" if machine is MPS else "cross(dim=512")
    assert settings["resolutions"] == ("48:0.5,64" if machine is MPS else "160:0.5,224")
    assert settings["masks_per_image"] == masks
    own = {"mask": "block", "decoder": "full", "resolutions": "none", "masks_per_image": 3, "epochs": 7.0}
    plan, _ = pretrain_plan(machine, recipe="budget", **own)
    assert own.items() <= plan.settings.items()
    long, short = (pretrain_plan(GPU, recipe=name)[0] for name in ("budget", None))
    steps = [plan_length(plan, 100_000, 1e-4, GPU, 0.0)[0] for plan in (long, short)]
    assert steps[1] / steps[0] == pytest.approx(1600 / 300, rel=0.01)


@pytest.mark.parametrize("name", TRANSFER)
def test_transfer_recipes_build_the_published_groups_and_schedule(name):
    encoder = shallow(name)
    plan = transfer_plan(encoder, recipe=name)
    settings, published = plan.settings, recipes()[name].options(Setting())
    for key, value in published.items():
        if key != "blr":
            assert settings[key] in (value, list(value) if isinstance(value, tuple) else value), key
            assert plan.reasons[key] == f"recipe {name}", key
    assert settings["lr"] == pytest.approx(PEAKS.get(name, published["blr"] * settings["batch"] / 256))
    shape = {key: settings[key] for key in ("pooling", "norm", "eval_crop")}
    shape |= {"classes": [str(i) for i in range(1000)]}
    names = ("protocol", "blocks", "layer_decay", "smoothing", "mixup", "cutmix")
    with torch.device("meta"):
        classifier = Classifier(encoder, **shape)
    task = Classify(classifier, **{key: settings[key] for key in names})

    found = groups(task, settings["weight_decay"])
    scale, decay = settings["layer_decay"], settings["weight_decay"]
    scales = sorted({group["scale"] for group in found})
    if settings["protocol"] == "linear":
        assert len(found) == 2  # weight and bias of the head
        assert sum(len(group["params"]) for group in found) == 2
        assert {group["weight_decay"] for group in found} == {0.0}
    elif settings["protocol"] == "partial":
        assert scales == pytest.approx([scale, 1.0])  # the last block; norm and head
    elif scale == 1.0:
        assert scales == [1.0]
        assert len(found) == 3  # matrices, tokens and positions, vectors
    else:
        assert scales == pytest.approx(sorted(scale**k for k in range(DEPTH + 2)))
        assert len(found) == 2 * (DEPTH + 2) + 1  # at the input, tokens and positions are a group of their own
    for group in found:
        for p in group["params"]:
            free = p.ndim == 1 or p is encoder.net.cls_token or p is encoder.net.pos_embed
            assert group["weight_decay"] == (0.0 if free else decay)

    fit = plan.fill(ClassifySettings).fit(COUNT)
    assert fit.steps == round(published["epochs"] * COUNT / published["batch"])
    assert fit.warmup == round(published["warmup"] * COUNT / published["batch"])
    assert fit.betas == published.get("betas", fit.betas)
    at = {"steps": fit.steps, "warmup": fit.warmup, "peak": fit.lr, "floor": fit.floor}
    rate = [learning_rate(step, **at) for step in (0, fit.warmup, (fit.warmup + fit.steps) // 2, fit.steps)]
    middle = (fit.lr + published["floor"]) / 2
    assert rate == pytest.approx([0.0, fit.lr, middle, published["floor"]], rel=1e-3, abs=1e-9)


def test_every_recipe_says_what_it_costs_and_gives_and_the_page_shows_it():
    for recipe in recipes().values():
        assert recipe.title
        assert recipe.published
        assert recipe.cost == "not in our sources" or " h " in recipe.cost
        assert recipe.ours == NOT_RUN or "see " in recipe.ours or "%" in recipe.ours
        assert recipe.name in recipe.command
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert markdown() in page, "put unmask.planning.recipe_book.markdown() into docs/recipes.md"


def test_claims_that_are_wrong_elsewhere_are_not_ours():
    text = markdown()
    for wrong in ("87.8", "87.3", "88.1", "53.4", "57.4", "76.5", "28 M"):
        assert wrong not in text


def test_other_flags_still_count_and_the_rate_follows_the_batch():
    encoder = shallow("vit_tiny")
    plan = transfer_plan(encoder, recipe="mae_finetune_vit_base", batch=256, epochs=10, weight_decay=0.1, mixup=0.0)
    settings = plan.settings
    assert settings["lr"] == pytest.approx(5e-4)
    assert (settings["weight_decay"], settings["mixup"], settings["cutmix"]) == (0.1, 0.0, 1.0)
    assert plan.reasons["weight_decay"] == "asked for"
    assert settings["warmup"] == pytest.approx(0.5)  # 5 of 100, of 10
    assert transfer_plan(encoder, recipe="mae_finetune_vit_base", lr=1e-5).settings["lr"] == 1e-5
    assert transfer_plan(encoder, recipe="mae_finetune_vit_base", blr=1e-2).settings["lr"] == pytest.approx(4e-2)
    assert transfer_plan(encoder, blr=1e-3, batch=512).settings["lr"] == pytest.approx(2e-3)
    small, _ = pretrain_plan(recipe="mae_vit_base", model="vit_tiny_patch16_224", batch=1024, steps=50, target="pixels")
    assert (small.settings["model"], small.settings["lr"]) == ("vit_tiny_patch16_224", pytest.approx(6e-4))
    assert small.settings["epochs"] is None
    plan_length(small, COUNT, 0.1, GPU, 0.0)  # steps count, epochs of the recipe do not
    assert small.settings["warmup"] < 1


def test_a_large_batch_is_worked_off_in_parts_where_memory_cannot_be_tried():
    encoder = shallow("vit_tiny")
    settings = transfer_plan(encoder, CPU, recipe="mae_linear_vit_base").settings
    assert settings["batch"] == 16384
    assert settings["batch"] // settings["accumulate"] == LARGEST
    assert transfer_plan(encoder, GPU, recipe="mae_linear_vit_base").settings["accumulate"] == 1
    assert transfer_plan(encoder, CPU, batch=300).settings["accumulate"] == 2


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: follow(Pretrain(data="x", recipe="mae_vit_bse"), "pretrain"), "did you mean 'mae_vit_base'"),
        (lambda: follow(Pretrain(data="x", recipe="mae_finetune_vit_base"), "pretrain"), "is for unmask transfer"),
        (lambda: transfer_with("mae_vit_base"), "is for unmask pretrain"),
        (
            lambda: follow(Transfer(run="x", on="y", recipe="mae_finetune_vit_bse"), "transfer"),
            "did you mean 'mae_finetune_vit_base'",
        ),
        (lambda: Transfer(run="x", on="y", lr=1.0, blr=1.0), "not both"),
    ],
)
def test_wrong_recipes_are_refused_with_one_line(make, says):
    with pytest.raises(UserError, match=re.escape(says)) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert math.isfinite(caught.value.exit_code)
