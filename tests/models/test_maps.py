"""Any network as an encoder: its maps, its features, its state dict, and what is refused."""

import pytest
import timm
import torch
import torchvision
from support.students import NET, Auxiliary, ChannelsLast, Functional, Random, SharedPool, Tokens, images
from torch import nn

from unmask.errors import UserError
from unmask.masking.mask import Mask
from unmask.methods.mae import MAE
from unmask.models.any_network import how_to_build, library_of, model_of
from unmask.models.encoder import create_encoder
from unmask.models.layers.feature_taps import find_taps
from unmask.models.state import load_strictly, model_text, same_again
from unmask.registry import find, given, parse

SMALL = ["test_resnet", "test_efficientnet", "test_convnext", "torchvision:squeezenet1_1", "torchvision:resnet18"]


def student(net, size=(64, 64), **options):
    torch.manual_seed(0)
    return create_encoder(f"maps(net={net!r})", image_size=size, **options)


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "net.py"


@pytest.mark.parametrize("net", SMALL)
def test_a_network_gives_maps_of_every_stride_and_its_own_features_in_one_pass(net):
    encoder, x = student(net).eval(), images(side=64)
    pooled, maps = encoder.seen(x)
    strides, dims = encoder.feature_strides(range(encoder.num_maps)), encoder.feature_dims(range(encoder.num_maps))
    assert strides == sorted(set(strides))
    assert strides[-1] >= 16
    assert [m.shape[1] for m in maps] == dims
    assert all(abs(64 / stride - m.shape[2]) <= 1 for stride, m in zip(strides, maps))
    torch.testing.assert_close(encoder.net(encoder.normalize(x)), pooled)
    torch.testing.assert_close(encoder(x).units, pooled[:, None])
    torch.testing.assert_close(encoder.features(x, (0, -1))[1], maps[-1])
    layers = encoder.layers(x, 3)
    torch.testing.assert_close(layers[-2].units, maps[-2].flatten(2).transpose(1, 2))
    torch.testing.assert_close(layers[-1].units, encoder(x).units)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in encoder.net.modules())


@pytest.mark.slow
def test_maps_are_those_of_the_stages():
    encoder, x = student("torchvision:resnet18").eval(), images(side=64)
    net, pixels = encoder.net, encoder.normalize(x)
    stem = net.relu(net.bn1(net.conv1(pixels)))
    wanted = [stem, net.layer1(net.maxpool(stem))]
    for layer in (net.layer2, net.layer3, net.layer4):
        wanted.append(layer(wanted[-1]))
    for mine, theirs in zip(encoder.seen(x)[1], wanted, strict=True):
        torch.testing.assert_close(mine, theirs)
    encoder = student("test_convnext").eval()
    net, pixels = encoder.net, encoder.normalize(x)
    wanted = net.stem(pixels)
    for stage, feature_map in zip(net.stages, encoder.seen(x)[1], strict=True):
        wanted = stage(wanted)
        torch.testing.assert_close(feature_map, wanted)
    mobile = student("mobilenetv3_small_100", size=(32, 32))
    assert mobile.feature_dims(range(5)) == [16, 16, 24, 48, 576]  # of blocks, not of what is inside them


def test_maps_are_found_where_strides_change_in_functions_and_channels_come_last():
    taps = find_taps(Functional(), 3, (32, 32), "it")
    assert [(tap.module, tap.dim, tap.stride) for tap in taps.taps] == [("second", 6, 2), ("third", 8, 4)]
    parts = [nn.Conv2d(4, 5, 1), nn.Conv2d(5, 6, 1, stride=2), nn.Conv2d(6, 7, 1, stride=2)]
    net = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2), nn.Sequential(*parts), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    taps = find_taps(net, 3, (32, 32), "it")  # of the stages, not what goes into all of them
    assert [(tap.module, tap.dim, tap.stride) for tap in taps.taps] == [("1.1", 5, 2), ("1.2", 6, 4), ("1", 7, 8)]
    net, x = SharedPool().eval(), torch.rand(2, 3, 32, 32)
    taps = find_taps(net, 3, (32, 32), "it")
    assert [(tap.module, tap.dim, tap.stride) for tap in taps.taps] == [("pool", 6, 2), ("pool", 6, 4), ("third", 8, 8)]
    wanted = net.second(net.pool(net.first(x)))
    for mine in taps(net, x)[1]:
        torch.testing.assert_close(mine, wanted)
        wanted = net.third(net.pool(wanted)) if mine.shape[2] == 8 else net.pool(wanted)
    net = ChannelsLast()
    taps = find_taps(net, 3, (32, 32), "it")
    assert [(tap.dim, tap.stride) for tap in taps.taps] == [(12, 4), (20, 8)]
    pooled, maps = taps(net, torch.rand(2, 3, 32, 32))
    assert [m.shape for m in maps] == [(2, 12, 8, 8), (2, 20, 4, 4)]
    torch.testing.assert_close(maps[1].mean(dim=(2, 3)), pooled)


def test_a_network_that_looks_at_values_is_tried_without_changing_it_or_the_random_numbers():
    torch.manual_seed(3)
    net = Random().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    taps = find_taps(net, 3, (32, 32), "it")
    assert [(tap.dim, tap.stride) for tap in taps.taps] == [(8, 4)]
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_transformers_of_timm_give_the_maps_that_timm_makes_of_their_tokens():
    encoder, x = (
        student("beit_base_patch16_224(depth=2, embed_dim=48, num_heads=2)", size=(224, 224)).eval(),
        images(1, 224),
    )
    pooled, maps = encoder.seen(x)
    assert [m.shape for m in maps] == [(1, 48, 14, 14)]
    torch.testing.assert_close(pooled, encoder(x).units[:, 0])


