"""The runtime: every choice computes the same training as the plain one."""

import copy
from functools import lru_cache

import pytest
import torch

from unmask.errors import UserError
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder
from unmask.runtime import machine
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import PRECISIONS, RuntimeSettings
from unmask.training.objective import Objective
from unmask.training.optimizer import MasterAdamW, make_optimizer, set_rate, update
from unmask.training.speed.bf16_weights import lower, master
from unmask.training.speed.compile import ready

MODEL = "vit_tiny_patch16_224(embed_dim=48, depth=2, num_heads=3)"
PLAIN = {"precision": "32", "attention": "matmul", "matmul": "default"}
# Relative error of loss and of all gradients together against PLAIN. Other orders of fp32 sums differ by the last bits;
# bf16 has 8 bits, so each rounding errs by up to 0.4 %, and over a few layers such errors mostly cancel.
TOLERANCE = {"32": (1e-6, 1e-5), "bf16": (2e-3, 2e-2), "bf16-weights": (2e-3, 2e-2)}


@pytest.fixture(autouse=True)
def _as_it_was():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def make(decoder="full(dim=32, depth=2, heads=4)"):
    torch.manual_seed(0)
    return MAE(create_encoder(MODEL, image_size=(32, 32), patch_size=8), decoder=decoder)


def train(settings, steps=3, objective=None, good=()):
    """Losses of a few steps, the first gradients, the objective and its optimizer. good: steps not to be made."""
    settings = RuntimeSettings(**settings)
    machine.tune("cpu", settings)
    objective = ready(objective or make(), settings, backend="aot_eager")
    optimizer, devices = make_optimizer(objective, weight_decay=0.05), make_devices(settings)
    model = devices.setup(objective)
    x = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    losses, first = [], {}
    for step in range(steps):
        torch.manual_seed(step)
        set_rate(optimizer, 1e-3)
        loss = model({"views": [x]})["loss"]
        loss.backward()
        first = first or {n: p.grad.float().clone() for n, p in objective.named_parameters() if p.grad is not None}
        update(optimizer, torch.tensor(step not in good))
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses, first, objective, optimizer


@lru_cache
def plain():
    losses, gradients, *_ = train(PLAIN)
    return losses, gradients


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("attention", ["by-length", "sdpa"])
@pytest.mark.parametrize("matmul", ["default", "onednn"])
@pytest.mark.parametrize("channels_last", ["off", "on"])
def test_every_choice_computes_the_same_training(precision, attention, matmul, channels_last):
    if matmul == "onednn" and machine._onednn()[1] > machine.EXACT:
        pytest.skip("not exact on this CPU, and refused")
    settings = {"precision": precision, "attention": attention, "matmul": matmul, "channels_last": channels_last}
    losses, gradients, *_ = train(settings)
    wanted, theirs = plain()
    of_loss, of_gradients = TOLERANCE[precision]
    assert losses == pytest.approx(wanted, rel=of_loss)
    assert gradients.keys() == theirs.keys()
    mine, other = (torch.cat([g[name].flatten() for name in theirs]) for g in (gradients, theirs))
    assert (mine - other).norm() <= of_gradients * other.norm()
    assert precision == "32" or not torch.equal(mine, other)  # or bf16 was not used


