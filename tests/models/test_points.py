"""Encoders, decoders, masks and targets of units that have places of their own."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from unmask.errors import UserError
from unmask.masking.mask import hide_top
from unmask.methods.mae import MAE
from unmask.methods.simmim import SimMIM
from unmask.methods.targets.chamfer import Chamfer
from unmask.methods.targets.occupancy import Occupancy
from unmask.models.encoder import create_encoder
from unmask.models.state import same_again
from unmask.registry import build

MODEL = "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)"
DECODER = "full(dim=16, depth=1, heads=2)"


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return create_encoder(MODEL, image_size=(96,), patch_size=(8,), channels=3, modality="points", placed=True).eval()


@pytest.fixture
def x():
    return torch.randn(4, 3, 96, generator=torch.Generator().manual_seed(1))


def without_gradient(module):
    """Names of trained parameters that no gradient reached."""
    parameters = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    return [name for name, parameter in parameters if parameter.grad is None or not parameter.grad.abs().sum() > 0]


def shuffled_inside(x, unit=8):
    """Groups whose points behind the first are in another order."""
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(unit - 1)])
    return x.unflatten(2, (-1, unit))[..., order].flatten(2)


def test_places_are_those_of_each_sample(encoder, x):
    grid = encoder.grid_of(x)
    assert grid.places.shape == (4, 12, 3)
    assert torch.equal(grid.places, x[:, :, ::8].transpose(1, 2))
    assert grid == encoder.grid


def test_the_order_of_points_in_a_group_does_not_matter(encoder, x):
    torch.testing.assert_close(encoder(shuffled_inside(x)).units, encoder(x).units, atol=1e-5, rtol=1e-5)


def test_the_order_of_groups_is_that_of_their_tokens(encoder, x):
    order = torch.randperm(12)
    other = x.unflatten(2, (12, 8))[:, :, order].flatten(2)
    tokens, moved = encoder(x), encoder(other)
    torch.testing.assert_close(moved.units, tokens.units[:, order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved.pooled, tokens.pooled, atol=1e-5, rtol=1e-5)


def test_where_a_group_lies_matters(encoder, x):
    moved = x.clone()
    moved[:, :, :8] += 1.0
    assert (encoder(moved).units[:, 0] - encoder(x).units[:, 0]).abs().max() > 1e-3


def test_nothing_hidden_is_seen(encoder, x):
    mask = hide_top(torch.rand(4, 12), 0.6)
    other = encoder.grid.cut(x).scatter(1, mask.hidden[..., None].expand(-1, -1, 24), 7.0)
    one, two = (encoder(part, mask).units for part in (x, encoder.grid.join(other)))
    assert torch.equal(one, two)
    assert one.shape == (4, mask.visible.shape[1], 24)


@pytest.mark.parametrize("decoder", [DECODER, "cross(dim=16, depth=2, heads=2)", "partial(dim=16, depth=1, heads=2)"])
@pytest.mark.parametrize("method", [MAE, SimMIM])
def test_gradients_reach_every_parameter(encoder, x, decoder, method):
    if method is SimMIM and decoder != DECODER:
        pytest.skip("simmim has no decoder")
    objective = method(encoder.train(), target="chamfer", **({"decoder": decoder} if method is MAE else {}))
    objective.prepare(iter([{"views": [x]}]))
    objective({"views": [x]})["loss"].backward()
    assert not without_gradient(objective)


def test_the_loss_is_the_chamfer_distance_of_scipy(encoder, x):
    mae = MAE(encoder, target="chamfer", decoder=DECODER)
    mae.prepare(iter([{"views": [x]}]))
    mask = hide_top(torch.rand(4, 12), 0.5)
    loss = mae({"views": [x], "mask": mask})["loss"].item()
    predicted, scale = mae.predict(x, mask).detach(), float(mae.target.scale)
    distances = []
    for sample in range(4):
        for place, unit in enumerate(mask.hidden[sample].tolist()):
            truth = x[sample, :, 8 * unit : 8 * unit + 8].T.numpy()
            truth = (truth - truth[0]) / scale
            guess = predicted[sample, place].view(8, 3).numpy()
            there, back = cKDTree(truth).query(guess)[0], cKDTree(guess).query(truth)[0]
            distances.append((there**2).mean() + (back**2).mean())
    assert loss == pytest.approx(np.mean(distances), rel=1e-5)
    spread = x.unflatten(2, (12, 8)) - x.unflatten(2, (12, 8))[..., :1]
    assert scale == pytest.approx(float(spread.square().mean().sqrt()), rel=1e-5)


def test_the_order_of_predicted_points_does_not_matter(encoder):
    target = Chamfer(encoder.grid)
    wanted = torch.randn(2, 5, 24)
    guess = wanted.unflatten(2, (8, 3))[:, :, torch.randperm(8)].flatten(2)
    assert target.compare(guess, wanted) == 0
    assert target.compare(guess + 0.1, wanted) > 0


def test_predictions_are_drawn_around_their_centres(encoder, x):
    target = Chamfer(encoder.grid)
    target.fit([x])
    mask = hide_top(torch.rand(4, 12), 0.5)
    units = target(x)
    hidden = units.gather(1, mask.hidden[..., None].expand(-1, -1, 24))
    drawn = target.to_pixels(hidden, x, mask)
    wanted = encoder.grid.cut(x).gather(1, mask.hidden[..., None].expand(-1, -1, 24))
    torch.testing.assert_close(drawn, wanted, atol=1e-5, rtol=1e-5)


def test_blocks_hide_what_lies_around_one_group(encoder, x):
    grid = encoder.grid_of(x)
    mask = build("mask", "block(ratio=0.5)")(4, grid, "cpu", torch.Generator().manual_seed(0))
    assert mask.hidden.shape == (4, 6)
    for places, hidden, visible in zip(grid.places, mask.hidden, mask.visible):
        from_each = torch.cdist(places, places)
        assert any(from_each[n, hidden].max() <= from_each[n, visible].min() for n in range(12))


def test_parts_that_need_a_grid_are_refused(encoder):
    for mask in ("grid", "blob", "inverse_block"):
        with pytest.raises(UserError, match="clouds of points have none"):
            build("mask", mask, grid=encoder.grid, channels=3).require_grid(encoder.grid)
    for decoder in (
        "windowed(dim=16, depth=1, heads=2)",
        "conv(depth=1)",
        "full(dim=16, depth=1, heads=2, position='stored')",
    ):
        with pytest.raises(UserError, match="clouds of points have no grid"):
            build("decoder", decoder, grid=encoder.grid, in_dim=24, out_dim=24)
    with pytest.raises(UserError, match="rotary"):
        create_encoder("vit_small_patch16_dinov3(depth=1)", image_size=(96,), patch_size=(8,), placed=True)
    with pytest.raises(UserError, match="are clouds of points"):
        create_encoder("hiera_tiny_224", image_size=(96,), patch_size=(8,), placed=True)
    flat = create_encoder(MODEL, image_size=(32, 32), patch_size=8)
    for target in ("chamfer", "occupancy"):
        with pytest.raises(UserError, match="is for clouds of points"):
            build("target", target, grid=flat.grid, channels=3)


def test_an_encoder_of_points_can_be_made_again(encoder, x):
    again = same_again(encoder)
    again.net.load_state_dict(encoder.net.state_dict())
    assert torch.equal(again.eval()(x).units, encoder(x).units)


def test_the_occupancy_of_voxels_is_predicted():
    torch.manual_seed(0)
    encoder = create_encoder(MODEL, image_size=(8, 8, 8), patch_size=(4, 4, 4), channels=1)
    x = (torch.rand(3, 1, 8, 8, 8) < 0.1).float()
    mae = MAE(encoder, target="occupancy", decoder=DECODER)
    mae.prepare(iter([{"views": [x]}]))
    share = float(x.mean())
    assert float(mae.target.weight) == pytest.approx((1 - share) / share, rel=1e-4)
    mask = hide_top(torch.rand(3, 8), 0.5)
    loss = mae({"views": [x], "mask": mask})["loss"]
    guess = mae.predict(x, mask).detach().double()
    wanted = encoder.grid.cut(x).gather(1, mask.hidden[..., None].expand(-1, -1, 64)).double()
    log = torch.nn.functional.logsigmoid
    expected = -(wanted * log(guess) * float(mae.target.weight) + (1 - wanted) * log(-guess)).mean()
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    loss.backward()
    assert not without_gradient(mae)
    sure = 20 * (2 * wanted.float() - 1)  # what is predicted with certainty is drawn
    assert torch.equal(mae.target.to_pixels(sure, x, mask), wanted.float())
    rebuilt = mae.rebuild(x, mask)
    assert set(rebuilt.unique().tolist()) <= {0.0, 1.0}
    expected = (guess - float(mae.target.weight.log())).sigmoid().flatten(1).sum(dim=1).round()
    drawn = encoder.grid.cut(rebuilt).gather(1, mask.hidden[..., None].expand(-1, -1, 64))
    assert torch.equal(drawn.flatten(1).sum(dim=1).double(), expected)
    with pytest.raises(UserError, match="as voxels"):
        Occupancy(encoder.grid, channels=3)