@pytest.mark.parametrize("net", ["test_resnet", "test_efficientnet(drop_rate=0.1)", "torchvision:resnet18"])
def test_the_state_dict_is_that_of_the_network_s_own_library(net):
    encoder = student(net, channels=3)
    space = {"timm": timm, "torchvision": torchvision, "torch": torch}
    exec(how_to_build(encoder.network, 3), space)
    assert type(space["net"]) is type(encoder.net)
    space["net"].load_state_dict(encoder.net.state_dict(), strict=True)
    twin = same_again(encoder)
    load_strictly(twin.net, encoder.net.state_dict(), "it")
    x = images(side=64)
    torch.testing.assert_close(twin.eval()(x).units, encoder.eval()(x).units)
    assert model_text(encoder) == f"maps(net={net!r})"


def test_depth_grows_from_the_image_to_the_head():
    encoder = student("torchvision:resnet18")
    depths = {name: encoder.depth_of(f"net.{name}") for name, _ in encoder.net.named_parameters()}
    order = [
        depths[name] for name in ("conv1.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer4.1.bn2.bias")
    ]
    assert order == sorted(set(order))
    assert order[0] == 1
    assert max(depths.values()) <= encoder.num_blocks
    assert depths["layer2.0.downsample.0.weight"] == depths["layer2.1.conv2.weight"]


def test_a_class_of_the_user_s_is_run_only_where_it_is_given(file, monkeypatch):
    for text in ("./net.py:Small(width=4)", "net.py:Small(width=4)", f"{file}:Small(width=4)"):
        with pytest.raises(UserError, match=r"what a file names is not run.*--parts"):
            student(text)
        with given([text]):
            encoder = student(text, size=(32, 32))
        assert encoder.feature_dims(range(3)) == [4, 8, 16]
        assert encoder.dim == 8 + 16  # of the two maps that it returns
        assert how_to_build(encoder.network, 3) == "net = Small(width=4)"
    monkeypatch.syspath_prepend(file.parent)
    with given(["net.Small(width=2)"]):
        assert student("net.Small(width=2)", size=(32, 32)).dim == 12
        assert find("encoder", "net:number")() == 3
    assert parse("my_lab.nets.Net(width=2)") == ("my_lab.nets:Net", {"width": 2})
    assert parse("timm:vit_small_patch16_224")[0] == "timm:vit_small_patch16_224"


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("resnet81", "no network 'resnet81' in timm or torchvision, did you mean 'resnet18'"),
        ("torchvision:resnet81", "no network 'resnet81' in torchvision, did you mean"),
        ("torch:resnet18", "torch is a part from outside of unmask"),
        ("resnet18.a1_in1k", r"begins with random weights.*give resnet18"),
        ("resnet18(num_classes=3)", "num_classes in timm:resnet18.* is set by unmask"),
        ("test_resnet(nosuch=1)", r"test_resnet\(nosuch=1\) cannot be built: TypeError"),
        ("torchvision:googlenet(init_weights=False)", "numbers in training and .* afterwards.*aux_logits=False"),
        ("torchvision:vit_b_32", "cannot take images of 3 channels and 64 x 64 pixels"),
    ],
)
def test_networks_that_cannot_be_students_are_refused_with_what_is_near(net, message):
    with pytest.raises(UserError, match=message):
        student(net)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("./net.py:Smal", "there is no 'Smal', did you mean 'Small'"),
        ("./nosuch.py:Small", "there is no such file"),
        ("./net.py:Flat", r"gives no feature maps|cannot take images"),
        ("./net.py:Small(nosuch=1)", "cannot be built: TypeError"),
        ("./net.py:Small(channels=1)", r"cannot take images of 3 channels.*--channels"),
        ("./net.py:number", "gives a int; give a class of nn.Module"),
        ("nosuch.nets.Net", "cannot import 'nosuch.nets'"),
    ],
)
def test_classes_that_cannot_be_students_are_refused(text, message, file):
    with given([text]), pytest.raises(UserError, match=message):
        student(text, size=(32, 32))


def test_networks_without_maps_or_with_other_outputs_in_training_are_refused():
    with pytest.raises(UserError, match="it gives no feature maps"):
        find_taps(Tokens(), 3, (32, 32), "it")
    with pytest.raises(UserError, match="it gives 16 numbers in training and 8 afterwards"):
        find_taps(Auxiliary(), 3, (32, 32), "it")
    with pytest.raises(UserError, match="it cannot take images"):
        find_taps(torch.nn.Conv1d(3, 3, 1), 3, (32, 32), "it")


def test_what_sees_whole_images_hides_nothing():
    encoder, x = student("test_resnet"), images(side=64)
    with pytest.raises(UserError, match=r"test_resnet sees whole images.*unmask distil"):
        encoder(x, Mask(torch.zeros(2, 1).long(), torch.zeros(2, 0).long()))
    with pytest.raises(UserError, match="cannot leave hidden patches out"):
        MAE(encoder)
    assert encoder.grid_of(images(side=40)).shape == (1, 1)  # of any size


def test_a_vit_that_can_hide_patches_is_an_encoder_itself():
    assert model_of("vit_tiny_patch16_224(depth=2)") == "vit_tiny_patch16_224(depth=2)"
    assert model_of("timm:vit_tiny_patch16_224") == "vit_tiny_patch16_224"
    assert model_of("resnet18") == "maps(net='resnet18')"
    assert library_of("mobilenet_v3_small")[0] == "torchvision"  # timm has none of this name
