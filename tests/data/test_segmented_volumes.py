"""Volumes with labels: found, paired, checked, and cut into boxes of which the labels say the same voxels."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from support.volumemaking import AFFINE, TURNED, turned, volume, write_labelled, write_volume

from unmask.data.annotations.legend import VOID
from unmask.data.datasets.volumes import SegmentedVolumes
from unmask.data.modality import make_modality
from unmask.data.transforms.labelled.volume import BoxView, rotation
from unmask.errors import DataError, UserError


def opened(place, modality="volume", **options):
    said = []
    return SegmentedVolumes((str(place),), modality=make_modality(modality), say=said.append, **options), said


def test_volumes_and_labels_of_one_name_go_together_in_the_splits_of_their_folders(tmp_path):
    for split, first, count in (("train", 0, 3), ("val", 10, 1), ("test", 20, 2)):
        write_labelled(tmp_path, count, split, first)
    (tmp_path / "classes.json").write_text(json.dumps(["ground", "ball", "box"]))
    data, _ = opened(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 3, "val": 1, "test": 2}
    assert (data.classes, data.numbers, data.background) == (["ground", "ball", "box"], [0, 1, 2], 0)
    assert data.sheet.modality == "volume"
    volumes = data.segments("test", 1)
    both = volumes.image(0)
    values, labels = volume(20)
    assert both.shape == (2, 14, 18, 16)  # d h w: up, to the front, to the right
    assert np.array_equal(both[1].numpy(), labels.transpose(2, 1, 0))
    assert np.corrcoef(both[0].numpy().ravel(), values.transpose(2, 1, 0).ravel())[0, 1] > 0.99


def test_the_layout_of_the_decathlon_is_understood(tmp_path):
    for number in range(4):
        values, labels = volume(number)
        write_volume(tmp_path / "imagesTr" / f"case_{number}_0000.nii.gz", values)
        write_volume(tmp_path / "labelsTr" / f"case_{number}.nii.gz", labels)
    write_volume(tmp_path / "imagesTs" / "case_9_0000.nii.gz", volume(9)[0])
    names = {"0": "background", "1": "Ball", "2": "Box"}
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "Toys", "labels": names, "numTraining": 4}))
    data, said = opened(tmp_path)
    assert data.classes == ["background", "Ball", "Box"]
    assert sum(len(rows) for rows in data.splits.values()) == 4
    assert any("of the test split have no masks at all" in text for text in said)
    (tmp_path / "imagesTr" / "case_0_0001.nii.gz").write_bytes(
        (tmp_path / "imagesTr" / "case_0_0000.nii.gz").read_bytes()
    )
    with pytest.raises(DataError, match="no image in"):
        opened(tmp_path)


def test_labels_that_do_not_fit_are_left_out_with_the_reason(tmp_path):
    write_labelled(tmp_path, 12)
    write_volume(tmp_path / "labels" / "000.nii.gz", volume(0)[1][:-2])
    (tmp_path / "labels" / "001.nii.gz").unlink()
    write_volume(tmp_path / "labels" / "002.nii.gz", volume(2)[1].astype(np.float32) + 0.5)
    shifted = AFFINE.copy()
    shifted[0, 3] = 5
    write_volume(tmp_path / "labels" / "003.nii.gz", volume(3)[1], shifted)
    (tmp_path / "images" / "004.nii.gz").write_bytes((tmp_path / "images" / "004.nii.gz").read_bytes()[:400])
    data, said = opened(tmp_path)
    text = "\n".join(said)
    for line in ("000.nii.gz: is 14 x 18 x 16, its labels 14 x 18 x 14", "001.nii.gz: has no mask",
                 "002.nii.gz: a volume of labels has whole numbers", "003.nii.gz: its labels lie up to 5.0 voxels away",
                 "004.nii.gz: truncated"):  # fmt: skip
        assert line in text, line
    assert sum(len(rows) for rows in data.splits.values()) == 7
    with pytest.raises(DataError, match=r"(?s)5 of 12 .*000\.nii\.gz"):
        opened(tmp_path, max_bad=0.1)
    with pytest.raises(UserError, match="is no folder of volumes"):
        opened(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"images/ and labels/"):
        opened(tmp_path / "empty")


def test_labels_stored_along_other_axes_say_the_same_voxels(tmp_path):
    write_labelled(tmp_path, 3)
    straight, _ = opened(tmp_path)
    values, labels = volume(0)
    write_volume(tmp_path / "images" / "000.nii.gz", turned(values), TURNED)
    mixed, _ = opened(tmp_path)  # the labels still as they were
    bare = nib.Nifti1Image(turned(labels), None)  # says nothing of where it lies: as its volume does
    nib.save(bare, tmp_path / "labels" / "000.nii.gz")
    silent, said = opened(tmp_path)
    assert any("say nothing of where they lie" in text for text in said)
    for other in (mixed, silent):
        for index in range(3):
            assert np.array_equal(other.map(index), straight.map(index))


@pytest.mark.parametrize("modality", ["volume(spacing=1.0)", "volume(foreground=True)", "volume"])
def test_labels_follow_a_volume_that_is_resampled_or_cut_and_the_way_back_is_the_same(tmp_path, modality):
    values, labels = volume(3)
    values[labels == 0] = 0
    write_volume(tmp_path / "images" / "0.nii.gz", values)
    write_volume(tmp_path / "labels" / "0.nii.gz", labels)
    write_labelled(tmp_path, 2, first=1)
    data, _ = opened(tmp_path, modality)
    split = next(split for split, rows in data.splits.items() if 0 in rows)
    volumes, row = data.segments(split, 1), data.splits[split].index(0)
    both = volumes.image(row)
    assert (both[0] > 0.2).eq(both[1] > 0).float().mean() > 0.97  # what is bright is what is labelled
    located, truth = volumes.located(row)
    assert truth.shape == located.size == (14, 18, 16)
    if "foreground" in modality:
        assert both.shape[1:] != truth.shape
    logits = torch.nn.functional.one_hot(both[1].long(), 3).movedim(-1, 0).float()
    assert (located.back(logits, 0) == truth).mean() > (0.97 if "spacing" in modality else 0.999)


def test_a_box_shows_the_same_place_of_a_volume_and_of_its_labels_without_mixing_them():
    labels = volume(5, size=(24, 24, 24))[1]
    labels[:2] = VOID
    both = torch.from_numpy(np.stack([np.where(labels == VOID, 0, labels) / 2.0, labels]).astype(np.float32))
    view = BoxView((12, 10, 8), 1.0, (0.0,), distort=False)
    seen = set()
    for seed in range(20):
        box = view(both, torch.Generator().manual_seed(seed))
        assert torch.equal(box, view(both, torch.Generator().manual_seed(seed)))
        assert box.shape == (2, 12, 10, 8)
        assert set(box[1].unique().tolist()) <= {0, 1, 2, VOID}
        seen |= set(box[1].unique().tolist())
        known = box[1] != VOID
        assert (box[0] - box[1] / 2)[known].abs().mean() < 0.08  # they differ at edges alone
    assert {0, 1, 2} <= seen


def test_without_chance_a_box_is_a_part_of_the_volume_as_it_is():
    both = torch.rand(2, 8, 8, 8).round(decimals=2)
    view = BoxView((8, 8, 8), 1.0, (0.0,), scale=(1.0, 1.0), turn=0.0, distort=False)
    torch.testing.assert_close(view(both, torch.Generator().manual_seed(0)), both, atol=1e-5, rtol=0)
    small = view(both[:, :4], torch.Generator().manual_seed(0))
    assert (small[1] == VOID).sum() == 4 * 64  # beyond the volume
    turn = rotation(torch.tensor([0.3, -0.2, 0.5]))
    torch.testing.assert_close(turn @ turn.T, torch.eye(3))
    with pytest.raises(UserError, match="smallest <= largest"):
        BoxView((8, 8, 8), 1.0, (0.0,), scale=(2.0, 1.0))
