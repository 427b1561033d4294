"""What every task keeps: the same weights from the same settings, batches from any place on, a loss that all of it
learns from, a model that is made again from its configuration, a score from 0 to 1."""

import copy
import io
import json
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support.boxmaking import draw, write_coco
from support.classifying import CPU, vit
from support.cloudmaking import cloud_encoder, write_tables
from support.photos import photo
from support.segmenting import write_pairs
from support.volumemaking import volume_encoder, write_labelled

from unmask.cli.commands.transfer import asked_for, own_options
from unmask.cli.options.transfer import Transfer
from unmask.cli.task_options import joined
from unmask.data.modality import kinds
from unmask.errors import UserError
from unmask.plain import plain
from unmask.planning.plan import Plan
from unmask.tasks.folders import task_folders
from unmask.tasks.task import DataOptions, find_task, settings_from

SPLITS = {"train": 6, "val": 4, "test": 4}


def class_folders(root):
    for split, count in SPLITS.items():
        for number, name in enumerate(("blue", "red")):
            (root / split / name).mkdir(parents=True)
            for seed in range(count):
                image = photo(1000 * number + seed + 100 * len(split), 32, 32) // 2
                image[..., 2 - 2 * number] += 100
                Image.fromarray(image).save(root / split / name / f"{seed}.png")


def scenes(root):
    for first, (split, count) in zip((0, 10, 20), SPLITS.items()):
        write_pairs(root, count, split, first)


def boxes(root):
    drawn = draw(root / "images", sum(SPLITS.values()))
    for split, count in SPLITS.items():
        write_coco(root, split, [drawn.pop() for _ in range(count)])


def volumes(root):
    for first, (split, count) in zip((0, 10, 20), SPLITS.items()):
        write_labelled(root, count, split, first)


def clouds(root):
    for first, (split, count) in zip((0, 10, 20), SPLITS.items()):
        write_tables(root, count, split, first)


DATA = {  # task, with its kind of data where there are several -> encoder, what writes data, options that keep it small
    "classify": (vit, class_folders, {"mixup": 0.0, "cutmix": 0.0}),
    "segment": (vit, scenes, {"head": "linear", "crop_size": (32, 32)}),
    "segment volumes": (volume_encoder, volumes, {"head": "unetr(channels=16)"}),
    "segment clouds": (cloud_encoder, clouds, {"head": "pointwise(channels=16)"}),
    "segment voxels": (partial(cloud_encoder, voxels=True), clouds, {"head": "linear", "dice": 1.0}),
    "detect": (vit, boxes, {"input_size": (64, 64), "width": 16}),
}


def test_every_task_has_data_here_and_is_found_by_its_name():
    assert set(task_folders()) == {name.split()[0] for name in DATA}
    assert [find_task(name).name for name in task_folders()] == list(task_folders())


def test_every_kind_of_maps_has_a_task_of_its_own():
    of_maps = {part.labelled for part in kinds().values() if part.labelled}
    tasks = {find_task("segment", name) for name, part in kinds().items() if part.labelled}
    assert len(tasks) == len(of_maps)
    for name, part in kinds().items():
        if not part.labelled:
            with pytest.raises(UserError, match="--to segment is for images, volumes and clouds"):
                find_task("segment", name)


@pytest.fixture(scope="module", params=DATA)
def planned(request, tmp_path_factory):
    """A task on small data and all its settings."""
    root = tmp_path_factory.mktemp(request.param.replace(" ", "_"))
    make_encoder, write, small = DATA[request.param]
    name = request.param.split()[0]
    write(root)
    options = joined(Transfer, name)(
        "run", on=(str(root),), to=name, epochs=1, batch=4, device="cpu", precision="32", **small
    )
    encoder = make_encoder()
    task = find_task(name, encoder.modality)(
        DataOptions((str(root),), None, 0), own_options(options), encoder, Console(file=io.StringIO())
    )
    plan = Plan(asked_for(options), {})
    return task, task.plan(plan, scratch=False, machine=CPU)


def test_the_same_settings_give_the_same_weights_and_leave_the_encoder_alone(planned):
    task, settings = planned
    before = copy.deepcopy(task.encoder.state_dict())
    first = task.make_objective(settings, scratch=False)
    torch.manual_seed(99)
    second = task.make_objective(settings, scratch=False)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.fill_(7.0)
    assert all(torch.equal(value, before[key]) for key, value in task.encoder.state_dict().items())


def test_batches_are_the_same_from_any_place_on(planned):
    task, settings = planned
    third = next(islice(task.make_loader(settings)(0), 2, None))
    again = next(task.make_loader(settings)(2))
    assert [torch.equal(a, b) for a, b in zip(third["views"], again["views"])] == [True] * len(third["views"])
    assert not torch.equal(next(task.make_loader(settings)(0))["views"][0], third["views"][0])


def test_the_loss_is_finite_also_in_bf16_and_every_trained_parameter_learns_from_it(planned):
    task, settings = planned
    objective, batch = task.make_objective(settings, scratch=False).train(), next(task.make_loader(settings)(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert objective(batch)["loss"].isfinite()
    loss = objective(batch)["loss"]
    assert loss.isfinite()
    loss.backward()
    assert [name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_model_is_made_again_from_its_configuration(planned):
    task, settings = planned
    model = task.make_objective(settings, scratch=False).result
    content = json.loads(json.dumps({"settings": plain(settings) | {"on": "others"}, **task.facts()}))
    again = settings_from(task.settings, content["settings"], Path("config.json"))
    assert again == settings
    again = task.make_model(copy.deepcopy(task.encoder), again, content)
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(value.shape == again.state_dict()[key].shape for key, value in model.state_dict().items())


def test_a_score_has_what_to_compare_by_and_what_to_record(planned):
    task, settings = planned
    model = task.make_objective(settings, scratch=False).result.eval()
    score = task.score(model, "val", settings)
    assert 0 <= score.value <= 1
    assert np.isfinite(list(score.watched.values())).all()
    assert score.watched


def test_settings_of_a_damaged_config_are_refused_with_the_file_and_the_name(planned):
    task, settings = planned
    content = plain(settings)
    with pytest.raises(UserError, match=r"run/config.json is damaged: settings.batch is 'many', which is no int"):
        settings_from(task.settings, content | {"batch": "many"}, Path("run/config.json"))
    del content["lr"]
    with pytest.raises(
        UserError, match=r"run/config.json is damaged, or from another version .*: it lacks settings.lr"
    ):
        settings_from(task.settings, content, Path("run/config.json"))
