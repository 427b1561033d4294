"""Tests of exports work offline, and share one run that was exported to every format."""

import shutil

import pytest


@pytest.fixture(scope="module", autouse=True)
def offline():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def run(pretrained, tmp_path_factory):
    return type(pretrained)(shutil.copytree(pretrained.path, tmp_path_factory.mktemp("export") / "run"))


@pytest.fixture(scope="session")
def exported(run):
    from support.exportmaking import ALL

    import unmask

    return unmask.export(run.path, to=ALL)
