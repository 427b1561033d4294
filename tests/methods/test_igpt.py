"""iGPT against transformers' ImageGPT, and its palette, its order and its prefix."""

import pytest
import torch
from support.methods import small_encoder, small_method, views_of

from unmask.errors import UserError
from unmask.masking.mask import Mask, Rows
from unmask.methods.igpt import IGPT, _allowed
from unmask.methods.targets.palette import Palette, _nearest, k_means
from unmask.models.encoder import create_encoder
from unmask.registry import build

SIDE, DIM, HEADS, DEPTH, COLOURS = 5, 24, 2, 2, 7


def pixel_method(**options):
    """iGPT with single pixels as tokens, and the norm and the activation of ImageGPT."""
    text = f"vit_tiny_patch16_224(depth={DEPTH}, embed_dim={DIM}, num_heads={HEADS}, norm_layer='rmsnorm'"
    encoder = create_encoder(f"{text}, act_layer='quick_gelu')", image_size=(SIDE, SIDE), patch_size=1)
    return IGPT(encoder, colours=COLOURS, mlp_depth=0, **options)


def put_into(theirs, ours):
    """Their weights into our names: an embedding of colours that is linear in their values, as a convolution is."""
    net, inner = ours.encoder.net, theirs.transformer
    with torch.no_grad():
        inner.wte.weight[:COLOURS] = ours.target.palette @ net.patch_embed.proj.weight.flatten(1).T
        inner.wte.weight[:COLOURS] += net.patch_embed.proj.bias
        net.cls_token[0, 0] = inner.wte.weight[COLOURS]
        net.pos_embed[0] = inner.wpe.weight
        for block, other in zip(net.blocks, inner.h):
            block.norm1.weight.copy_(other.ln_1.weight)
            block.norm2.weight.copy_(other.ln_2.weight)
            for mine, its in (
                (block.attn.qkv, other.attn.c_attn),
                (block.attn.proj, other.attn.c_proj),
                (block.mlp.fc1, other.mlp.c_fc),
                (block.mlp.fc2, other.mlp.c_proj),
            ):
                mine.weight.copy_(its.weight.T)
                mine.bias.copy_(its.bias)
        net.norm.weight.copy_(inner.ln_f.weight)
        ours.colour.weight.copy_(theirs.lm_head.weight)


def test_the_loss_and_its_gradients_are_those_of_transformers_for_single_pixels():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    ours = pixel_method(prefix=False)
    ours.target.palette.copy_(torch.randn(COLOURS, 3).mul(60).round())  # the encoder's mean is 0 and its std 1
    settings = {"n_embd": DIM, "n_layer": DEPTH, "n_head": HEADS, "n_positions": SIDE**2 + 1}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = transformers.ImageGPTConfig(vocab_size=COLOURS + 1, layer_norm_epsilon=1e-5, **settings, **dropout)
    theirs = transformers.ImageGPTForCausalImageModeling(config)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for norm in [module for module in ours.encoder.modules() if "RmsNorm" in type(module).__name__]:
        norm.eps = 1e-5
    put_into(theirs, ours)
    ids = torch.randint(0, COLOURS, (3, SIDE**2))
    images = ours.target.palette[ids].transpose(1, 2).unflatten(2, (SIDE, SIDE))
    sequence = torch.cat([torch.full((3, 1), COLOURS), ids], dim=1)
    loss, wanted = ours({"views": [images]})["loss"], theirs(input_ids=sequence, labels=sequence).loss
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    loss.backward()
    wanted.backward()
    net, inner = ours.encoder.net, theirs.transformer
    colours = inner.wte.weight.grad[:COLOURS]
    pairs = [
        (ours.colour.weight.grad, theirs.lm_head.weight.grad),
        (net.patch_embed.proj.weight.grad.flatten(1), colours.T @ ours.target.palette),
        (net.patch_embed.proj.bias.grad, colours.sum(dim=0)),
        (net.cls_token.grad[0, 0], inner.wte.weight.grad[COLOURS]),
        (net.norm.weight.grad, inner.ln_f.weight.grad),
    ]
    for block, other in zip(net.blocks, inner.h):
        pairs += [
            (block.norm1.weight.grad, other.ln_1.weight.grad),
            (block.attn.qkv.weight.grad, other.attn.c_attn.weight.grad.T),
            (block.attn.proj.bias.grad, other.attn.c_proj.bias.grad),
            (block.mlp.fc1.weight.grad, other.mlp.c_fc.weight.grad.T),
            (block.mlp.fc2.weight.grad, other.mlp.c_proj.weight.grad.T),
        ]
    for mine, its in pairs:
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5 * max(1.0, float(its.abs().max())))


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("classed", [True, False])
def test_no_prediction_depends_on_what_it_predicts_or_on_what_follows(prefix, classed):
    torch.manual_seed(0)
    model = "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2"
    model += ")" if classed else ", class_token=False)"
    method = IGPT(create_encoder(model, image_size=(32, 32), patch_size=8), prefix=prefix, colours=5, side=8).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.manual_seed(1)
    before, counts = method.next_units(x, {})
    assert counts.any(dim=1).all()
    assert (counts == 1).all() != prefix
    first = 16 - before.shape[1]
    assert first == (0 if classed else 1)
    for unit in (first, 7, 15):
        changed = x.clone()
        row, column = divmod(unit, 4)
        changed[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1
        torch.manual_seed(1)
        after, _ = method.next_units(changed, {})
        moved = (after - before).abs().amax(dim=2) > 1e-6
        upto = (torch.arange(first, 16) <= unit) & (counts > 0)
        assert not (moved & upto).any()
        if unit < 15:
            assert moved[:, unit + 1 - first :].any()


def test_tokens_of_a_prefix_attend_to_all_of_it_and_later_ones_to_what_is_earlier():
    allowed = _allowed(1, 3, torch.tensor([[2.0]]))[0].int().tolist()
    assert allowed == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert _allowed(1, 3, torch.zeros(1, 1))[0].int().tolist() == torch.ones(4, 4).tril().int().tolist()


def test_every_sample_has_its_own_prefix_whatever_batch_it_is_in():
    method = small_method("igpt")
    batch = views_of(method, count=4)
    (x,) = batch["views"]
    _, whole = method.next_units(x, {"rows": Rows(3, 0, 4, 4)})
    _, second = method.next_units(x[2:], {"rows": Rows(3, 2, 2, 4)})
    assert torch.equal(whole[2:], second)
    assert len({tuple(row) for row in whole.tolist()}) > 1


def test_a_palette_is_near_the_colours_of_the_images_and_finds_all_of_a_few():
    few = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 1], [3, 3, 3]])
    points = few[torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(0))]
    centres = k_means(points, 6, torch.Generator().manual_seed(0))
    assert torch.equal(centres.unique(dim=0), points.unique(dim=0))
    many = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    fitted = {count: k_means(many, count, torch.Generator().manual_seed(0)) for count in (4, 64)}
    error = {count: torch.cdist(many, centres).amin(dim=1).mean() for count, centres in fitted.items()}
    assert error[64] < 0.5 * error[4]
    again = k_means(many, 64, torch.Generator().manual_seed(0))
    assert torch.equal(again, k_means(many, 64, torch.Generator().manual_seed(0)))
    assert torch.cdist(many, again).argmin(dim=1).unique().numel() == 64  # none is idle


