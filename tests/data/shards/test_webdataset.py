"""Tar files of samples: which members belong together, which image is meant."""

import gzip
import json

from support.shardmaking import seen, tar

from unmask.data.shards.stream import open_stream
from unmask.data.source import open_source


def test_webdataset_members_make_samples(tmp_path):
    members = [("./d/1.jpg.txt", b"no image"), ("./d/1.mask.png", b"m"), ("./d/1.PNG", b"one"), ("d/1.cls", b"4\n")]
    members += [("d/2.json", json.dumps({"label": "cat", "width": 3, "more": [1]}).encode()), ("d/2.jpg", b"two")]
    members += [
        ("._2.jpg", b"hidden"),
        ("3.webp", b"three"),
        ("3.txt", b"a dog"),
        ("4.json", b"{broken"),
        ("4.jpg", b"4"),
    ]
    tar(tmp_path / "a.tar", members)
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    stream = open_stream(f"{tmp_path}/{{a.tar,b.tar.gz}}")
    one_shard = [
        ("d/1", b"one", "4", {}),
        ("d/2", b"two", "cat", {"label": "cat", "width": "3"}),
        ("3", b"three", None, {"txt": "a dog"}),
        ("4", b"4", None, {}),
    ]
    assert seen(stream) == [
        (f"{tmp_path}/{shard}/{key}", *rest) for shard in ("a.tar", "b.tar.gz") for key, *rest in one_shard
    ]
    assert [sample.key for sample in stream.samples(1, 2)] == ["3", "4"]


def names_of(path, names):
    """Keys, labels and images left out of a tar with these members, the same from wherever one begins."""
    tar(path, [(name, str(i).encode()) for i, name in enumerate(names)])
    stream = open_stream(path)
    everything = list(stream.samples(0))
    for first in range(len(everything) + 1):
        assert [(s.key, s.data) for s in stream.samples(0, first)] == [(s.key, s.data) for s in everything[first:]]
    assert not any(sample.problem for sample in everything)
    return [(sample.key, sample.label, sample.unused) for sample in everything]


def test_dots_in_the_names_of_webdataset_members_split_no_sample_and_join_none(tmp_path):
    dotted = [f"cam 2024.05.{i:04d}.{ending}" for i in range(40) for ending in ("cls", "depth.png", "jpg")]
    assert names_of(tmp_path / "a.tar", dotted) == [
        (f"cam 2024.05.{i:04d}", str(3 * i), ("depth.png",)) for i in range(40)
    ]
    few = [f"v1.{i}.{ending}" for i in range(3) for ending in ("jpg", "cls")]
    assert names_of(tmp_path / "b.tar", few) == [(f"v1.{i}", str(2 * i + 1), ()) for i in range(3)]


def test_of_several_images_in_a_webdataset_sample_those_left_out_are_said(tmp_path):
    pairs = [f"{i}.{ending}" for i in range(2) for ending in ("cls", "left.png", "right.png")]
    assert names_of(tmp_path / "a.tar", pairs) == [("0", "0", ("right.png",)), ("1", "3", ("right.png",))]
    assert "2 samples hold more than one image" in open_source(f"{tmp_path}/*.tar").remarks[0]
    masked = [f"{i}.{ending}" for i in range(2) for ending in ("depth.png", "rgb.png", "mask.png")]
    assert names_of(tmp_path / "b.tar", masked) == [(str(i), None, ("depth.png", "mask.png")) for i in range(2)]
    apart = [f"{i}.{ending}" for i in range(2) for ending in ("left.png", "right.png")]
    assert names_of(tmp_path / "c.tar", apart) == [
        (f"{i}.{side}", None, ()) for i in range(2) for side in ("left", "right")
    ]
    parts = [f"{i}.{ending}" for i in range(2) for ending in ("img.png", "caption.txt")]
    assert names_of(tmp_path / "d.tar", parts) == [("0", None, ()), ("1", None, ())]