class Spread(Objective):
    """A loss on all tokens of an encoder. timm's blocks alone: compiling ours would compile their type checks too,
    which there are in tests only."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = create_encoder(MODEL.replace("depth=2", "depth=1"), image_size=(32, 32), patch_size=8)
        self.calls = []
        for block in self.encoder.net.blocks:
            block.norm1.register_forward_pre_hook(lambda *_: self.calls.append(torch.compiler.is_compiling()))

    def forward(self, batch):
        return {"loss": (self.encoder(batch["views"][0]).units - 1).square().mean()}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32", "bf16-weights"])
def test_compiled_blocks_compute_the_same_training(precision):
    settings = {"precision": precision, "attention": "by-length", "channels_last": "on"}
    wanted, theirs, *_ = train(settings, objective=Spread())
    losses, gradients, objective, _ = train(settings | {"compile": "on"}, objective=Spread())
    assert losses == pytest.approx(wanted, rel=TOLERANCE[precision][0])
    mine, other = (torch.cat([g[name].flatten() for name in theirs]) for g in (gradients, theirs))
    assert (mine - other).norm() <= TOLERANCE[precision][1] * other.norm()
    assert [*objective.state_dict()] == [*Spread().state_dict()]  # the names stay
    assert objective.calls
    assert all(objective.calls)
    objective.calls.clear()
    objective.eval()
    objective.encoder(torch.zeros(1, 3, 32, 32))
    assert objective.calls == [False]  # images and probes, of other sizes, are not compiled for


def test_blocks_of_one_kind_share_what_is_compiled_for_the_first():
    graphs, torch._dynamo.config.cache_size_limit = [], 64
    torch.compiler.reset()
    objective = Spread()
    objective.encoder = create_encoder(MODEL.replace("depth=2", "depth=4"), image_size=(32, 32), patch_size=8)
    ready(objective, RuntimeSettings(compile="on"), backend=lambda graph, inputs: graphs.append(graph) or graph)
    for _ in range(2):
        objective({"views": [torch.zeros(2, 3, 32, 32)]})["loss"].backward()
    assert len(graphs) == 1


@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_a_copy_of_wrapped_blocks_computes_with_its_own_weights(checkpointing):
    objective = ready(Spread(), RuntimeSettings(precision="bf16-weights", checkpoint_activations=checkpointing))
    copied, batch = copy.deepcopy(objective), {"views": [torch.rand(2, 3, 32, 32)]}
    before = float(copied(batch)["loss"].detach())
    with torch.no_grad():
        for parameter in objective.encoder.net.blocks.parameters():
            parameter.zero_()
    assert float(copied(batch)["loss"].detach()) == before
    assert float(objective(batch)["loss"].detach()) != before


def test_the_same_settings_give_the_very_same_numbers():
    one, other = train(PLAIN), train(PLAIN)
    assert one[0] == other[0]
    assert all(torch.equal(a, b) for a, b in zip(one[2].parameters(), other[2].parameters()))


def test_bf16_weights_are_rounded_masters_which_is_what_is_saved():
    _, _, objective, optimizer = train({"precision": "bf16-weights"})
    assert isinstance(optimizer, MasterAdamW)
    weights = dict(objective.named_parameters())
    low = {name for name, p in weights.items() if p.dtype == torch.bfloat16}
    assert {"encoder.net.blocks.0.mlp.fc1.weight", "decoder.blocks.1.attn.qkv.weight"} <= low
    assert not {"encoder.net.patch_embed.proj.weight", "encoder.net.norm.weight", "decoder.predict.weight"} & low
    state = objective.state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    for name in low:
        assert torch.equal(weights[name], state[name].bfloat16())
    assert any(not torch.equal(weights[name].float(), state[name]) for name in low)  # masters know more
    fresh = make()
    fresh.load_state_dict(state)  # a plain model opens it
    assert torch.equal(fresh.encoder.net.blocks[0].mlp.fc1.weight, state["encoder.net.blocks.0.mlp.fc1.weight"])


def test_masters_gather_updates_that_bf16_cannot_hold():
    objective = make()
    lower(objective)
    weight = objective.encoder.net.blocks[0].mlp.fc1.weight
    before, full = weight.detach().clone(), master(weight).clone()
    optimizer = make_optimizer(objective)
    for _ in range(3):
        set_rate(optimizer, 1e-7)
        for parameter in objective.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert (weight == before).float().mean() > 0.99  # but for the few that were about to be rounded the other way
    torch.testing.assert_close(master(weight), full - 3e-7, rtol=0, atol=2e-8)


def test_bf16_weights_resume_exactly():
    whole, _, ended, _ = train({"precision": "bf16-weights", "attention": "matmul"}, steps=5)
    _, _, objective, optimizer = train({"precision": "bf16-weights", "attention": "matmul"}, steps=2)
    saved, moments = ({k: v.clone() for k, v in objective.state_dict().items()}, optimizer.state_dict())
    again = ready(make(), RuntimeSettings(precision="bf16-weights", attention="matmul"))
    again.load_state_dict(saved)
    resumed = make_optimizer(again, weight_decay=0.05)
    resumed.load_state_dict(moments)
    assert {v.dtype for s in resumed.state.values() for v in s.values()} == {torch.float32}
    devices = make_devices(RuntimeSettings(precision="bf16-weights"))
    model = devices.setup(again)
    x = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    for step in range(2, 5):
        torch.manual_seed(step)
        set_rate(resumed, 1e-3)
        loss = model({"views": [x]})["loss"]
        loss.backward()
        assert float(loss.detach()) == whole[step]
        update(resumed, torch.tensor(True))
        resumed.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), ended.state_dict().values()))


@pytest.mark.parametrize("precision", ["32", "bf16-weights"])
def test_a_step_left_out_on_the_device_changes_nothing(precision):
    _, _, two, _ = train({"precision": precision}, steps=2)
    _, _, three, optimizer = train({"precision": precision}, steps=3, good=(2,))
    assert all(torch.equal(a, b) for a, b in zip(two.state_dict().values(), three.state_dict().values()))
    assert {float(s["step"]) for s in optimizer.state.values()} == {2.0}


def test_bf16_weights_need_an_optimizer_with_masters():
    objective = make()
    lower(objective)
    with pytest.raises(UserError, match="adamw"):
        make_optimizer(objective, "sgd")


def test_a_model_with_bf16_weights_is_looked_at_in_fp32():
    objective = ready(make(), RuntimeSettings(precision="bf16-weights")).eval()
    tokens = objective.encoder(torch.zeros(1, 3, 32, 32))
    assert tokens.units.dtype == torch.float32
    assert all(layer.units.dtype == torch.float32 for layer in objective.encoder.layers(torch.zeros(1, 3, 32, 32), 2))


def test_attention_is_chosen_by_length_also_where_a_block_does_it_itself(monkeypatch):
    settings = {"precision": "32", "attention": "by-length"}
    monkeypatch.setattr("unmask.training.speed.compile.by_length", lambda tokens, dtype: tokens > 10)
    _, _, objective, _ = train(settings, steps=1)  # 1 + 4 visible units in the encoder, 1 + 16 in the decoder
    assert [block.attn.fused_attn for block in objective.encoder.net.blocks] == [False, False]
    assert [block.attn.fused_attn for block in objective.decoder.blocks] == [True, True]


def test_deep_images_are_not_rounded_by_mixed_precision():
    seen = []
    objective = make()
    objective.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    devices = make_devices(RuntimeSettings(precision="bf16"))
    model = devices.setup(objective)
    model({"views": [torch.full((1, 3, 32, 32), 4097.0)]})
    assert float(seen[0].max()) == 4097.0


def test_blocks_shared_with_another_size_keep_one_master():
    objective, twin = make(), make()
    ours, theirs = objective.encoder.net.blocks[0].mlp, twin.encoder.net.blocks[0].mlp
    theirs.fc1.weight = ours.fc1.weight
    before = ours.fc1.weight.detach().clone()
    lower(twin)
    lower(objective)
    assert torch.equal(master(ours.fc1.weight), before)  # and not what bf16 left of it
