"""Decoders: what each predicts, that no gradient is lost, and which numbers must be equal."""

import pytest
import torch
from support.decoders import SIZE, make, tokens_of
from timm.models.vision_transformer import Block

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask, hide_top
from unmask.methods.mae import MAE
from unmask.models.decoder import BLOCK, LastBlock
from unmask.models.encoder import Tokens, create_encoder
from unmask.registry import parse
from unmask.training.speed.step_cost import step_flops


@pytest.mark.parametrize("fused", [False, True])
def test_the_last_block_is_timm_s_for_the_last_tokens(fused):
    torch.manual_seed(0)
    lean, whole, x = LastBlock(24, 3, **BLOCK), Block(24, 3, **BLOCK), torch.randn(2, 7, 24)
    for parameter in lean.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    whole.load_state_dict(lean.state_dict())
    lean.fused_attn = whole.attn.fused_attn = fused
    want = whole(x)[:, -4:]
    torch.testing.assert_close(lean(x, 4), want)
    lean(x, 4).square().sum().backward()
    want.square().sum().backward()
    for a, b in zip(lean.parameters(), whole.parameters()):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)


def test_with_equal_weights_partial_and_one_window_are_full():
    grid = Grid((5, 3), (2, 2))
    mask, full = hide_top(torch.rand(2, 15), 0.6), make("full", grid)
    tokens = tokens_of(full, 6)
    want = full(tokens, mask)
    for text in ("partial(keep=1.0)", "windowed(window=5)"):
        other = make(text, grid)
        other.load_state_dict(full.state_dict())
        torch.testing.assert_close(other(tokens, mask), want, atol=1e-5, rtol=1e-5)
    two = make("windowed(window=3)", grid)
    two.load_state_dict(full.state_dict())
    assert not torch.allclose(two(tokens, mask), want, atol=1e-2)


def test_a_prediction_of_cross_does_not_depend_on_what_else_is_asked():
    grid = Grid((4, 4), (2, 2))
    cross, mask = make("cross", grid), hide_top(torch.rand(2, 16), 0.75)
    tokens = tokens_of(cross, 4)
    every = cross(tokens, mask)
    torch.testing.assert_close(cross(tokens, Mask(mask.visible, mask.hidden[:, 3:5])), every[:, 3:5])
    other = make("full", grid)
    asked = other(tokens[-1], Mask(mask.visible, mask.hidden[:, 3:5]))
    assert not torch.allclose(asked, other(tokens[-1], mask)[:, 3:5], atol=1e-3)  # those do see each other


def test_cross_mixes_the_layers_of_the_encoder_for_each_block():
    cross, mask = make("cross", Grid((4, 4), (2, 2))), hide_top(torch.rand(2, 16), 0.75)
    tokens = tokens_of(cross, 4)
    cross.mixture.data = torch.tensor([50.0, 0, 0, 0, 50, 0, 0, 0, 50])
    for block, memory in enumerate(cross.memories(tokens)):
        torch.testing.assert_close(memory, torch.cat(tokens[block], dim=1))
    want = cross(tokens, mask)
    tokens[1] = Tokens(tokens[1].prefix, torch.randn(2, 4, 20))
    assert not torch.allclose(cross(tokens, mask), want, atol=1e-3)


def test_a_unit_hears_of_its_window_first_and_then_of_the_next():
    """Only along one axis, without prefix tokens: with one block a window is closed, with two the news travels on."""
    grid, mask = Grid((8,), (2,)), Mask(torch.tensor([[0]]), torch.arange(1, 8)[None])
    for depth, reached in ((1, {1}), (2, {1, 2})):
        decoder = make(f"windowed(window=2, depth={depth})", grid)
        empty = Tokens(torch.zeros(1, 0, 20), torch.zeros(1, 1, 20))
        told = Tokens(empty.prefix, torch.ones(1, 1, 20))
        moved = (decoder(told, mask) - decoder(empty, mask)).abs().amax(dim=2)[0] > 1e-5
        assert set(mask.hidden[0, moved].tolist()) == reached  # not 7, though it shares a window that wraps around


