"""Groups of bands, distances on the ground and times in the encoder, against the same by hand."""

import pytest
import torch
from torch.nn.functional import conv2d

from unmask.errors import UserError
from unmask.masking.grid import take
from unmask.masking.grouped_grid import GroupedGrid
from unmask.models.encoder import create_encoder
from unmask.models.layers.band_embed import in_metres, times
from unmask.models.layers.position import sincos
from unmask.models.state import copied, same_again
from unmask.registry import build

GROUPS = ((0, 3, 1), (2,))
TINY = "depth=1, embed_dim=24, num_heads=2"


def encoder(more="", channels=4, name="vit_tiny_patch16_224", **options):
    torch.manual_seed(0)
    text = f"{name}({TINY}{more})"
    return create_encoder(text, image_size=(16, 24), patch_size=8, channels=channels, **options).eval()


def scenes(planes=0, batch=2):
    x = torch.randn(batch, 4 + planes, 16, 24, generator=torch.Generator().manual_seed(1))
    if planes:
        x[:, 4] = 10.0
    return x


def test_units_of_groups_are_cut_and_joined_again():
    grid = GroupedGrid((2, 2, 3), (1, 8, 8), groups=GROUPS)
    x = scenes()
    units = grid.cut(x)
    assert units.shape == (2, 12, 3 * 64)
    assert torch.equal(grid.join(units), x)
    first = x[:, [0, 3, 1], :8, :8].permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(units[:, 0], first)
    alone = units[:, 6].unflatten(1, (64, 3))  # the smaller group, repeated
    assert torch.equal(alone, x[:, 2, :8, :8].flatten(1)[..., None].expand(-1, -1, 3))
    hidden = grid.spread(torch.arange(12)[None] == 7)
    assert hidden[0, 2, :8, 8:16].all()
    assert hidden.sum() == 64
    assert grid.covering((32, 8)).shape == (2, 4, 1)


def test_a_group_has_the_filters_of_its_bands_and_an_embedding_of_its_own():
    grouped = encoder(f", groups={GROUPS}")
    embed, x = grouped.net.patch_embed, scenes()
    tokens = embed(x)
    for number, group in enumerate(GROUPS):
        own = conv2d(x[:, list(group)], embed.proj.weight[:, list(group)], embed.proj.bias, stride=8)
        torch.testing.assert_close(tokens[:, 6 * number : 6 * number + 6], own.flatten(2).mT + embed.group[number])
    assert grouped.grid.shape == (2, 2, 3)
    assert grouped(x).units.shape == (2, 12, 24)
    (map_,) = grouped.features(x)
    assert map_.shape == (2, 24, 2, 3)
    torch.testing.assert_close(
        grouped.features(x, norm=True)[0].flatten(2).mT, grouped(x).units.unflatten(1, (2, 6)).mean(1)
    )


def test_masks_hide_places_of_each_group_apart_or_the_same_of_all():
    grid = encoder(f", groups={GROUPS}").grid
    for text, alike in (("random(ratio=0.5)", False), ("tube(ratio=0.5)", True)):
        masks = [
            build("mask", text, grid=grid)(8, grid, "cpu", torch.Generator().manual_seed(n)).hidden for n in range(4)
        ]
        places = [torch.zeros(8, 12).scatter(1, hidden, 1).unflatten(1, (2, 6)) for hidden in masks]
        assert all(torch.equal(p[:, 0], p[:, 1]) for p in places) == alike


@pytest.mark.parametrize("method", ["mae", "simmim"])
def test_groups_are_rebuilt_apart_and_every_parameter_learns(method):
    model = encoder(f", groups={GROUPS}, planes=4, scale=10.0", gaps=True).train()
    decoder = {"decoder": "full(dim=16, depth=1, heads=2)"} if method == "mae" else {}
    objective = build("method", method, encoder=model, **decoder)
    x = scenes(planes=4)
    x[:, 2, :8, :8] = torch.nan
    objective({"views": [x]})["loss"].backward()
    trained = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    assert not [name for name, p in trained.items() if p.grad is None]
    mask = objective.draw({"views": [x]})
    rebuilt = objective.rebuild(x, mask)
    assert rebuilt.shape == x.shape
    assert torch.equal(rebuilt[:, 4:], x[:, 4:])
    shown = model.grid.cut(x[:, :4])
    same = take(model.grid.cut(rebuilt[:, :4]), mask.visible)
    visible = take(shown, mask.visible)
    torch.testing.assert_close(same[visible.isfinite()], visible[visible.isfinite()])
    assert (mask.hidden == 6).any(dim=1).all()  # what has no value is hidden first


