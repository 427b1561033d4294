"""Images by number, with the bad ones replaced and listed."""

import multiprocessing

import pytest
import torch
from support.given import Given, noise

from unmask.data.codecs.image import BadImage
from unmask.data.datasets.images import Samples, append_bad_file
from unmask.data.sheet import inspect, write_bad_files
from unmask.errors import DataError

# Samples


def test_samples_are_the_images_with_the_channels_of_the_run():
    source = Given([noise(0), noise(1, (6, 7)), noise(2)], labels=["10", "9", None])
    samples = Samples(source, [2, 1, 0], channels=3, max_side=None)
    assert len(samples) == 3
    assert samples.names == ["2", "1", "0"]
    assert samples.classes == ["9", "10"]
    assert samples.labels is not None
    assert samples.labels.tolist() == [-1, 0, 1]
    assert samples.num_unlabelled == 1
    assert samples.image(1).shape == (3, 6, 7)
    assert torch.equal(samples[2], torch.from_numpy(noise(0)).permute(2, 0, 1))
    assert Samples(source, [0], channels=1, max_side=6).image(0).shape == (1, 7, 6)
    other = Samples(source, [0, 1], channels=3, max_side=None, classes=["10", "x"])
    assert other.labels is not None
    assert other.labels.tolist() == [0, -1]
    assert Samples(source, [2], channels=3, max_side=None).labels is None


def test_the_cache_is_used_instead_of_the_source():
    cached = torch.full((3, 4, 4), 5, dtype=torch.uint8)
    samples = Samples(Given([b"gone"]), [0], channels=3, max_side=None, cache={0: cached})
    assert torch.equal(samples.image(0), cached)


def test_a_image_that_goes_bad_is_replaced_by_the_next_and_recorded_once(tmp_path):
    contents = [noise(0), OSError(2, "No such file"), b"", noise(3), noise(1, (12, 10, 4))]
    samples = Samples(Given(contents), range(5), channels=3, max_side=None)
    write_bad_files(tmp_path / "bad.txt", [])
    samples.report_bad_to(tmp_path / "bad.txt")
    for _ in range(2):
        assert samples.substitute(1)[1] == 3
        assert samples.substitute(2)[1] == 3
        assert samples.substitute(4)[1] == 0
        assert torch.equal(samples.image(1), samples.image(3))
    assert samples.bad == {1: "cannot be read (No such file)", 2: "empty file", 4: "has 4 channels, the run uses 3"}
    lines = (tmp_path / "bad.txt").read_text().splitlines()[1:]
    assert lines == ["1\tcannot be read (No such file)", "2\tempty file", "4\thas 4 channels, the run uses 3"]


def test_what_is_bad_is_the_same_whatever_was_asked_before():
    contents = [noise(0), b"", b"", noise(3)]
    fresh = lambda: Samples(Given(contents), range(4), channels=3, max_side=None)  # noqa: E731
    used = fresh()
    asked = [used.substitute(i)[1] for i in (2, 1, 0, 3, 1, 2)]
    assert asked == [fresh().substitute(i)[1] for i in (2, 1, 0, 3, 1, 2)] == [3, 3, 0, 3, 3, 3]


def test_when_nothing_can_be_read_any_more_the_reason_is_told():
    samples = Samples(Given([OSError(5, "I/O error")] * 3), range(3), channels=3, max_side=None)
    with pytest.raises(DataError, match="no image of 3 can be used any more"):
        samples.image(1)
    with pytest.raises(DataError, match="left to use"):
        Samples(Given([]), [], channels=3, max_side=None)


def test_processes_add_each_bad_file_once(tmp_path):
    path = tmp_path / "bad.txt"
    context = multiprocessing.get_context("fork")

    def work():
        for i in range(30):
            append_bad_file(path, f"{i}.png", "truncated")

    processes = [context.Process(target=work) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(path.read_text().splitlines()) == sorted(f"{i}.png\ttruncated" for i in range(30))


def test_workers_of_a_data_loader_share_nothing_but_the_list_of_bad_files(tmp_path):
    contents = [noise(i) for i in range(20)] + [b""]
    samples = Samples(Given(contents), range(21), channels=3, max_side=None)
    samples.report_bad_to(tmp_path / "bad.txt")
    loader = torch.utils.data.DataLoader(samples, batch_size=7, num_workers=2)
    for _ in range(2):
        assert torch.cat(list(loader)).shape == (21, 3, 12, 10)
    assert (tmp_path / "bad.txt").read_text() == "20\tempty file\n"


def test_reasons_are_bad_images_or_read_errors_and_nothing_else_is_swallowed():
    class Broken(Given):
        def read(self, index):
            raise AttributeError("a bug of ours")

    with pytest.raises(AttributeError):
        Samples(Broken([1]), [0], channels=3, max_side=None).image(0)
    with pytest.raises(AttributeError):
        inspect(Broken([1]), max_side=None)
    assert not issubclass(BadImage, ValueError)
