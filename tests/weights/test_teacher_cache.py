"""Features of a teacher that are kept where views stay the same: the same losses, written whole, within bounds."""

import errno
import shutil

import pytest
import torch
from support.configuring import config_of
from support.methods import small_encoder, small_method, teacher_file, views_of
from support.small import SMALL
from support.small_training import losses

import unmask
from unmask.data.transform import make_transform
from unmask.planning import build as building
from unmask.planning.build import keep_features
from unmask.weights import teacher_cache
from unmask.weights.frozen_teacher import FrozenTeacher
from unmask.weights.teacher_cache import KeptFeatures


@pytest.fixture
def images():
    return torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture
def teacher():
    return FrozenTeacher(str(teacher_file()), small_encoder())


def counted(teacher, monkeypatch):
    """The sizes of the batches that the teacher's network sees from now on."""
    batches, forward = [], type(teacher.encoder).forward
    monkeypatch.setattr(
        type(teacher.encoder), "forward", lambda self, x, *rest: batches.append(len(x)) or forward(self, x, *rest)
    )
    return batches


def test_features_are_computed_once_and_are_the_same(teacher, images, tmp_path, monkeypatch):
    grid, (first, second) = small_encoder().grid, images.split(3)
    plain = [teacher(first, grid), teacher(second, grid)]
    teacher.keep_in(tmp_path)
    batches = counted(teacher, monkeypatch)
    assert torch.equal(teacher(first, grid), plain[0])
    assert torch.equal(teacher(first.flip(0), grid), plain[0].flip(0))
    assert batches == [3]
    for features in teacher.kept.new.values():
        features += 1  # so that what is kept can be told from what is computed
    mixed = teacher(torch.cat([first[:1], second[:2]]), grid)
    assert torch.equal(mixed[0], plain[0][0] + 1)
    torch.testing.assert_close(mixed[1:], plain[1][:2])
    assert batches == [3, 3]  # the whole batch again, so that a run that goes on computes the same
    teacher.kept.write()
    again = FrozenTeacher(str(teacher_file()), small_encoder())
    again.keep_in(tmp_path)
    assert torch.equal(again(torch.cat([first[:1], second[:2]]), grid), mixed)
    assert batches == [3, 3]


def test_another_view_size_teacher_or_precision_is_not_mistaken(teacher, images, tmp_path, monkeypatch):
    teacher.keep_in(tmp_path)
    grid = small_encoder().grid
    batches = counted(teacher, monkeypatch)
    teacher(images, grid)
    changed = images.clone()
    changed[0, 0, 0, 0] += 1
    for x, g in ((changed, grid), (images.float(), grid), (images[..., :16], grid.covering((32, 16)))):
        teacher(x, g)
    with torch.autocast("cpu", torch.bfloat16):
        teacher(images, grid)
    teacher.size = (16, 16)
    teacher(images, grid)
    teacher.sha256 = "another"
    teacher(images, grid)
    assert len(batches) == 7


def test_a_checkpoint_finds_the_features_written_and_damaged_files_are_computed_again(images, tmp_path):
    method = small_method("mae(target=features)")
    method.target.teacher.keep_in(tmp_path)
    method(views_of(method))
    assert not list(tmp_path.iterdir())
    assert not any("kept" in key or "teacher" in key for key in method.state_dict())
    (file,) = tmp_path.glob("*.safetensors")
    assert not list(tmp_path.glob(".*"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    kept = KeptFeatures(tmp_path)
    assert (kept.places, file.exists()) == ({}, False)
    file.write_bytes(content)
    assert len(KeptFeatures(tmp_path).places) == 4


def test_files_are_of_a_modest_size_and_a_full_disk_only_ends_the_keeping(
    teacher, images, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(teacher_cache, "CHUNK", 2 * 16 * 192 * 4)
    grid = small_encoder().grid
    teacher.keep_in(tmp_path)
    for part in images[:4].split(2):
        teacher(part, grid)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2

    def full(path, write):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(teacher_cache, "write_atomically", full)
    plain = FrozenTeacher(str(teacher_file()), small_encoder())
    for _ in range(2):
        torch.testing.assert_close(teacher(images[4:], grid), plain(images[4:], grid))
    assert "they are computed" in capsys.readouterr().err
    assert torch.equal(teacher(images[:2], grid), plain(images[:2], grid))


@pytest.mark.parametrize(
    ("texts", "options", "variants"),
    [
        (("crops",), {"crop_kind": "whole", "flip": False}, 1),
        (("crops",), {"crop_kind": "whole", "flip": True}, 2),
        (("crops",), {"crop_kind": "fixed", "flip": False}, None),
        (("crops",), {}, None),
        (("crops(jitter=0.4)",), {"crop_kind": "whole"}, None),
        (("crops", "crops"), {"crop_kind": "whole", "flip": False}, 2),
    ],
)
def test_transforms_say_how_many_views_of_an_image_there_are(texts, options, variants):
    assert make_transform(texts, size=(32, 32), channels=3, patch=8, **options).variants == variants


def test_what_is_kept_and_what_is_not_is_said(tmp_path, monkeypatch):
    method, whole = small_method("mae(target=features)"), config_of(crop_kind="whole", flip="off")
    assert keep_features(config_of(), method, 24, tmp_path) is None
    assert keep_features(whole, small_method("mae"), 24, tmp_path) is None
    assert method.target.teacher.kept is None
    said = keep_features(whole, method, 1000, tmp_path)
    assert f"kept in {tmp_path / 'teacher_features'}, 12 MB at the most" in said  # 16 patches of 192 floats
    assert method.target.teacher.kept is not None
    for change in ({"most": 1000}, {"free": 10_000_000}):
        method.target.teacher.kept = None
        with monkeypatch.context() as patch:
            if "most" in change:
                patch.setattr(teacher_cache, "MOST", 1000)
            else:
                patch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10_000_000}))
            assert "computed in every step: they take 0.0 GB" in keep_features(whole, method, 1000, tmp_path)
        assert method.target.teacher.kept is None
    monkeypatch.setattr(building, "launch", lambda: type("Launch", (), {"world": 2}))
    assert "not with several processes" in keep_features(whole, method, 1000, tmp_path)


@pytest.mark.slow
def test_a_run_has_the_same_losses_with_kept_features_also_when_it_is_stopped(photos, tmp_path, monkeypatch, capsys):
    options = {**SMALL, "target": f"features(of={str(teacher_file())!r})", "crop_kind": "whole", "steps": 9}
    options |= {"save_every": 1, "keep_every": 4, "log_every": 1, "workers": 0}
    kept = unmask.pretrain(photos, out=tmp_path / "kept", **options)
    assert "the teacher's features are computed once and kept in" in " ".join(capsys.readouterr().out.split())
    assert not (kept.path / "teacher_features").exists()
    with monkeypatch.context() as patch:
        patch.setattr(teacher_cache, "MOST", 0)
        plain = unmask.pretrain(photos, out=tmp_path / "plain", **options)
    assert losses(kept.path) == pytest.approx(losses(plain.path), abs=2e-5)
    whole = losses(kept.path)

    class Killed(Exception):
        pass

    def stop(self, step, steps):
        if step == 6:
            raise Killed
        return {}

    with monkeypatch.context() as patch:
        patch.setattr("unmask.evaluation.watch.Watch.__call__", stop)
        with pytest.raises(Killed):
            unmask.pretrain(photos, out=tmp_path / "stopped", **options)
    assert list((tmp_path / "stopped" / "teacher_features").rglob("*.safetensors"))
    again = unmask.pretrain(photos, out=tmp_path / "stopped", **options)
    assert losses(again.path) == whole
