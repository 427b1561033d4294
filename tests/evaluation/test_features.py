"""Features: the right tokens pooled, in order, without touching the encoder."""

import numpy as np
import pytest
import torch

from unmask.errors import UserError
from unmask.evaluation.features import Features, extract, pixels, pooled, searched
from unmask.models.encoder import create_encoder

SIZE = (64, 64)


def batches(x, labels=None, batch=3):
    found = []
    for start in range(0, len(x), batch):
        rows = slice(start, start + batch)
        found.append({"views": [x[rows]], "index": torch.arange(len(x))[rows]})
        if labels is not None:
            found[-1]["label"] = labels[rows]
    return found


def images(count=8, size=SIZE):
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(1)).byte()


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return create_encoder("vit_tiny_patch16_224(depth=5)", image_size=SIZE, std=(60.0,) * 3)


def test_every_pooling_is_what_its_name_says(vit):
    x = images(2)
    vit.eval()
    with torch.no_grad():
        layers, found = vit.layers(x, 4), pooled(vit, x)
    assert list(found) == ["mean", "cls", "mean4"]
    torch.testing.assert_close(found["mean"], layers[-1].units.mean(1))
    torch.testing.assert_close(found["cls"], layers[-1].prefix[:, 0])
    torch.testing.assert_close(found["mean4"], torch.cat([layer.units.mean(1) for layer in layers], dim=1))
    assert found["mean4"].shape == (2, 4 * vit.dim)


@pytest.mark.parametrize(
    ("model", "width"),
    [("vit_medium_patch16_reg4_gap_256(depth=2)", 2 * 512), ("hiera_tiny_224", 96 + 192 + 384 + 768)],
)
def test_models_without_class_token_have_no_cls_and_layers_may_differ_in_width(model, width):
    encoder = create_encoder(model, image_size=SIZE).eval()
    with torch.no_grad():
        found = pooled(encoder, images(1))
    assert list(found) == ["mean", "mean4"]
    assert found["mean4"].shape == (1, width)
    with pytest.raises(UserError, match=r"no class token.*There are: mean, mean4"):
        pooled(encoder, images(1), ["cls"])


def test_features_keep_the_order_and_do_not_depend_on_the_batch(vit):
    x, labels, told = images(), torch.arange(8) % 3, []
    one = extract(vit, batches(x, labels), "cpu", told.append)
    other = extract(vit, batches(x, labels, batch=8), "cpu", poolings=["cls"])
    assert told == [3, 6, 8]
    np.testing.assert_array_equal(one.labels, labels.numpy())
    np.testing.assert_array_equal(one.index, np.arange(8))
    assert list(other.pools) == ["cls"]
    np.testing.assert_allclose(one.pools["cls"], other.pools["cls"], atol=1e-4)
    assert one.pools["mean"].dtype == np.float32
    assert np.ptp(one.pools["mean"], axis=0).max() > 1e-3  # images differ, and so must their features


def test_extracting_twice_gives_the_same_and_leaves_every_mode_as_it_was():
    encoder = create_encoder("vit_tiny_patch16_224(depth=2, proj_drop_rate=0.5)", image_size=SIZE).train()
    encoder.net.blocks[0].eval()  # frozen by somebody
    modes = [m.training for m in encoder.modules()]
    one, two = (extract(encoder, batches(images(3)), "cpu") for _ in range(2))
    np.testing.assert_array_equal(one.pools["mean4"], two.pools["mean4"])
    assert [m.training for m in encoder.modules()] == modes
    np.testing.assert_array_equal(one.labels, [-1, -1, -1])  # the loader gave none


def test_the_mode_comes_back_even_if_extraction_fails(vit):
    vit.train()
    with pytest.raises(UserError, match="not finite"):
        extract(vit, batches(torch.full((2, 3, *SIZE), float("nan"))), "cpu")
    assert vit.training
    with pytest.raises(UserError, match="no images"):
        extract(vit, [], "cpu")


def test_autocast_computes_in_bf16_and_returns_float32(vit):
    one = extract(vit, batches(images(2)), "cpu")
    two = extract(vit, batches(images(2)), "cpu", autocast=torch.bfloat16)
    assert two.pools["mean"].dtype == np.float32
    error = np.abs(one.pools["mean"] - two.pools["mean"]).max()
    assert 0 < error < 0.2


def test_raw_pixels_are_flat_and_large_images_are_shrunk_by_averaging():
    small = images(2, (5, 7))
    found = pixels(batches(small))
    np.testing.assert_array_equal(found.pools["pixels"], small.flatten(1).float().numpy())
    large = images(2, (64, 32))
    found = pixels(batches(large)).pools["pixels"]
    means = large.float().unflatten(3, (16, 2)).unflatten(2, (32, 2)).mean(dim=(3, 5))
    np.testing.assert_allclose(found, means.flatten(1).numpy(), rtol=1e-5)


def test_rows_are_taken_from_all_of_it():
    features = Features({"mean": np.arange(6.0).reshape(3, 2)}, np.array([4, 5, 6]), np.array([7, 8, 9]))
    some = features.take(np.array([True, False, True]))
    assert len(some) == 2
    assert some.pools["mean"].tolist() == [[0, 1], [4, 5]]
    assert (some.labels.tolist(), some.index.tolist()) == ([4, 6], [7, 9])


def test_earlier_layers_are_poolings_too_as_many_as_there_are(raw):
    torch.manual_seed(0)
    deep = create_encoder("vit_tiny_patch16_224(depth=5, embed_dim=24, num_heads=2)", image_size=(32, 32), patch_size=8)
    assert set(searched(deep)) == {"mean", "cls", "mean4", "mean@2", "mean@3", "mean@4"}
    vectors = pooled(deep.eval(), raw, ["mean", "mean4", "mean@2", "mean@4"])
    torch.testing.assert_close(vectors["mean4"], torch.cat([vectors["mean@4"], *_between(deep, raw)], dim=1))
    assert not torch.equal(vectors["mean@2"], vectors["mean"])
    shallow = create_encoder(
        "vit_tiny_patch16_224(depth=2, embed_dim=24, num_heads=2)", image_size=(32, 32), patch_size=8
    )
    assert "mean@3" not in searched(shallow)
    with pytest.raises(UserError, match="no pooling 'mean@3'"):
        pooled(shallow, raw, ["mean@3"])


def _between(encoder, raw):
    vectors = pooled(encoder, raw, ["mean@3", "mean@2", "mean"])
    return [vectors[name] for name in ("mean@3", "mean@2", "mean")]
