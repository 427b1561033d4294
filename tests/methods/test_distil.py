"""Distillation: the student learns what the teacher shows, the teacher nothing; which maps learn from which."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support.methods import small_encoder, teacher_file
from support.small_training import Crash, losses, train
from support.students import images
from torch.nn.functional import cosine_similarity, layer_norm

from unmask.errors import UserError
from unmask.methods.distil import Distil, _matched
from unmask.methods.families.whole_teacher import Level, WholeTeacher
from unmask.models.encoder import create_encoder
from unmask.training.optimizer import groups
from unmask.weights.open import open_weights

TEACHER = str(teacher_file())  # 32 pixels, patches of 8, 192 wide


def student(net="test_resnet", channels=3, size=(32, 32)):
    values = {"mean": (127.0,) * channels, "std": (60.0,) * channels, "channels": channels}
    return create_encoder(f"maps(net={net!r})", image_size=size, **values)


def method(seed=0, net="test_resnet", **options):
    torch.manual_seed(seed)
    distil = Distil(student(net), of=TEACHER, **options).train()
    distil.prepare(iter([{"views": [images(16)]}]))
    return distil


@pytest.mark.parametrize("net", ["test_resnet", "torchvision:squeezenet1_1", "test_convnext"])
@pytest.mark.parametrize("loss", ["cosine", "smooth_l1"])
def test_every_parameter_of_the_student_learns_and_none_of_the_teacher(net, loss):
    distil = method(net=net, loss=loss)
    for norm in (part for part in distil.encoder.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        torch.nn.init.ones_(norm.weight)  # timm begins the last of a block at zero, and what lies before it with it
    before = distil.teacher.encoder.state_dict()
    distil({"views": [images(4)]})["loss"].backward()
    assert [name for name, p in distil.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad is None and not p.requires_grad for p in distil.teacher.encoder.parameters())
    optimized = {id(p) for group in groups(distil, 0.05) for p in group["params"]}
    assert not optimized & {id(p) for p in distil.teacher.encoder.parameters()}
    assert not any("teacher" in name and value.ndim > 3 for name, value in distil.state_dict().items())
    assert all(torch.equal(value, distil.teacher.encoder.state_dict()[name]) for name, value in before.items())


@pytest.mark.slow
def test_the_student_learns_the_teacher_and_its_features_say_more_than_a_random_student_s():
    """How much of what the teacher makes of other images a linear map can read off the student's features."""
    distil, x, others = method(), images(256, seed=5, coarse=8), images(128, seed=6, coarse=8)
    fresh = student().train()
    with torch.no_grad():
        fresh.seen(x)  # statistics of its batch normalisation
        for norm in (part for part in fresh.modules() if isinstance(part, torch.nn.BatchNorm2d)):
            norm.momentum = 1.0
        fresh.seen(x)
    adam = torch.optim.AdamW([p for p in distil.parameters() if p.requires_grad], lr=3e-3)
    measured = []
    for step in range(25):
        loss = distil({"views": [x[(32 * step) % 256 :][:32]]})["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        measured.append(loss.item())
    assert sum(measured[-5:]) < 0.6 * sum(measured[:5])
    explained = {encoder: _explained(encoder.eval(), distil.teacher, x, others) for encoder in (distil.encoder, fresh)}
    assert explained[distil.encoder] > explained[fresh] + 0.05, explained.values()


@torch.no_grad()
def _explained(encoder, teacher, x, others):
    own, new = encoder.seen(x)[0].double(), encoder.seen(others)[0].double()
    own, new = ((part - own.mean(dim=0)) / (own.std(dim=0) + 1e-6) for part in (own, new))
    wanted, truth = teacher.shown(x).pooled.double(), teacher.shown(others).pooled.double()
    wanted, truth = ((part - wanted.mean(dim=0)) / wanted.std(dim=0) for part in (wanted, truth))
    ridge = own.T @ own / len(own) + torch.eye(own.shape[1])
    read = new @ torch.linalg.solve(ridge, own.T @ wanted / len(own))
    return float(1 - (read - truth).square().mean() / truth.square().mean())


def test_a_constant_is_worth_nothing_once_what_all_images_share_is_taken_away():
    distil, x = method(), images(16)
    shown = distil.teacher.shown(x)
    torch.nn.init.zeros_(distil.to_features.weight)
    with torch.no_grad():
        distil.to_features.bias.copy_(layer_norm(shown.pooled.mean(dim=0), (192,)))
    alike = cosine_similarity(layer_norm(shown.pooled, (192,)), distil.to_features.bias, dim=1)
    assert float(alike.detach().mean()) > 0.6  # nearly right for every image, unless that is taken away
    assert float(distil({"views": [x]})["features"]) > 0.7
    torch.testing.assert_close(distil.get_buffer("mean_0"), shown.pooled.mean(dim=0))
    torch.testing.assert_close(distil.get_buffer("mean_1"), shown.maps[0].mean(dim=(0, 2, 3)))
    torch.testing.assert_close(distil.get_buffer("std_1"), shown.maps[0].std(dim=(0, 2, 3), unbiased=False))


def test_the_teacher_shows_the_features_and_the_map_of_its_own_weights():
    teacher, x = WholeTeacher(TEACHER, student()), images(3)
    units = open_weights(TEACHER).encoder()(x).units
    shown = teacher.shown(x)
    torch.testing.assert_close(shown.pooled, units.mean(dim=1))
    torch.testing.assert_close(shown.maps[0].flatten(2).transpose(1, 2), units)
    assert teacher.levels == [Level(192, 8.0)]
    large = WholeTeacher(TEACHER, student(size=(64, 64)))  # it sees them at 32 pixels
    assert large.levels == [Level(192, 16.0)]
    assert large.shown(images(2, 64)).maps[0].shape == (2, 192, 4, 4)
    classed = WholeTeacher(TEACHER, student(), pooling="cls").shown(x).pooled
    torch.testing.assert_close(classed, open_weights(TEACHER).encoder()(x).prefix[:, 0])


def test_features_that_are_kept_on_the_disk_are_the_same(tmp_path):
    distil, x = method(), images(4)
    plain = distil.eval()({"views": [x]})["loss"]
    distil.teacher.keep_in(tmp_path)
    first = distil({"views": [x]})["loss"]
    distil.teacher.kept.write()
    again = method().eval()
    again.teacher.keep_in(tmp_path)
    assert torch.equal(first, plain)
    assert torch.equal(again({"views": [x]})["loss"], plain)


def test_maps_learn_from_the_nearest_stride_and_those_that_are_named():
    own = [Level(8, 2), Level(8, 4), Level(16, 8), Level(32, 16), Level(64, 32)]
    assert _matched(own, [Level(192, 8.0)], None) == [(2, 0), (3, 0), (4, 0)]
    assert _matched(own, [Level(96, 4), Level(192, 16)], None) == [(1, 0), (2, 0), (3, 1), (4, 1)]
    assert _matched(own, [Level(192, 8.0)], (16,)) == [(3, 0)]
    with pytest.raises(UserError, match=r"no map of stride 7; it has 2, 4, 8, 16, 32"):
        _matched(own, [Level(192, 8.0)], (7,))


@pytest.mark.slow
def test_a_distilled_student_can_teach(tmp_path):
    """Its maps of several strides pair with another's."""
    teacher = student("test_resnet")
    facts = {"timm": json.dumps(teacher.arguments), "mean": "[127, 127, 127]", "std": "[60, 60, 60]"}
    save_file(teacher.net.state_dict(), tmp_path / "student.safetensors", metadata=facts)
    distil = Distil(student("test_convnext"), of=str(tmp_path / "student.safetensors"))
    assert len(distil.teacher.levels) == teacher.num_maps
    assert len({theirs for _, theirs in distil.taught}) > 1
    assert distil({"views": [images(4)]})["loss"].isfinite()
    with pytest.raises(UserError, match=r"takes 3 channels, not 1: only filters of ViTs"):
        Distil(student("test_convnext", channels=1), of=str(tmp_path / "student.safetensors"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": None}, "distil needs a teacher"),
        ({"of": "nowhere.pth"}, "the teacher cannot be opened.*no such file"),
        ({"loss": "cosin"}, "did you mean 'cosine'"),
        ({"pooling": "clss"}, "did you mean 'cls'"),
        ({"features": 0.0, "maps": 0.0}, "nothing to learn"),
        ({"strides": (3,)}, "no map of stride 3; it has"),
    ],
)
def test_what_cannot_be_taught_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Distil(student(), **{"of": TEACHER, **options})


def test_a_teacher_of_other_channels_is_refused():
    with pytest.raises(UserError, match=r"sees images of 3 channels, the student those of 5"):
        Distil(student(channels=5), of=TEACHER)
    assert Distil(student(channels=1), of=TEACHER)({"views": [images(2, channels=1)]})["loss"].isfinite()


def test_one_loss_alone_and_a_vit_as_student():
    assert set(method(maps=0.0)({"views": [images(4)]})) == {"loss", "features", "spread"}
    assert set(method(features=0.0)({"views": [images(4)]})) == {"loss", "maps", "spread"}
    assert Distil(small_encoder(), of=TEACHER)({"views": [images(4)]})["maps"].isfinite()


@pytest.mark.slow
def test_a_student_that_is_stopped_and_resumed_ends_with_the_same_weights_and_statistics(tmp_path):
    def batches(first):
        while True:
            yield {"views": [images(6, seed=first)]}
            first += 1

    def stop(step, steps):
        if step == 3:
            raise Crash
        return {}

    options = {"steps": 5, "warmup": 1, "lr": 1e-3, "log_every": 1, "save_every": 2, "batches": batches}
    whole = train(tmp_path / "whole", method(), **options)
    with pytest.raises(Crash):
        train(tmp_path / "resumed", method(), stop, **options)
    resumed = train(tmp_path / "resumed", method(seed=1), **options)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    state = resumed.state_dict()
    assert any("running_mean" in name for name in state)
    assert all(torch.equal(value, state[name]) for name, value in whole.state_dict().items())
