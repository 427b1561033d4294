"""What the paper's ablations are made of: PCA targets, mask tokens in the encoder, crops, counted FLOPs."""

import numpy as np
import pytest
import torch
from support.small import SMALL

import unmask
from unmask.data.transforms.kernels.crop import FixedCrop
from unmask.errors import UserError
from unmask.masking.grid import Grid, take
from unmask.masking.mask import hide_top
from unmask.methods.mae import MAE
from unmask.methods.targets.pca import Pca
from unmask.models.encoder import create_encoder
from unmask.runs.run import make_objective
from unmask.training import checkpoint
from unmask.training.speed.step_cost import step_flops

DECODER = "full(dim=64, depth=1, heads=2)"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(count=40, seed=0):
    coarse = torch.randn(count, 3, 5, 5, generator=seeded(seed))
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")


def fitted(components, x):
    pca = Pca(Grid((4, 4), (8, 8)), 3, components)
    pca.fit(iter(x.split(16)))
    return pca


def test_pca_finds_the_components_of_an_independent_implementation():
    from sklearn.decomposition import PCA

    x = smooth()
    ours, theirs = fitted(10, x), PCA(10, svd_solver="full").fit(Grid((4, 4), (8, 8)).cut(x).flatten(0, 1).numpy())
    np.testing.assert_allclose(np.abs(np.sum(ours.basis.numpy() * theirs.components_, axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(ours.mean.numpy(), theirs.mean_, atol=1e-5)
    variance = ours(x).flatten(0, 1).var(dim=0)
    np.testing.assert_allclose((variance * ours.scale**2).numpy(), theirs.explained_variance_, rtol=1e-3)
    assert float(variance.mean()) == pytest.approx(1, abs=0.01)


def test_pca_is_fitted_once_and_the_same_way_every_time():
    x, other = smooth(), smooth(seed=1)
    first, second = fitted(8, x), fitted(8, x)
    assert torch.equal(first.basis, second.basis)
    first.fit(iter([other]))
    assert torch.equal(first.basis, second.basis)
    assert not torch.allclose(fitted(8, other).basis, second.basis)
    with pytest.raises(RuntimeError, match="fitted"):
        Pca(Grid((4, 4), (8, 8)), 3, 8)(x)


def test_pca_goes_back_to_pixels_as_well_as_its_components_allow():
    x, grid = smooth(), Grid((4, 4), (8, 8))
    mask = hide_top(torch.rand(40, 16, generator=seeded()), 0.75)
    want = take(grid.cut(x), mask.hidden)
    errors = []
    for components in (4, 32, 192):
        pca = fitted(components, x)
        errors.append((pca.to_pixels(take(pca(x), mask.hidden), x, mask) - want).square().mean().item())
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-8


def test_a_model_learns_to_predict_components():
    torch.manual_seed(0)
    encoder = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=(32, 32), patch_size=8)
    mae = MAE(encoder, target="pca(components=8)", decoder=DECODER)
    batch = {"views": [smooth(16)]}
    mae.prepare(iter([batch]))
    adam, losses = torch.optim.AdamW(mae.parameters(), lr=1e-3), []
    for _ in range(30):
        loss = mae(batch)["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert set(mae.context(batch)) == {"data_mean", "visible_mean", "nearest"}


def test_more_components_than_values_are_refused_with_what_is_near():
    with pytest.raises(UserError, match=r"1 to 48 .* pca\(components=6\)"):
        Pca(Grid((8, 8), (4, 4)), 3)


@pytest.mark.slow
def test_a_run_keeps_its_components_and_continues_with_them(photos, tmp_path):
    options = SMALL | {"target": "pca(components=12)", "save_every": 2, "keep_every": 2}
    whole = unmask.pretrain(photos, out=tmp_path / "run", steps=4, **options)
    objective = whole.objective()
    assert objective.target.dim == 12
    assert objective.target.fitted
    assert (objective.target.basis.count_nonzero(dim=1) > 12).all()  # not the rows of a unit matrix
    x = torch.randint(0, 256, (1, 3, 32, 32), generator=seeded()).byte()
    assert objective.rebuild(x, hide_top(torch.rand(1, 16), 0.75)).isfinite().all()
    (whole.path / "summary.json").unlink()
    (whole.path / "step_00000002.ckpt").replace(whole.path / checkpoint.LAST)
    again = unmask.pretrain(photos, out=whole.path, steps=4, **options).objective().state_dict()
    assert all(torch.equal(value, again[name]) for name, value in objective.state_dict().items())
    target = make_objective(whole.config).target
    target.load_state_dict(objective.target.state_dict())
    target.fit(iter([torch.randn(2, 3, 32, 32)]))  # what was loaded is not fitted again: `--init RUN` keeps its basis
    assert torch.equal(target.basis, objective.target.basis)


def test_with_mask_tokens_in_the_encoder_every_parameter_learns_and_nothing_hidden_leaks(encoder):
    mae = MAE(encoder, decoder=DECODER, symmetric=True)
    x, mask = torch.randint(0, 256, (2, 3, 32, 32), generator=seeded()).byte(), hide_top(torch.rand(2, 16), 0.75)
    mae({"views": [x], "mask": mask})["loss"].backward()
    assert [n for n, p in mae.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())] == []
    mae.eval()
    units = encoder.grid.cut(x)
    at = mask.hidden[..., None].expand(-1, -1, units.shape[-1])
    other = encoder.grid.join(units.scatter(1, at, 255 - units.gather(1, at)))
    with torch.no_grad():
        torch.testing.assert_close(mae.predict(other, mask), mae.predict(x, mask))
        kept = mae.predict(x, mask)
        mae.mask_token.add_(1)
        assert not torch.allclose(mae.predict(x, mask), kept)


def test_without_them_the_state_is_what_it_was(encoder):
    names = set(MAE(encoder, decoder=DECODER).state_dict())
    assert "decoder.mask_token" in names
    assert not [name for name in names if name.startswith(("target", "mask_token"))]


def test_a_decoder_that_cannot_take_all_tokens_is_refused(encoder):
    with pytest.raises(UserError, match="symmetric"):
        MAE(encoder, decoder=torch.nn.Identity(), symmetric=True)


def block_flops(tokens, dim):
    """Forward, of one block: qkv, attention, projection, two layers of four times the width."""
    return 2 * tokens * 12 * dim**2 + 4 * tokens**2 * dim


def test_counted_flops_are_those_on_paper_and_mask_tokens_cost_the_full_sequence():
    encoder = create_encoder("vit_tiny_patch16_224(depth=2)", image_size=(32, 32), patch_size=4)
    batch = {"views": [torch.zeros(2, 3, 32, 32).byte()]}
    counted = {s: step_flops(MAE(encoder, decoder=DECODER, symmetric=s), batch) for s in (False, True)}
    last = 2 * (65 * 2 + 48 * 10) * 64**2 + 4 * 48 * 65 * 64  # a block with keys and values of all, the rest of 48
    decoder = last + 2 * 48 * 64 * 48  # 48 hidden units of 48 values
    for symmetric, tokens in ((False, 17), (True, 65)):
        embed = 2 * (65 if symmetric else 17) * 192 * 64
        patches = 2 * 64 * 48 * 192
        want = 3 * (2 * block_flops(tokens, 192) + decoder + embed) + 2 * patches
        assert counted[symmetric] == pytest.approx(want, rel=0.01)
    assert counted[True] > 2.5 * counted[False]
    assert all(p.grad is None for p in encoder.parameters())


def test_a_fixed_crop_is_seven_eighths_of_the_largest_window_at_its_own_size():
    column = torch.arange(64.0).expand(1, 64, 64)
    views = [FixedCrop((16, 16), flip=False)(column, seeded(i)) for i in range(60)]
    widths = [float(view[0, 0, -1] - view[0, 0, 0]) * 16 / 15 for view in views]
    assert all(abs(width - 56) < 4 for width in widths)
    starts = [float(view[0, 0, 0]) for view in views]
    assert min(starts) < 3
    assert max(starts) > 7
    assert FixedCrop((8, 16))(torch.zeros(3, 40, 20).byte(), seeded()).shape == (3, 8, 16)
    assert FixedCrop((4, 4))(torch.zeros(2, 1, 1), seeded()).shape == (2, 4, 4)
