"""Large images and cheap steps: checkpointed activations, counted memory, sizes that change, several masks."""

import itertools
import json
from contextlib import nullcontext

import pytest
import torch
from support.configuring import config_of
from support.gradients import gradients
from support.small import SMALL

import unmask
from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import as_bool
from unmask.masking.samplers.blob import Blob
from unmask.masking.samplers.random import Random
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder
from unmask.models.layers.position import sincos
from unmask.planning import measure
from unmask.planning.build import build
from unmask.planning.initial_weights import Start
from unmask.planning.plan import Plan
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import RuntimeSettings
from unmask.training.resolution import early_and_full, firsts, parse, steps_within, work_until
from unmask.training.speed import step_cost
from unmask.training.speed.activation_checkpoint import recompute
from unmask.training.speed.step_cost import _peak, step_bytes


def mae(size=32, **options):
    torch.manual_seed(0)
    text = "vit_tiny_patch16_224(depth=3, embed_dim=48, num_heads=3, drop_path_rate=0.3, proj_drop_rate=0.2)"
    encoder = create_encoder(text, image_size=(size, size), patch_size=8)
    return MAE(encoder, decoder="full(dim=32, depth=2, heads=2)", **options).train()


def batch_of(size=32, count=4):
    return {"views": [torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)]}


def test_recomputed_blocks_give_the_same_loss_and_gradients_for_less_memory():
    model, batch = mae(), batch_of()
    state, plain, need = list(model.state_dict()), gradients(model, batch), step_bytes(model, batch, 64)
    assert recompute(model) == 5
    again = gradients(model, batch)
    torch.testing.assert_close(again, plain)  # drop path and dropout meet the same chance
    assert list(model.state_dict()) == state
    assert step_bytes(model, batch, 64) < 0.7 * need


def test_counted_memory_is_linear_in_the_images_and_leaves_no_gradients():
    model, batch = mae(), batch_of()
    moments = 8 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    alone, many = step_bytes(model, batch, 4) - moments, step_bytes(model, batch, 64) - moments
    assert many == pytest.approx(16 * alone, rel=0.05)
    assert alone == _peak(model, batch, nullcontext)
    assert all(p.grad is None for p in model.parameters())


def test_a_batch_that_does_not_fit_is_parted_then_recomputed_then_refused(monkeypatch):
    tried, fits = [], {(8, "on")}
    settings = {"batch": 32, "accumulate": 1, "precision": "32", "device": "cpu", "decoder": "full"}
    plan = Plan(settings | {"checkpoint_activations": "auto"})

    def check(objective, batch, size, autocast):
        tried.append((size, plan.settings["checkpoint_activations"]))
        if tried[-1] not in fits:
            raise step_cost.TooLarge("8 images at a time need about 9 MB, 5 MB are free")

    monkeypatch.setattr(measure, "check_fits", check)
    trial_of = (mae, lambda n: lambda first: itertools.repeat(batch_of(count=n)))
    measure.trial(*trial_of, plan, make_devices(RuntimeSettings()), retry=True)
    assert tried == [(32, "auto"), (16, "auto"), (8, "auto"), (8, "on")]
    assert (plan.settings["accumulate"], plan.settings["checkpoint_activations"]) == (4, "on")
    assert "fits into memory" in plan.reasons["checkpoint_activations"]
    plan = Plan(settings | {"checkpoint_activations": "off"})
    with pytest.raises(UserError, match=r"about 9 MB.*--checkpoint-activations on.*--decoder windowed.*patch-size"):
        measure.trial(*trial_of, plan, make_devices(RuntimeSettings()), retry=False)


def test_smaller_images_give_the_loss_and_gradients_of_an_objective_built_for_them():
    model, small = mae(48), mae(32)
    small.load_state_dict({k: v for k, v in model.state_dict().items() if "pos_embed" not in k}, strict=False)
    assert torch.equal(small.encoder.net.pos_embed[0, 1:], sincos(Grid((4, 4), (8, 8)), 48))
    before = list(model.state_dict())
    for size, reference in ((32, small), (48, None)):
        batch = batch_of(size)
        loss, found = gradients(model, batch)
        assert found.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
        if reference is not None:
            torch.testing.assert_close((loss, found), gradients(reference, batch))
    assert list(model.state_dict()) == before


TINY = "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"


@pytest.mark.parametrize("decoder", ["cross(dim=32, depth=2, heads=2)", "windowed(window=2, dim=32, depth=2, heads=2)"])
def test_every_decoder_follows_the_size_of_the_batch(decoder):
    torch.manual_seed(0)
    models = [MAE(create_encoder(TINY, image_size=(s, s), patch_size=8), decoder=decoder).eval() for s in (48, 32)]
    models[1].load_state_dict({k: v for k, v in models[0].state_dict().items() if "pos_embed" not in k}, strict=False)
    x, mask = batch_of(32)["views"][0], Random(0.75)(4, Grid((4, 4), (8, 8)), "cpu")
    losses = [model({"views": [x], "mask": mask})["loss"] for model in models]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(model.rebuild(x, mask) for model in models))


