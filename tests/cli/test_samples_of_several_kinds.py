"""Runs on samples of several kinds: what judges and uses them reads them as such, or says why it cannot."""

import pytest
from rich.console import Console
from support.classifying import CLASSES, vit
from support.joint_samples import write_pairs

import unmask
from unmask.data.modality import make_modality
from unmask.errors import UserError
from unmask.evaluation.doctor.checks.data import files
from unmask.evaluation.doctor.checks.training import rate
from unmask.evaluation.doctor.subject import Subject
from unmask.runs.run import Run
from unmask.studies.robustness.test_images import read_evaluation_set
from unmask.tasks.classification.classifier import ImageClassifier
from unmask.tasks.task import find_task

TEXT = "multimodal(rgb=image, sound=audio(rate=4000, seconds=0.25, bands=16), size=16, patch=8)"
SMALL = {"model": "vit_tiny_patch16_224(depth=1)", "batch": 4, "steps": 3, "device": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("runs") / "pairs", 24)


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
    return unmask.pretrain(pairs, modality=TEXT, out=tmp_path_factory.mktemp("runs") / "run", **SMALL).path


def of_samples():
    sizes = {
        "sizes": ((16, 16), (16, 16)),
        "units": ((8, 8), (8, 8)),
        "means": ((0.0,), (0.0,)),
        "stds": ((1.0,), (1.0,)),
    }
    options = ", ".join(f"{name}={value}" for name, value in sizes.items())
    return make_modality(f"multimodal(rgb=image, depth=image, {options})")


@pytest.mark.parametrize(
    ("text", "word"), [("audio(rate=8000)", "recordings"), ("video", "clips?"), (of_samples().text, "samples")]
)
def test_boxes_and_corruptions_are_for_images_and_say_what_the_encoder_takes(text, word, tmp_path):
    with pytest.raises(UserError, match=f"--to detect is for images; this encoder takes {word}"):
        find_task("detect", text)
    encoder = vit()
    encoder.modality = text
    classifier = ImageClassifier(encoder, CLASSES)
    with pytest.raises(UserError, match=f"corruptions are defined for images; .* takes {word}"):
        read_evaluation_set(["none"], tmp_path, classifier, None, 0, Console())


@pytest.mark.slow
def test_groups_of_samples_are_audited(run, pairs, tmp_path):
    result = unmask.audit(run, on=pairs, groups="site", out=tmp_path / "audit", device="cpu")
    assert {group.value for group in result.columns[0].groups} == {"north", "south"}


@pytest.mark.slow
def test_nothing_is_wrong_with_a_rate_that_was_planned_and_values_that_are_normalised(run):
    subject = Subject(str(run))
    assert rate(subject) == [] == files(subject)
    sheet = Run(run).read("data_sheet.json")
    assert not [note for note in sheet["notes"] if note.startswith("named")]


@pytest.mark.slow
def test_a_run_that_was_aligned_is_no_teacher_and_names_the_one_that_it_had(pairs, photos_run, tmp_path):
    own = unmask.pretrain(pairs, modality=TEXT, method=f"align(of='{photos_run}')", out=tmp_path / "own", **SMALL).path
    with pytest.raises(
        UserError, match=f"{own} sees samples, .* sees images is needed; its own teacher was {photos_run}"
    ):
        unmask.pretrain(pairs, modality=TEXT, method=f"align(of='{own}')", out=tmp_path / "second", **SMALL)


@pytest.fixture(scope="module")
def photos_run(pairs, tmp_path_factory):
    sizes = {"image_size": 16, "patch_size": 8, "decoder": "full(dim=16, depth=1, heads=2)"}
    return unmask.pretrain(pairs / "rgb", out=tmp_path_factory.mktemp("photos") / "run", **sizes, **SMALL).path
