"""Clips against independent code: VideoMAE's loss and gradients; and V-JEPA's masks."""

import pytest
import torch
from support.parity import NEEDS, scrambled

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask, Noise, as_bool
from unmask.masking.samplers.multiblock import MultiBlock
from unmask.methods.ijepa import IJEPA
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder

SIZE, UNIT = (4, 16, 16), (2, 4, 4)


def clip_encoder():
    model = "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2, class_token=False)"
    return create_encoder(model, image_size=SIZE, patch_size=UNIT, channels=1, modality="video")


BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
OTHERS = {
    "encoder.net.patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
    "encoder.net.norm": "videomae.layernorm",
    "decoder.norm": "decoder.norm",
    "decoder.predict": "decoder.head",
    "decoder.embed": "encoder_to_decoder",
}


def theirs(ours, state):
    """What each of our tensors is in VideoMAE: the name, and whether only queries and values have it."""
    if ours == "decoder.mask_token":
        return state["mask_token"]
    for mine, other in (
        ("encoder.net.blocks.", "videomae.encoder.layer."),
        ("decoder.blocks.", "decoder.decoder_layers."),
    ):
        if ours.startswith(mine):
            place, _, rest = ours.removeprefix(mine).partition(".")
            stem, _, kind = rest.rpartition(".")
            if stem != "attn.qkv":
                return state[f"{other}{place}.{BLOCK[stem]}.{kind}"]
            names = [f"{other}{place}.attention.attention.{part}.{kind}" for part in ("query", "key", "value")]
            query = state[names[0]]
            return torch.cat([state.get(name, torch.zeros_like(query)) for name in names])  # keys have no bias
    stem, _, kind = ours.rpartition(".")
    weight = state[f"{OTHERS[stem]}.weight"]
    return state.get(f"{OTHERS[stem]}.{kind}", torch.zeros(weight.shape[0], dtype=weight.dtype))


def test_loss_and_gradients_of_mae_on_clips_are_those_of_videomae():
    transformers = pytest.importorskip("transformers", reason=NEEDS)
    config = transformers.VideoMAEConfig(
        image_size=16, patch_size=4, num_channels=1, num_frames=4, tubelet_size=2, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=96, decoder_num_attention_heads=2, decoder_hidden_size=16,
        decoder_num_hidden_layers=1, decoder_intermediate_size=64, use_mean_pooling=False, layer_norm_eps=1e-6,
    )  # fmt: skip
    other = scrambled(transformers.VideoMAEForPreTraining(config)).double()
    mae = MAE(clip_encoder(), mask="tube(ratio=0.75)", decoder="full(dim=16, depth=1, heads=2)").double()
    mae.encoder.normalize = lambda x: x  # mean 0 and deviation 1, whose float32 would hide the last digits
    mae.encoder.normalize_units = lambda units: units
    other.videomae.embeddings.position_embeddings = mae.encoder.net.pos_embed.detach().clone()
    other.position_embeddings = mae.decoder.position.detach().clone()[None]
    other.decoder.norm.eps = mae.decoder.norm.eps
    trained = {name: weight for name, weight in mae.named_parameters() if weight.requires_grad}
    state = other.state_dict()
    with torch.no_grad():
        for name, weight in trained.items():
            weight.copy_(theirs(name, state).view_as(weight))
    x = torch.rand(3, 1, *SIZE, dtype=torch.float64)
    mask = mae.mask(3, mae.encoder.grid, "cpu", torch.Generator().manual_seed(1))
    mask = Mask(*(index.sort(dim=1).values for index in mask))
    loss = mae({"views": [x], "mask": mask})["loss"]
    hidden = as_bool(mask.hidden, mae.encoder.grid.num_units)
    wanted = other(x.transpose(1, 2), bool_masked_pos=hidden).loss
    torch.testing.assert_close(
        loss.double(), wanted, rtol=1e-4, atol=0
    )  # the 1e-6 under the root stands beside it there
    loss.backward()
    wanted.backward()
    gradients = {name: weight.grad for name, weight in other.named_parameters()}
    assert len(trained) > 30
    for name, weight in trained.items():
        if name == "decoder.embed.bias":  # theirs has none
            continue
        mine, their = weight.grad, theirs(name, gradients).view_as(weight)
        if name.endswith("qkv.bias"):  # nor has it of keys
            mine, their = (value.unflatten(0, (3, -1))[[0, 2]] for value in (mine, their))
        error = (mine - their).norm() / their.norm().clamp(min=1e-12)
        assert error < 1e-3, f"{name}: relative error {error:.1e}"


RANGES = ((8, 0.15), (2, 0.7))
GRID = Grid((4, 14, 14), (2, 16, 16))


def test_tubes_span_all_the_time_and_what_is_not_predicted_is_seen():
    mask = MultiBlock(tubes=RANGES)
    parts = mask.parts(6, GRID, Noise("cpu", torch.Generator().manual_seed(0)))
    assert len(parts) == 2
    for seen, targets in parts:
        assert targets.shape[1] == 1
        hidden = as_bool(targets[:, 0], GRID.num_units).view(6, 4, 196)
        assert (hidden == hidden[:, :1]).all()  # the same places in every frame
        assert torch.equal(as_bool(seen, GRID.num_units), ~hidden.flatten(1))
    short, long = (targets.shape[2] / GRID.num_units for _, targets in parts)
    assert short == pytest.approx(1 - 0.85**8, abs=0.01)
    assert long == pytest.approx(1 - 0.3**2, abs=0.01)
    assert not torch.equal(parts[0][0][0], parts[0][0][1])
    drawn = mask(2, GRID, "cpu", torch.Generator().manual_seed(0))
    assert drawn.visible.shape[1] + drawn.hidden.shape[1] == GRID.num_units
    assert mask.sizes(GRID) == (drawn.visible.shape[1], drawn.hidden.shape[1])


def test_a_single_block_of_a_tube_is_a_block_of_the_share_that_was_asked_for():
    mask = MultiBlock(tubes=((1, 0.25),), aspect=(1.0, 1.0))
    ((_, targets),) = mask.parts(4, GRID, Noise("cpu", torch.Generator().manual_seed(0)))
    for hidden in as_bool(targets[:, 0], GRID.num_units).view(4, 4, 14, 14)[:, 0]:
        rows, columns = hidden.any(dim=1).nonzero(), hidden.any(dim=0).nonzero()
        assert int(hidden.sum()) == 49 == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)


@pytest.mark.parametrize("tubes", [((0, 0.2),), ((2, 1.0),), ((2, -0.1),)])
def test_tubes_that_cannot_be_are_refused(tubes):
    with pytest.raises(UserError):
        MultiBlock(tubes=tubes)


def test_vjepa_learns_from_both_ranges_and_every_part_gets_a_gradient():
    torch.manual_seed(0)
    method = IJEPA(clip_encoder(), mask=f"multiblock(tubes={RANGES})", decoder="full(dim=16, depth=1, heads=2)").train()
    x = torch.rand(3, 1, *SIZE)
    outputs = method({"views": [x]})
    outputs["loss"].backward()
    assert outputs["loss"].isfinite()
    assert [name for name, p in method.named_parameters() if p.requires_grad and not p.grad.any()] == []
    alone = []
    for tubes in RANGES:
        method.mask.tubes = (tubes,)
        alone.append(method({"views": [x]})["loss"].item())
    assert min(alone) * 0.5 < outputs["loss"].item() < max(alone) * 2
