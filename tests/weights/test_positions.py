"""Which grid a position table is for: stated, told by its content, assumed and said, or asked for."""

import pytest
import timm
import torch
from torch.nn.functional import interpolate

import unmask
from unmask.errors import UserError
from unmask.weights.open import open_weights
from unmask.weights.positions import table_layout
from unmask.weights.reading import Reading


def layout(table, wanted=None, stated=None, size=None, **more):
    state = {"cls_token": torch.zeros(1, 1, table.shape[2]), "pos_embed": table, **more}
    return table_layout(state, (16, 16), size=size, stated=stated, wanted=wanted, source="x.pth")


def trained(rows, columns, noise=0.5):
    """As training leaves a table: patches near each other are alike."""
    torch.manual_seed(0)
    coarse = torch.randn(1, 192, max(2, rows // 3), max(2, columns // 3))
    units = interpolate(coarse, size=(rows, columns), mode="bicubic").flatten(2).transpose(1, 2)
    return torch.cat([torch.randn(1, 1, 192), units + noise * torch.randn_like(units)], dim=1)


@pytest.mark.parametrize("shape", [(14, 14), (7, 28), (28, 7), (13, 15), (8, 32), (12, 48), (37, 37)])
def test_a_trained_table_tells_its_grid(shape):
    assert layout(trained(*shape)).shape == shape


@pytest.mark.parametrize("size", [(32, 64), (208, 240), (96, 224)])
def test_weights_of_images_that_are_not_square_give_timm_s_features(size, tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0, img_size=size).eval()
    torch.nn.init.normal_(net.pos_embed, std=0.5)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    x = torch.rand(1, 3, *size) * 255
    for encoder in (
        unmask.load(tmp_path / "a.pth", image_size=size),
        unmask.load(tmp_path / "a.pth", weights_size=size),
    ):
        with torch.no_grad():
            torch.testing.assert_close(encoder(x).units, net.forward_features(encoder.normalize(x))[:, 1:])
    with pytest.raises(UserError, match="--weights-size"):
        open_weights(tmp_path / "a.pth")


def test_a_square_number_of_patches_is_asked_for_where_the_images_are_not_square(tmp_path):
    random = torch.randn(1, 17, 192, generator=torch.Generator().manual_seed(0))
    assert "taken as 4 x 4" in layout(random).remark
    with pytest.raises(UserError, match="32 x 128, 64 x 64"):
        layout(random, wanted=(32, 128))
    assert layout(random, wanted=(32, 128), size=(32, 128)).shape == (2, 8)
    assert layout(random, wanted=(32, 128), size=(64, 64)).shape == (4, 4)
    assert layout(random, stated=(32, 128)).shape == (2, 8)
    with pytest.raises(UserError, match="its position table has 17 rows"):
        layout(random, size=(64, 80))


def test_the_class_token_s_row_is_no_patch_unless_the_model_is_one_without_it():
    random = torch.randn(1, 196, 192, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="does not tell the size"):
        layout(random)
    scaled = {"blocks.0.ls1.gamma": torch.zeros(192)}
    assert (layout(random, **scaled).prefix, layout(random, **scaled).shape) == (0, (14, 14))


def test_timm_s_config_states_the_size(tmp_path):
    import json

    net = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=0, img_size=(32, 128))
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    arguments = {"img_size": [32, 128], "depth": 1}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224", "model_args": arguments}))
    opened = open_weights(tmp_path)
    assert opened.grid.shape == (2, 8)
    assert opened.model == "vit_tiny_patch16_224(depth=1)"
    assert open_weights(tmp_path, reading=Reading(size=(64, 64))).grid.shape == (4, 4)
