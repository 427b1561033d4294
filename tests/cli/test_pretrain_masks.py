"""Masks that look at the images, or move over the training, as a user gives them: planned, trained, drawn, exported."""

import json

import pytest
from safetensors import safe_open
from support.methods import teacher_file
from support.small import SMALL

import unmask
from unmask.errors import UserError

TEXTS = {
    "attention": "its teacher: a moving average of the encoder, made for it",
    "parts(ratio=(0.6, 0.8))": "hides 0.6, 0.65, 0.7, 0.75, 0.8 of the patches, each for 20% of the training; measured",
    "adaptive": "asked for",
    "tube": "the same as random here",
}


@pytest.mark.slow
@pytest.mark.parametrize("mask", TEXTS)
def test_a_run_says_what_its_mask_asks_draws_it_and_exports_the_encoder_alone(mask, photos, tmp_path):
    run = unmask.pretrain(photos, out=tmp_path / "run", mask=mask, steps=3, **SMALL)
    record = json.loads((run.path / "config.json").read_text())
    reasons = record["record"]["reasons"]
    assert TEXTS[mask] in reasons["mask"]
    assert ("cost" in reasons) is (mask != "tube")
    assert (run.path / "panel.png").exists()
    assert len([*(run.path / "film").glob("0*.png")]) >= 2
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert any("mask_ratio" in line for line in lines) is ("0.6" in mask)
    assert any("sampler" in line for line in lines) is (mask == "adaptive")
    with safe_open(run.path / "encoder.safetensors", "pt") as file:
        assert {*file.keys()} == {*run.encoder().net.state_dict()}
    drawn = unmask.show(run.path, photos, what="masks", mask=mask, most=1, out=tmp_path / "m.png")
    assert drawn.exists()
    again = unmask.pretrain(photos, out=tmp_path / "next", init=str(run.path), mask="random", steps=1, **SMALL)
    assert again.finished


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask": "random(ratio=0.99)"}, "leaves none of 16 patches visible. The most is 0.937"),
        ({"mask": "random(ratio=(0.5, 0.99))"}, "with a ratio of 0.99 leaves none of 16"),
        ({"mask": "adaptive", "method": "data2vec"}, "needs the error of each hidden patch, which data2vec does not"),
        ({"mask": "attention(of='nowhere.pth')"}, "the teacher cannot be opened: .*nowhere.pth"),
        ({"mask": "attention", "masks_per_image": 4}, "hides the same patches of an image each time"),
        ({"mask": "parts(parts=1)"}, "parts"),
        ({"mask": "adaptive(dim=30)"}, "dim, 30, to be a multiple of heads, 4"),
        ({"mask": "noise(colour='pink')"}, "colour"),
    ],
)
def test_masks_that_cannot_work_are_refused_before_images_are_read(options, said, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("unmask.cli.commands.pretrain.look_at", lambda *_, **__: pytest.fail("images were read"))
    with pytest.raises(UserError, match=said):
        unmask.pretrain(photos, out=tmp_path / "no", steps=1, **SMALL | {"method": "mae"} | options)
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_a_frozen_teacher_of_a_mask_is_recorded_with_its_hash_and_missed_when_it_changes(photos, tmp_path):
    weights = tmp_path / "teacher.pth"
    weights.write_bytes(teacher_file().read_bytes())
    mask = f"attention(of={str(weights)!r})"
    run = unmask.pretrain(photos, out=tmp_path / "run", mask=mask, steps=1, **SMALL)
    (teacher,) = run.config.record.teachers
    assert teacher["source"] == str(weights)
    assert len(teacher["sha256"]) == 64
    weights.unlink()
    with pytest.raises(UserError, match="the teacher cannot be opened"):
        run.objective()
    assert run.encoder() is not None  # what was learned does not need it