def test_a_palette_is_fitted_before_the_first_step_kept_in_the_state_and_gives_images_back():
    method = small_method("igpt")
    assert not method.target.palette.any()
    batch = views_of(method, count=8)
    method.prepare(iter([batch]))
    assert method.target.palette.any()
    assert {"target.palette", "target.log_shares"} <= method.state_dict().keys()
    target = method.target
    units = method.encoder.normalize_units(method.encoder.grid.cut(batch["views"][0]))
    numbers = target.of(units)
    assert target.log_shares.exp().sum() == pytest.approx(1, abs=1e-5)
    by_frequency = target.errors(target.log_shares.repeat(target.count).expand(*numbers.shape[:2], -1), numbers)
    torch.testing.assert_close(target.guessing(numbers), by_frequency)
    scores = 100 * torch.nn.functional.one_hot(numbers, target.colours).float().flatten(2)
    every = torch.arange(16).expand(8, -1)
    drawn = target.to_pixels(scores, batch["views"][0].float(), Mask(every, every))
    assert drawn.shape == units.shape
    assert (drawn - units).abs().mean() < 0.6 * (units - units.mean()).abs().mean()


def test_a_palette_is_of_as_many_pixels_as_the_small_image_has():
    grid = small_encoder().grid  # 4 x 4 units of 8 x 8 pixels
    for side, pixels in ((4, 1), (8, 2), (15, 3), (1, 1), (500, 8)):
        assert Palette(grid, colours=4, side=side).pixels == (pixels, pixels)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("igpt(mask='random')", "igpt\\(masked=True\\)"),
        ("igpt(colours=1)", "colours must be"),
        ("igpt(side=0)", "side must be"),
        ("igpt(mlp_depth=-1)", "mlp_depth must be"),
    ],
)
def test_settings_that_cannot_work_are_refused(text, says):
    with pytest.raises(UserError, match=says):
        build("method", text, encoder=small_encoder())


def test_encoders_whose_tokens_attend_to_everything_are_refused():
    hiera = create_encoder("hiera_tiny_224", image_size=(64, 64), patch_size=32)
    for text, says in (("igpt", "earlier ones only"), ("igpt(masked=True)", "drops them")):
        with pytest.raises(UserError, match=says):
            build("method", text, encoder=hiera)


def test_the_nearest_colour_is_the_same_in_bf16():
    palette = torch.linspace(1.0, 1.01, 16)[:, None].repeat(1, 3)  # in bf16 they are two or three
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert _nearest(palette, palette).tolist() == list(range(16))