@pytest.mark.parametrize(("text", "share"), [("cross(predict=0.25)", 0.25), ("partial(keep=0.5)", 0.5), ("full", 1)])
def test_the_predicted_share_is_exact_random_and_all_of_it_when_shown(text, share, encoder):
    name, options = parse(text)
    written = ", ".join(f"{key}={value}" for key, value in options.items() | {("dim", 24), ("depth", 1), ("heads", 2)})
    mae, x = (
        MAE(encoder, mask="block(ratio=0.75)", decoder=f"{name}({written})").eval(),
        torch.rand(64, 3, 32, 32) * 255,
    )
    mask = mae.draw({"views": [x]})
    assert torch.equal(mae.predicted_units(mask), mask.hidden)  # outside training
    predicted = mae.train().predicted_units(mask)
    assert predicted.shape == (64, 12 * share)
    assert all(set(a) <= set(h) and len(set(a)) == len(a) for a, h in zip(predicted.tolist(), mask.hidden.tolist()))
    ranks = (mask.hidden[:, None] == predicted[..., None]).float().argmax(dim=2).float()  # not the first of the mask's
    assert abs(ranks.mean() - 5.5) < 1
    seen = []
    mae.decoder.register_forward_hook(lambda module, args, out: seen.append(out.shape[1]))
    mae({"views": [x]})
    rebuilt = mae.rebuild(x, mask)
    assert seen == [12 * share, 12]
    at = mask.hidden[..., None].expand(-1, -1, 192)
    changed = (encoder.grid.cut(rebuilt) - encoder.grid.cut(x)).gather(1, at).abs().amax(dim=2)
    assert (changed > 0).all()


@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3", "hiera_tiny_224"])
def test_encoders_give_layers_under_a_mask_and_cross_trains_every_parameter(model):
    options = "(depth=3)" if model.startswith("vit") else "(embed_dim=24, stages=(1, 1, 1, 1))"
    torch.manual_seed(0)
    encoder = create_encoder(model + options, image_size=(128, 128), patch_size=32).eval()
    x, mask = torch.rand(2, 3, 128, 128) * 255, hide_top(torch.rand(2, 16), 0.75)
    layers, deepest = encoder.layers(x, encoder.num_layers, mask), encoder(x, mask)
    assert len(layers) == (3 if model.startswith("vit") else 1)
    for found, want in zip(layers[-1], deepest):
        torch.testing.assert_close(found, want)
    assert {layer.units.shape for layer in layers} == {deepest.units.shape}
    after = encoder(x)
    assert after.units.shape[1] == 16  # and the next call is not masked
    mae = MAE(encoder, decoder=f"cross({SIZE})")
    mae({"views": [x], "mask": mask})["loss"].backward()
    assert [n for n, p in mae.named_parameters() if p.requires_grad and p.grad is None] == []
    if model.startswith("hiera"):
        with pytest.raises(UserError, match="1 layer that cross can mix, got layers=2"):
            MAE(encoder, decoder="cross(layers=2)")


def test_counted_flops_of_cross_are_those_on_paper(encoder):
    """Per block: queries and projection, keys and values of the memory, attention, MLP; of 3 of 12 hidden units."""
    mae = MAE(encoder, decoder="cross(predict=0.25, dim=64, depth=2, heads=2)")
    counted = step_flops(mae, {"views": [torch.zeros(2, 3, 32, 32).byte()]})
    memory, asked = 5, 3
    block = 2 * asked * 10 * 64**2 + 2 * memory * 192 * 128 + 4 * asked * memory * 64
    decoder = 2 * block + 2 * 2 * 2 * memory * 192 + 2 * asked * 64 * 192
    inside = 2 * (2 * 5 * 12 * 192**2 + 4 * 5**2 * 192)
    assert counted == pytest.approx(3 * (decoder + inside) + 2 * 2 * 16 * 192 * 192, rel=0.01)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cross(predict=0)", "predict is a share of the hidden units, above 0 and at most 1 \\(all of them\\); got 0"),
        ("partial(keep=1.5)", "keep is a share of the hidden units"),
        ("windowed(window=0)", "a whole number, 1 or more; got 0"),
        ("cross(layers=9)", "this encoder has 2 layers that cross can mix, got layers=9"),
        ("cross(dim=30, heads=4)", "a multiple of its heads, got dim 30 and 4 heads; near it 28 or 32"),
        ("cros", "did you mean 'cross'"),
    ],
)
def test_wrong_options_are_refused_in_one_line(text, words, encoder):
    with pytest.raises(UserError, match=words):
        MAE(encoder, decoder=text)
