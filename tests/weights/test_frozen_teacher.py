"""A teacher that is opened, learned from and never trained: what it sees, what a run records, and what it refuses."""

import copy
import shutil

import pytest
import timm
import torch
from support.methods import small_encoder, small_method, teacher_file, views_of
from support.small import SMALL
from torch.nn.functional import layer_norm

import unmask
from unmask.errors import UserError
from unmask.methods.target import Target
from unmask.models.encoder import create_encoder
from unmask.registry import build
from unmask.weights import frozen_teacher
from unmask.weights.canonical import IMAGENET
from unmask.weights.files import read_state
from unmask.weights.frozen_teacher import FrozenTeacher
from unmask.weights.open import open_weights

SMALLER = {key: value for key, value in SMALL.items() if key != "batch"} | {"batch": 8, "steps": 2, "workers": 0}


def target(text, **encoder) -> Target:
    student = small_encoder(**encoder)
    return build("target", text, grid=student.grid, channels=student.channels, encoder=student)


def images(*size, channels=3):
    return torch.randint(0, 256, (2, channels, *size), generator=torch.Generator().manual_seed(0)).byte()


def test_features_are_those_of_the_opened_encoder_normalised_by_its_own_statistics_and_per_patch():
    x = images(32, 32)
    wanted = open_weights(teacher_file()).encoder()(x).units
    features = target(f"features(of={str(teacher_file())!r})")(x)
    torch.testing.assert_close(features, layer_norm(wanted, wanted.shape[-1:]))


@pytest.mark.parametrize(("size", "seen"), [((32, 32), (32, 32)), ((64, 64), (32, 32)), ((32, 64), (24, 48))])
def test_a_teacher_sees_about_its_own_number_of_pixels_in_the_shape_of_the_image(size, seen):
    teacher = FrozenTeacher(str(teacher_file()), small_encoder())
    assert teacher.size_for(size) == seen
    grid = create_encoder("vit_tiny_patch16_224(depth=1)", image_size=size, patch_size=16).grid
    assert teacher(images(*size), grid).shape == (2, grid.num_units, 192)


def test_features_are_resampled_to_the_grid_of_the_student_so_that_places_stay_where_they_are():
    """What is in the right half of an image is in the right half of the student's grid."""
    x = torch.zeros(1, 3, 32, 32)
    x[..., 16:] = 255
    features = FrozenTeacher(str(teacher_file()), small_encoder(), size=64)(x, small_encoder().grid)
    halves = features.unflatten(1, (4, 4))[0]
    left, right = halves[1:3, 0].mean(dim=0), halves[1:3, 3].mean(dim=0)
    assert (halves[:, 0] - left).norm() < (halves[:, 0] - right).norm()


def test_a_teacher_made_for_colours_takes_grey_images_and_another_number_of_channels():
    for channels in (1, 5):
        student = small_encoder(channels, mean=90.0, std=40.0)
        teacher = FrozenTeacher(str(teacher_file()), student)
        assert teacher(images(32, 32, channels=channels), student.grid).isfinite().all()


def test_deep_images_are_normalised_by_the_mean_of_the_data_not_by_the_teachers():
    deep = FrozenTeacher(str(teacher_file()), small_encoder(mean=30000.0, std=9000.0))
    assert deep.mean.flatten().tolist() == [30000.0] * 3
    assert "the data's mean and std" in deep.note
    usual = FrozenTeacher(str(teacher_file()), small_encoder())
    assert usual.mean.flatten().tolist() == pytest.approx(IMAGENET[0])
    assert "licence: unknown" in usual.note


@pytest.mark.parametrize("name", ["mae(target=features)", "simmim(target=features)"])
def test_a_frozen_teacher_is_in_no_state_and_no_optimizer_and_stays_as_it_is(name):
    method = small_method(name)
    teacher = method.target.teacher
    before = copy.deepcopy(teacher.encoder.state_dict())
    assert not any("teacher" in key for key in method.state_dict())
    assert not any("teacher" in key for key, _ in method.named_parameters())
    method.train()
    assert not any(module.training for module in teacher.encoder.modules())
    method(views_of(method))["loss"].backward()
    for key, value in teacher.encoder.state_dict().items():
        assert torch.equal(value, before[key])
    assert not any(parameter.requires_grad for parameter in teacher.encoder.parameters())


def test_opening_a_teacher_leaves_the_students_random_numbers_alone():
    frozen_teacher._open.cache_clear()
    first, again = (small_method("mae(target=features)").decoder.state_dict() for _ in range(2))
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_a_teacher_is_opened_with_its_values_where_a_plan_is_made_without_any():
    with torch.device("meta"):
        assert not FrozenTeacher(str(teacher_file()), small_encoder()).encoder.mean.is_meta


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("features", "needs a teacher, in quotes"),
        ("features(of='nowhere.pth')", "no such file or folder"),
        ("features(of='timm:vit_tny_patch16_224')", "did you mean 'vit_tiny_patch16_224'"),
        ("features(of='FILE', loss='l3')", "smooth_l1, cosine"),
        ("features(of='FILE', size=30)", "the nearest: 24 x 24 and 32 x 32"),
        ("features(of='FILE', size=(32,))", "height and width"),
    ],
)
def test_teachers_that_cannot_work_are_refused_in_words(text, says):
    with pytest.raises(UserError, match=says):
        target(text.replace("FILE", str(teacher_file())))


