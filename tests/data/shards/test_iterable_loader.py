"""The order of a stream: every sample once per epoch over all readers, the same again after a restart; bad samples."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.shardmaking import png, shards, tar

from unmask.data.datasets.stream_preview import glimpse
from unmask.data.loaders.iterable import Counts, StreamLoader, drawn, mixed
from unmask.data.shards.expand import Shard
from unmask.data.shards.stream import Sample, Stream, open_stream
from unmask.data.sheet import inspect
from unmask.data.transform import Transform, View
from unmask.data.transforms.kernels.crop import RandomCrop, WholeImage
from unmask.errors import DataError


class Numbers(Stream):
    """Shards of numbers; says how many there are where `told`, and counts what is read."""

    def __init__(self, lengths, told=False):
        super().__init__("numbers", [Shard(f"n/{i}") for i in range(len(lengths))])
        self.lengths, self.told, self.exact, self.read = lengths, told, told, 0

    @classmethod
    def accepts(cls, place):
        return False

    def count(self, shard):
        return self.lengths[shard] if self.told else None

    def samples(self, shard, first=0):
        for number in range(first, self.lengths[shard]):
            self.read += 1
            yield Sample(str(number), None)


lengths = st.lists(st.integers(0, 9), min_size=1, max_size=7).filter(any)


@settings(deadline=None, max_examples=60)
@given(lengths, st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_readers_share_every_epoch_without_overlap_or_loss(counts, world, workers, seed):
    stream, readers, epochs = Numbers(counts), world * workers, 3
    met = Counter()
    for reader in range(readers):
        for one in drawn(stream, reader, readers, seed, 0, Counts(stream)):
            if one.epoch >= epochs:
                break
            met[one.epoch, one.shard, one.number] += 1
    all_of_them = {(e, s, n) for e in range(epochs) for s, count in enumerate(counts) for n in range(count)}
    assert set(met) == all_of_them
    assert set(met.values()) == {1}


@settings(deadline=None, max_examples=60)
@given(lengths, st.integers(1, 5), st.integers(0, 30), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_a_reader_goes_on_at_any_place_exactly(counts, readers, first, window, told, seed):
    stream = Numbers(counts, told)

    def order(begin, length):
        known = Counts(stream)
        part = lambda at: drawn(stream, readers - 1, readers, seed, at, known)  # noqa: E731
        return [(d.epoch, d.index) for d in itertools.islice(mixed(part, window, seed, begin), length)]

    assert order(first, 20) == order(0, first + 20)[first:]


def test_the_order_is_mixed_over_the_window_and_differs_between_epochs_and_seeds():
    order = lambda seed: [*itertools.islice(mixed(itertools.count, 50, seed, 0), 400)]  # noqa: E731
    assert sorted(order(1)[:300])[:250] == [*range(250)]
    assert max(abs(place - thing) for place, thing in enumerate(order(1))) < 50
    assert np.corrcoef(np.arange(40), order(1)[100:140])[0, 1] < 0.9
    assert order(1) != order(2)
    stream = Numbers([1] * 20)
    shards_of = [one.shard for one in itertools.islice(drawn(stream, 0, 1, 3, 0, Counts(stream)), 40)]
    assert shards_of[:20] != shards_of[20:]
    assert sorted(shards_of[:20]) == sorted(shards_of[20:]) == [*range(20)]


def test_known_counts_let_a_restart_pass_over_whole_shards(tmp_path):
    stream = Numbers([50] * 20)
    one_pass = itertools.islice(drawn(stream, 0, 1, 0, 0, Counts(stream, tmp_path / "c.txt")), 901)
    want = [one.index for one in one_pass][-1]
    assert len((tmp_path / "c.txt").read_text().splitlines()) == 18
    stream.read = 0
    assert next(drawn(stream, 0, 1, 0, 900, Counts(stream, tmp_path / "c.txt"))).index == want
    assert stream.read == 1


def test_a_wrong_index_beside_the_shards_misleads_no_restart(tmp_path):
    stream = Numbers([5] * 4)
    stream.count = lambda shard: 3
    whole = [d.index for d in itertools.islice(drawn(stream, 0, 1, 0, 0, Counts(stream, tmp_path / "c")), 19)]
    assert next(drawn(stream, 0, 1, 0, 18, Counts(stream, tmp_path / "c"))).index == whole[18]


def test_shards_that_are_all_empty_end_with_a_message():
    with pytest.raises(DataError, match="are empty"):
        next(drawn(stream := Numbers([0, 0, 0]), 0, 1, 0, 0, Counts(stream)))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_after_a_restart_are_the_same_to_the_pixel(tmp_path, workers):
    stream = open_stream(shards(tmp_path / "s", [5, 3, 9, 1]))
    pair = Transform(View(RandomCrop((16, 16))), View(RandomCrop((16, 16))))
    options = {"view": pair, "batch": 4, "channels": 3, "workers": workers, "crops": 2}
    loader = StreamLoader(stream=stream, window=6, seed=1, counts=tmp_path / "counts.txt", **options)
    whole = [*itertools.islice(loader(0), 9)]
    assert whole[0]["views"][1].shape == (4, 3, 16, 16)
    assert whole[0]["views"][1].dtype == torch.uint8
    for again, batch in zip(loader(5), whole[5:]):
        assert again["index"].tolist() == batch["index"].tolist()
        assert again["label"].tolist() == batch["label"].tolist()
        assert all(torch.equal(a, b) for a, b in zip(again["views"], batch["views"]))
    assert whole[0]["index"].tolist()[::2] == whole[0]["index"].tolist()[1::2]  # two crops of each
    assert not torch.equal(whole[0]["views"][0][0], whole[0]["views"][0][1])


def test_two_ranks_with_workers_read_everything_once(tmp_path):
    stream = open_stream(shards(tmp_path / "s", [6, 6]))  # fewer shards than the four readers
    met = Counter()
    for rank in (0, 1):
        view = lambda image, chance: WholeImage((8, 8))(image)  # noqa: E731
        loader = StreamLoader(
            stream=stream, view=view, batch=3, channels=3, window=1, workers=2, rank=rank, world=2, seed=4
        )
        met.update(i for batch in itertools.islice(loader(), 2) for i in batch["index"].tolist())
    assert met == {shard << 32 | number: 1 for shard in (0, 1) for number in range(6)}


def test_bad_samples_are_replaced_by_the_next_and_listed_with_shard_and_key(tmp_path):
    good = [(f"{i}.png", png(i)) for i in range(6)]
    (tmp_path / "s").mkdir()
    tar(tmp_path / "s" / "a.tar", [*good[:2], ("broken.png", good[2][1][:40]), ("alone.cls", b"3"), *good[3:]])
    tar(tmp_path / "s" / "b.tar", good)
    cut = (tmp_path / "s" / "b.tar").read_bytes()[: 512 * 7]
    (tmp_path / "s" / "b.tar").write_bytes(cut)
    stream, listed = open_stream(str(tmp_path / "s")), tmp_path / "bad_files.txt"
    view = lambda image, chance: WholeImage((8, 8))(image)  # noqa: E731
    for workers in (0, 2):
        loader = StreamLoader(stream=stream, view=view, batch=4, channels=3, window=1, bad=listed, workers=workers)
        batches = [*itertools.islice(loader(), 6)]
        again = next(loader(3))
        assert again["index"].tolist() == batches[3]["index"].tolist()
    lines = dict(line.split("\t") for line in listed.read_text().splitlines())
    a, b = f"{tmp_path}/s/a.tar", f"{tmp_path}/s/b.tar"
    assert sorted(lines) == [f"{a}/alone", f"{a}/broken", f"{b}/(damaged)"]
    assert "no image among its members: cls" in lines[f"{a}/alone"]
    assert "the shard is damaged behind" in lines[f"{b}/(damaged)"]
    indices = [i for batch in batches for i in batch["index"].tolist()]
    assert 2 not in indices  # the broken one's place is taken by the next


class Few(Numbers):
    """Shards of small grey images of which only those named are there."""

    def __init__(self, lengths, good):
        super().__init__(lengths)
        self.good = good

    def samples(self, shard, first=0):
        for number in range(first, self.lengths[shard]):
            image = np.full((8, 8), number % 251, np.uint8)
            yield Sample(str(number), *((image, None) if (shard, number) in self.good else (None, None, {}, "lost")))


def test_for_a_long_row_of_lost_samples_several_others_stand_in_and_the_same_after_a_restart(tmp_path):
    stream = Few([600], {(0, n) for n in [*range(5), *range(500, 600)]})
    view = lambda image, chance: WholeImage((8, 8))(image)  # noqa: E731
    loader = StreamLoader(stream=stream, view=view, batch=50, channels=1, window=1, bad=tmp_path / "bad_files.txt")
    batches = [batch["index"].tolist() for batch in itertools.islice(loader(), 12)]
    assert batches[0][:5] == [0, 1, 2, 3, 4]
    assert batches[9][-2:] == [500, 500]  # the nearest, for a few
    assert set(batches[2]) == set(range(500, 516))
    assert batches[10:12] == [[*range(500, 550)], [*range(550, 600)]]  # places do not shift
    for first in (3, 9, 10, 11):
        assert next(loader(first))["index"].tolist() == batches[first]
    assert len((tmp_path / "bad_files.txt").read_text().splitlines()) == 495


def test_a_bad_sample_of_a_small_stream_whose_epochs_mix_does_not_end_it():
    stream = Few([20], {(0, n) for n in range(20) if n not in (3, 4)})
    loader = StreamLoader(stream=stream, view=lambda image, chance: image, batch=50, channels=1)
    met = Counter(i for batch in itertools.islice(loader(), 100) for i in batch["index"].tolist())
    assert set(met) == {*range(20)} - {3, 4}


def test_a_stream_without_a_good_sample_ends_with_the_reason():
    view = lambda image, chance: image  # noqa: E731
    for workers in (0, 2):
        loader = StreamLoader(stream=Few([40] * 3, set()), view=view, batch=4, channels=1, workers=workers)
        with pytest.raises(DataError, match=r"samples in a row cannot be used, the last: lost; they are listed"):
            next(loader())


@pytest.mark.slow
@pytest.mark.parametrize("usual", [np.uint8, np.float32])
def test_images_of_another_range_that_come_late_in_a_stream_are_set_aside(usual, tmp_path):
    class Late(Numbers):
        def samples(self, shard, first=0):
            for number in range(first, self.lengths[shard]):
                pixels = np.arange(64, dtype=usual).reshape(8, 8) * usual(1 if usual == np.uint8 else 90)
                if number == 130:
                    pixels = np.linspace(0, 1.89e9, 64).reshape(8, 8).astype(np.uint32)
                if number == 140:
                    pixels = np.linspace(0, 0.01, 64, dtype=np.float32).reshape(8, 8)
                if number == 150:
                    pixels = np.zeros((8, 8), np.float32)  # fits any range
                yield Sample(str(number), pixels)

    stream = Late([200])
    sheet, _ = inspect(glimpse(stream, most=100).held, max_side=None)
    options = {"window": 1, "channels": 1, "bad": tmp_path / "bad_files.txt", "usual_range": sheet.usual_range}
    view = lambda image, chance: image  # noqa: E731
    batches = [*itertools.islice(StreamLoader(stream=stream, view=view, batch=50, **options)(), 4)]
    assert batches[2]["index"].tolist()[30] == 131
    assert batches[2]["index"].tolist()[40] == 141
    assert batches[3]["index"].tolist()[0] == 150
    (deep, unit) = (tmp_path / "bad_files.txt").read_text().splitlines()
    assert deep.startswith("n/0/130\thas values from 0 to 1.89e+09, most others from 0 to")
    assert unit.startswith("n/0/140\thas values from 0 to 0.01")
    assert sheet.bad == []
