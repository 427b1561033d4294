"""The objective `mae`: what it is made of, and what must never change."""

import pytest
import torch

from unmask.masking.baselines import trivial
from unmask.masking.grid import take
from unmask.masking.mask import Mask, hide_top
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder
from unmask.registry import build

REFERENCE = {  # parameters in all and trained ones; mmpretrain's configs/mae/README.md has the same totals
    "vit_base_patch16_224": (111_907_840, 111_655_680),
    "vit_large_patch16_224": (329_541_888, 329_239_296),
    "vit_huge_patch14_224": (657_074_508, 656_613_964),
}


@pytest.fixture
def mae(encoder):
    return MAE(encoder, decoder="full(dim=64, depth=1, heads=2)")


@pytest.fixture
def x():
    return torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1)).byte()


LARGE = ("vit_large_patch16_224", "vit_huge_patch14_224")  # seconds, for the same code


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in REFERENCE]
)
def test_parameter_counts_equal_the_paper_s_models(model, monkeypatch):
    for name in ("xavier_uniform_", "normal_", "trunc_normal_", "kaiming_uniform_"):  # values do not matter here
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *a, **k: tensor)
    mae = MAE(create_encoder(model))
    trained = sum(p.numel() for p in mae.parameters() if p.requires_grad)
    tables = (
        mae.encoder.net.pos_embed.numel() + mae.decoder.position.numel() + mae.decoder.position.shape[1]
    )  # + cls row
    assert (trained + tables, trained) == REFERENCE[model]


def test_initialisation_is_mae_s(encoder, mae):
    block = encoder.net.blocks[0]
    bound = (6 / (4 * 192)) ** 0.5  # a fused qkv is one matrix of 3 x 192 rows
    assert 0.95 * bound < block.attn.qkv.weight.abs().max() <= bound
    assert (block.attn.qkv.bias == 0).all()
    patch = encoder.net.patch_embed.proj
    bound = (6 / (192 + 3 * 64)) ** 0.5
    assert 0.95 * bound < patch.weight.abs().max() <= bound
    assert patch.bias.abs().max() > 0  # torch's own default, as in MAE
    assert 0.01 < encoder.net.cls_token.std() < 0.03
    assert 0.01 < mae.decoder.mask_token.std() < 0.03
    assert {m.eps for m in mae.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}
    assert {m.approximate for m in mae.modules() if isinstance(m, torch.nn.GELU)} == {"none"}


def test_shuffled_units_change_the_loss(mae, x):
    """It would not, were the position tables constant: the failure that a well-known implementation ships."""
    mask = hide_top(torch.rand(4, 16), 0.75)
    units = mae.encoder.grid.cut(x)
    shuffled = mae.encoder.grid.join(units[:, torch.randperm(16, generator=torch.Generator().manual_seed(3))])
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    back = order.argsort()  # unit i now stands where order.argsort()[i] says
    moved = type(mask)(back[mask.visible], back[mask.hidden])
    assert torch.equal(take(mae.encoder.grid.cut(shuffled), moved.hidden), take(units, mask.hidden))
    with torch.no_grad():
        first = mae({"views": [x], "mask": mask})["loss"]
        second = mae({"views": [shuffled], "mask": moved})["loss"]
    assert (first - second).abs() > 1e-4


def test_visible_units_are_no_targets(mae, x, monkeypatch):
    """Garbage as the target of visible units changes nothing; garbage as that of hidden ones does."""
    mask, own, grid = hide_top(torch.rand(4, 16), 0.75), mae.targets, mae.encoder.grid
    with torch.no_grad():
        want = mae({"views": [x], "mask": mask})["loss"]
        for side, same in ((mask.visible, True), (mask.hidden, False)):
            at = side[..., None].expand(-1, -1, mae.target.dim)
            spoilt = grid.join(grid.cut(x).scatter(1, at, 0))
            monkeypatch.setattr(mae, "targets", lambda x, index, spoilt=spoilt: own(spoilt, index))
            assert torch.equal(mae({"views": [x], "mask": mask})["loss"], want) is same


def test_the_order_of_a_mask_does_not_matter(mae, x):
    mask = hide_top(torch.rand(4, 16), 0.75)
    turned = type(mask)(mask.visible.flip(1), mask.hidden.flip(1))
    with torch.no_grad():
        a, b = (mae({"views": [x], "mask": m})["loss"] for m in (mask, turned))
    torch.testing.assert_close(a, b)


def test_the_callers_mask_overrules_the_sampler(mae, x):
    own = Mask(visible=torch.arange(5, 16).expand(4, -1), hidden=torch.arange(5).expand(4, -1))
    assert mae.draw({"views": [x], "mask": own}).hidden.tolist() == [[0, 1, 2, 3, 4]] * 4
    assert mae.draw({"views": [x]}).hidden.shape == (4, 12)


def test_the_normalised_target_has_unit_variance_with_n_minus_one(encoder):
    target = build("target", "pixels", grid=encoder.grid, channels=3)
    values = target(torch.randn(2, 3, 32, 32) * 7 + 3)
    torch.testing.assert_close(values.var(dim=-1), torch.ones(2, 16), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.mean(dim=-1), torch.zeros(2, 16), atol=1e-5, rtol=0)


def test_rebuilding_keeps_visible_pixels_and_leaks_nothing(mae, x):
    mask = hide_top(torch.rand(4, 16), 0.75)
    mae.eval()
    units, rebuilt = mae.encoder.grid.cut(x.float()), mae.encoder.grid.cut(mae.rebuild(x, mask))
    torch.testing.assert_close(take(rebuilt, mask.visible), take(units, mask.visible), atol=1e-3, rtol=0)
    at = mask.hidden[..., None].expand(-1, -1, units.shape[-1])
    other = mae.encoder.grid.join(units.scatter(1, at, 255 - units.gather(1, at)))
    torch.testing.assert_close(mae.rebuild(other, mask), mae.rebuild(x, mask), atol=1e-3, rtol=0)
    assert not torch.allclose(mae.rebuild(other, mask, leak=True), mae.rebuild(x, mask, leak=True), atol=1.0)


def test_a_perfect_prediction_with_true_statistics_gives_the_image_back(mae, x):
    mask = hide_top(torch.rand(4, 16), 0.75)
    normal = mae.encoder.normalize(x)
    perfect = take(mae.target(normal), mask.hidden)
    pixels = mae.target.to_pixels(perfect, normal, mask, leak=True)
    torch.testing.assert_close(pixels, take(mae.encoder.grid.cut(normal), mask.hidden), atol=1e-2, rtol=1e-3)


def test_trivial_predictors_score_what_they_should(encoder):
    grid = encoder.grid
    mask = hide_top(torch.rand(8, 16), 0.75)
    flat = trivial(torch.full((8, 16, 12), 3.0), mask, grid)
    assert all(value == 0 for value in flat.values())
    noise = trivial(
        torch.randn(64, 16, 256, generator=torch.Generator().manual_seed(0)), hide_top(torch.rand(64, 16), 0.75), grid
    )
    assert abs(noise["data_mean"] - 1) < 0.05
    assert abs(noise["unit_mean"] - 255 / 256) < 0.05
    assert abs(noise["nearest"] - 2) < 0.1  # two independent values differ by twice the variance
    ramp = grid.coordinates()[:, :1].expand(8, -1, 12)  # neighbours are alike: copying one beats the average
    assert trivial(ramp, mask, grid)["nearest"] < trivial(ramp, mask, grid)["visible_mean"]