def test_a_decoder_whose_positions_came_with_weights_refuses_other_sizes():
    encoder = create_encoder(TINY, image_size=(48, 48), patch_size=8)
    model = MAE(encoder, decoder="full(dim=32, depth=1, heads=2, position='stored')")
    assert model(batch_of(48))["loss"] > 0
    with pytest.raises(UserError, match=r"grid of 6 x 6 units.* one of 4 x 4"):
        model(batch_of(32))
    decoder = "full(dim=32, depth=1, heads=2, position='stored')"
    config = config_of(model=TINY, image_size=(48, 48), decoder=decoder, resolutions="32:0.5,48")
    with pytest.raises(UserError, match="--resolutions none"):  # before a step is made
        build(config, Start())
    assert build(config.with_options({"decoder": "full(dim=32, depth=1, heads=2)"}), Start())


def test_a_schedule_of_sizes_resumes_exactly_across_the_switch(photos, tmp_path, monkeypatch):
    options = SMALL | {"resolutions": "16:0.5,32", "steps": 6, "log_every": 1, "save_every": 1, "flip": "off"}
    del options["image_size"]
    seen, forward = [], MAE.forward

    def spy(self, batch):
        seen.append(batch["views"][0].shape[-1])
        if stop_at and len(seen) > stop_at:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(MAE, "forward", spy)
    slow = ("evaluation.watch.draw", "evaluation.watch.film_frame", "evaluation.watch.strip")
    for name in (*slow, "cli.commands.pretrain.write_report"):  # and not the point
        monkeypatch.setattr(f"unmask.{name}", lambda *a, **k: None)
    monkeypatch.setattr("unmask.planning.measure.trial", lambda *a, **k: measure.Measured(0.01, 1, {}))
    stop_at = 0
    whole = unmask.pretrain(photos, out=tmp_path / "whole", **options)
    assert seen == [16] * 3 + [32] * 3
    assert whole.encoder().grid.size == (32, 32)
    seen.clear()
    stop_at = 2
    with pytest.raises(KeyboardInterrupt):
        unmask.pretrain(photos, out=tmp_path / "cut", **options)
    seen.clear()
    stop_at = 0
    unmask.pretrain(photos, out=tmp_path / "cut", **options)
    assert seen == [16] + [32] * 3

    def losses(name):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [record["loss"] for record in map(json.loads, lines) if "loss" in record]

    assert losses("cut") == losses("whole")
    assert len(losses("whole")) == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("128,224", "shares of the steps"),
        ("224:0.5,128", "grow"),
        ("64:1,128", "leave some"),
        ("64:0.5,100", "end with"),
    ],
)
def test_schedules_that_cannot_be_are_refused(text, says):
    from unmask.cli.commands.pretrain import with_final_size
    from unmask.cli.options.pretrain import Pretrain

    with pytest.raises(UserError, match=says):
        with_final_size(Pretrain(data="x", resolutions=text, image_size=128))


def test_steps_and_time_are_shared_out_over_sizes():
    stages = parse("96x64:0.25,128:0.25,224")
    assert [s.size for s in stages] == [(96, 64), (128, 128), (224, 224)]
    begins, costs = firsts(stages, 100), [0.25, 0.5, 1.0]
    assert begins == [0, 25, 50]
    assert work_until(100, begins, costs) == 25 * 0.25 + 25 * 0.5 + 50
    for step in (0, 10, 25, 60):
        rest = work_until(100, begins, costs) - work_until(step, begins, costs)
        assert steps_within(rest, begins, costs, step) == 100 - step
    assert early_and_full((224, 224), 16) == "160:0.5,224"
    assert early_and_full((64, 64), 16) == "none"  # too few patches


def test_several_masks_show_each_image_in_disjoint_parts():
    grid = Grid((4, 4), (8, 8))
    mask = Random(0.75).several(4, 3, grid, "cpu")
    visible = as_bool(mask.visible, 16).view(3, 4, 16)
    assert (visible.sum(dim=1) == 1).all()
    assert torch.equal(as_bool(mask.hidden, 16), ~visible.flatten(0, 1))
    assert Random(0.5).several(3, 2, grid, "cpu").visible.shape == (6, 8)  # more than there are units: independent
    assert Blob(0.75).several(4, 2, grid, "cpu").visible.shape == (8, 4)


def test_several_masks_give_the_mean_of_their_losses_and_leave_judging_alone():
    model, batch = mae(masks_per_image=2).eval(), batch_of()
    model.training = True  # no dropout below: only the number of masks is looked at
    torch.manual_seed(3)
    both = model(batch)["loss"]
    torch.manual_seed(3)
    masks = model.mask.several(2, 4, model.encoder.grid, "cpu")
    model.training = False
    one = [model(batch | {"mask": type(masks)(*(side[i::2] for side in masks))})["loss"] for i in range(2)]
    torch.testing.assert_close(both, sum(one) / 2)
    assert set(model.context(batch)) >= {"data_mean"}