def test_the_losses_are_zero_for_the_teachers_own_features_and_have_their_name():
    for loss, words in (("smooth_l1", "smooth L1"), ("cosine", "cosine")):
        method = small_method(f"mae(target=features(of={str(teacher_file())!r}, loss={loss!r}))")
        features = method.target(images(32, 32))
        assert method.target.compare(2 * features, features) == pytest.approx(0 if loss == "cosine" else 0.4, abs=0.15)
        assert words in method.words["loss"]


def test_timm_prefix_names_a_model_even_where_a_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vit_tiny_patch16_224").mkdir()

    def pretrained(name, pretrained=False, **arguments):
        assert pretrained
        return create(name, **arguments | {"depth": 1})

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", pretrained)
    monkeypatch.setattr("unmask.weights.timm_models.why_unreachable", lambda address: None)
    assert open_weights("timm:vit_tiny_patch16_224").weights.layout == "timm's weights"


@pytest.mark.slow
@pytest.mark.parametrize("text", ["features(of='FILE')", "mix(a=pixels, b=features(of='FILE', loss='cosine'))"])
def test_a_teachers_licence_is_said_at_the_start_and_kept_and_its_weights_are_in_no_file(
    text, photos, tmp_path, capsys
):
    path = tmp_path / "mae_pretrain_vit_small.pth"  # a name by which Meta's weights are known
    shutil.copy(teacher_file(), path)
    options = SMALLER | {"target": text.replace("FILE", str(path))}
    unmask.pretrain(photos, out=tmp_path / "run", dry_run=True, **options)
    assert "CC-BY-NC 4.0, not for commercial use" in " ".join(capsys.readouterr().out.split())
    run = unmask.pretrain(photos, out=tmp_path / "run", **options)
    (teacher,) = run.config.record.teachers
    assert teacher["licence"].startswith("CC-BY-NC 4.0")
    assert "CC-BY-NC 4.0" in (run.path / "report.html").read_text(encoding="utf-8")
    assert "CC-BY-NC 4.0" in open_weights(run.path).licence
    state = torch.load(run.path / "last.ckpt", weights_only=True)["objective"]
    assert not any("teacher" in key or "_encoder" in key for key in state)
    unmask.export(run.path, to="timm", out=tmp_path / "exported")
    (exported,) = (tmp_path / "exported").rglob("*.safetensors")
    assert read_state(exported).keys() == run.encoder().net.state_dict().keys()


@pytest.mark.slow
def test_a_run_records_its_teacher_and_refuses_to_go_on_with_another(photos, tmp_path, monkeypatch):
    net = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32, patch_size=8, num_classes=0)
    path = tmp_path / "teacher.pth"
    torch.save(net.state_dict(), path)
    monkeypatch.chdir(tmp_path)
    options = SMALLER | {"target": "features(of='teacher.pth')", "steps": 4, "save_every": 1}
    run = unmask.pretrain(photos, out=tmp_path / "run", **options)
    assert str(path) in run.config.method.target
    (teacher,) = run.config.record.teachers
    assert teacher["licence"] is None
    assert len(teacher["sha256"]) == 64
    assert "What it learned from" in (run.path / "report.html").read_text(encoding="utf-8")
    assert run.objective().target.teacher.sha256 == teacher["sha256"]
    unmask.export(run.path, to="timm", out=tmp_path / "exported")
    card = next((tmp_path / "exported").rglob("README.md")).read_text(encoding="utf-8")
    assert "It learned from the features of `teacher.pth`" in card
    assert "of the teacher teacher.pth" in open_weights(run.path).licence
    (run.path / "summary.json").unlink()
    for checkpoint in run.path.glob("*.ckpt"):
        if checkpoint.name != "step_00000002.ckpt":
            checkpoint.unlink()
    path.rename(tmp_path / "away.pth")
    with pytest.raises(UserError, match="no such file or folder"):
        unmask.pretrain(photos, out=tmp_path / "run", **options | {"target": run.config.method.target})
    with torch.no_grad():
        net.norm.bias.add_(1.0)
    torch.save(net.state_dict(), path)
    with pytest.raises(UserError, match="are not those that the run was begun with"):
        unmask.pretrain(photos, out=tmp_path / "run", **options)
    (tmp_path / "away.pth").rename(path)
    assert unmask.pretrain(photos, out=tmp_path / "run", **options).finished