def test_positions_lie_as_far_apart_as_patches_do_on_the_ground():
    plain, scaled = encoder(), encoder(", planes=1, scale=10.0")
    scaled.net.load_state_dict(plain.net.state_dict())
    x, near = scenes(), scenes(planes=1)
    near[:, :4] = x
    torch.testing.assert_close(scaled(near).units, plain(x).units)
    unknown = near.clone()
    unknown[:, 4] = torch.nan
    torch.testing.assert_close(scaled(unknown).units, plain(x).units)
    far = near.clone()
    far[1, 4] = 20.0
    assert torch.equal(scaled(far).units[0], scaled(near).units[0])
    assert (scaled(far).units[1] - scaled(near).units[1]).abs().max() > 0.01
    grid = scaled.grid
    table = in_metres(grid, 24, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(table[0], sincos(grid, 24))
    torch.testing.assert_close(table[1][1], sincos(type(grid)((1, 3), (8, 8)), 24)[2])  # one patch twice as far


def test_times_are_told_where_they_are_known_and_say_nothing_at_first():
    timed = encoder(", planes=4")
    x = scenes(planes=4)
    x[:, 5:] = torch.tensor([[2021.0, 6, 10.5], [torch.nan] * 3]).view(2, 3, 1, 1)
    told = times(x[:, 5:, 0, 0])
    assert told.shape == (2, 48)
    assert not told[1].any()
    assert told[0, :8].tolist() == pytest.approx(
        [float(torch.sin(torch.tensor(19.0 * 10 ** (-k / 2)))) for k in range(8)]
    )
    before = timed(x).units
    torch.nn.init.normal_(timed.net.patch_embed.time.weight)
    after = timed(x).units
    assert (after[0] - before[0]).abs().max() > 0.01
    assert torch.equal(after[1], before[1])


def test_copies_have_the_same_groups_and_what_cannot_be_is_refused():
    one = encoder(f", groups={GROUPS}, planes=4, scale=10.0")
    assert copied(one, 0.1, scratch=False).arguments["groups"] == GROUPS
    assert same_again(one).planes == 4
    with pytest.raises(UserError, match="once"):
        encoder(", groups=((0, 1), (2,))")
    rotary = {"image_size": (28, 28), "patch_size": 14, "channels": 4}
    name = "eva02_tiny_patch14_224(depth=1, embed_dim=24, num_heads=2"
    assert create_encoder(f"{name}, groups={GROUPS})", **rotary)(torch.randn(1, 4, 28, 28)).units.shape == (1, 8, 24)
    with pytest.raises(UserError, match="table of positions"):
        create_encoder(f"{name}, planes=1, scale=10.0)", **rotary)
    with pytest.raises(UserError, match="windows"):
        encoder(f", groups={GROUPS}, window=2, global_blocks=1")
    with pytest.raises(UserError, match="takes 8 channels"):
        one(scenes())


def test_filters_of_red_green_and_blue_stay_with_their_bands_and_others_get_the_mean():
    from unmask.planning.initial_weights import FromWeights
    from unmask.planning.plan import Plan
    from unmask.weights.canonical import Canonical
    from unmask.weights.open import Opened

    torch.manual_seed(1)
    text = f"vit_tiny_patch16_224({TINY})"
    rgb = create_encoder(text, image_size=(16, 24), patch_size=8, channels=3)
    weights = Canonical(layout="x", encoder=dict(rgb.net.state_dict()), image_size=(16, 24))
    opened = Opened(source="x", weights=weights, model=text, grid=rgb.grid, channels=3, licence=None, prefix=1)
    plan = Plan({"modality": "bands(names=('B02', 'B03', 'B04', 'B8'))", "method": "mae"})
    FromWeights(opened).guide(plan, 4)
    assert plan.settings["bands"] == ["blue", "green", "red", "band 4"]
    assert "keep their filters" in plan.reasons["bands"]
    new = encoder(f", groups={GROUPS}, planes=4")
    group = new.net.patch_embed.group.clone()
    opened.put(new, plan.settings["bands"])
    old, filters = rgb.net.patch_embed.proj.weight, new.net.patch_embed.proj.weight
    for band, colour in enumerate((2, 1, 0)):
        torch.testing.assert_close(filters[:, band], old[:, colour] * 3 / 4)
    torch.testing.assert_close(filters[:, 3], old.mean(dim=1) * 3 / 4)
    assert torch.equal(new.net.pos_embed, rgb.net.pos_embed)
    assert torch.equal(new.net.patch_embed.group, group)
