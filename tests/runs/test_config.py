"""The configuration of a run: the same from the disk as it was, and refused with file and key where it is damaged."""

import json

import pytest
from support.configuring import config_of

from unmask.errors import UserError
from unmask.runs.config import Config


@pytest.fixture
def path(tmp_path):
    config_of(bands=("R", "G", "B"), spike=6.0).to_json(tmp_path / "config.json")
    return tmp_path / "config.json"


def test_a_configuration_comes_back_from_the_disk_as_it_was(path):
    config = Config.from_json(path)
    assert config == config_of(bands=("R", "G", "B"), spike=6.0)
    assert (config.data.image_size, config.training.betas) == ((32, 32), (0.9, 0.95))


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("training", "batch", None, "it lacks training.batch"),
        ("training", "bacth", 8, "there is no setting training.bacth"),
        ("training", "batch", "8", "training.batch is '8'"),
        ("training", "batch", True, "training.batch is True"),
        ("data", "image_size", [32, "a"], "data.image_size is 'a'"),
        ("data", "mean", [1.0, "a", 2.0], "data.mean is 'a'"),
        ("record", "expected", {}, "it lacks record.expected.images_per_second, record.expected.memory_mb"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_the_key(path, section, key, value, words):
    content = json.loads(path.read_text())
    if value is None:
        del content[section][key]
    else:
        content[section][key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"config\.json is damaged.*: {words}"):
        Config.from_json(path)


def test_a_run_of_an_unreleased_version_is_refused(path):
    path.write_text('{"settings": {"model": "vit"}, "asked": {}}')
    with pytest.raises(UserError, match="unreleased version of unmask; run pretrain again"):
        Config.from_json(path)


def test_settings_have_the_names_of_their_options():
    from dataclasses import fields

    from unmask.cli.options.pretrain import Pretrain

    options = config_of().options()
    elsewhere = {
        "out",
        "blr",
        "devices",
        "nodes",
        "config",
        "dry_run",
        "log_to",
        "mean",
        "std",
        "parts",
    }  # where and how; blr becomes lr
    assert options.keys() == {field.name for field in fields(Pretrain)} - elsewhere
    other = config_of().with_options({"mask": "block", "seed": 3, "method": "mae(symmetric=True)"})
    assert (other.method.mask, other.training.seed, other.method.name) == ("block", 3, "mae(symmetric=True)")
    with pytest.raises(UserError, match="no setting msak"):
        config_of().with_options({"msak": "block"})
