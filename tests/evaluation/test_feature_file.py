"""Embedding: complete files, nothing computed twice, nothing kept that belongs to other weights or data."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from unmask.errors import UserError
from unmask.evaluation.feature_file import write_features
from unmask.evaluation.features import pooled
from unmask.models.state import weights_hash


@dataclass
class Images:
    """Ten of them; counts those that are loaded, and stops as if killed at one if told to."""

    labels: Tensor | None = field(default_factory=lambda: torch.tensor([0, 1, -1, 0, 1, 1, 0, 0, 1, 0]))
    classes: list[str] = field(default_factory=lambda: ["ant", "bée"])
    names: list[str] = field(default_factory=lambda: [f"a/{i}.png" for i in range(9)] + ["b/\udcff.png"])
    loaded: list[int] = field(default_factory=list)
    fatal: int = -1

    def __len__(self):
        return len(self.names)

    def load(self, places):
        if self.fatal in places:
            raise KeyboardInterrupt
        self.loaded += places
        return torch.stack([torch.randint(0, 256, (3, 32, 32), generator=torch.manual_seed(i)).byte() for i in places])


def run(encoder, samples, out, **options):
    said = []
    options = {"batch": 2, "chunk": 4} | options
    return write_features(encoder, samples, out, load=samples.load, say=said.append, **options), " ".join(said)


def features(path):
    if path.suffix == ".npz":
        with np.load(path) as content:
            return content["features"]
    return np.stack(pq.read_table(path)["features"].to_numpy())


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_features_names_and_labels_arrive(encoder, tmp_path, suffix):
    samples, out, told = Images(), tmp_path / f"f{suffix}", []
    encoder.train()
    assert run(encoder, samples, out, pooling="cls", progress=told.append) == (10, "")
    assert encoder.training
    assert told == [4, 8, 10]
    encoder.eval()
    with torch.no_grad():
        expected = pooled(encoder, samples.load(list(range(10))))["cls"].numpy()
    np.testing.assert_allclose(features(out), expected, atol=1e-5)
    if suffix == ".npz":
        with np.load(out) as content:  # allow_pickle is off
            assert content["paths"].tolist() == samples.names
            assert content["labels"].tolist() == samples.labels.tolist()
            assert content["classes"].tolist() == ["ant", "bée"]
            assert content["features"].dtype == np.float32
    else:
        found = pq.read_table(out).to_pydict()
        assert found["paths"] == [*samples.names[:9], "b/\\udcff.png"]
        assert found["labels"][:4] == [0, 1, None, 0]
        assert found["label_names"][:4] == ["ant", "bée", None, "ant"]
        assert pq.read_schema(out).field("features").type.list_size == encoder.dim
    assert [path.name for path in tmp_path.iterdir()] == [out.name]  # no parts are left


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_without_labels_there_are_no_label_columns(encoder, tmp_path, suffix):
    out = tmp_path / f"f{suffix}"
    run(encoder, Images(labels=None, classes=[]), out)
    names = np.load(out).files if suffix == ".npz" else pq.read_schema(out).names
    assert not any("label" in name or "class" in name for name in names)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_killed_run_goes_on_and_ends_byte_identical(encoder, tmp_path, suffix):
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"f{suffix}"
    run(encoder, Images(), whole)
    with pytest.raises(KeyboardInterrupt):
        run(encoder, Images(fatal=6), out)
    assert not out.exists()
    damaged = out.with_name(out.name + ".parts") / "chunk-00001.npz"
    damaged.write_bytes(b"half a chunk")
    samples = Images()
    done, said = run(encoder, samples, out)
    assert (done, samples.loaded) == (6, [4, 5, 6, 7, 8, 9])
    assert "4 of 10 samples were done before" in said
    assert out.read_bytes() == whole.read_bytes()


def test_a_finished_file_is_left_alone(encoder, tmp_path):
    out = tmp_path / "f.npz"
    run(encoder, Images(), out)
    before, samples = out.stat().st_mtime_ns, Images()
    done, said = run(encoder, samples, out)
    assert (done, samples.loaded, out.stat().st_mtime_ns) == (0, [], before)
    assert "finished already" in said


def change_weights(encoder, samples):
    with torch.no_grad():
        encoder.net.norm.bias[0] += 1


def rename(encoder, samples):
    samples.names[3] = "a/other.png"


def relabel(encoder, samples):
    samples.labels[0] = 1


@pytest.mark.parametrize("change", [change_weights, rename, relabel, {"pooling": "cls"}, {"identity": "48 px"}])
def test_other_weights_names_labels_or_settings_start_over(encoder, tmp_path, change):
    out, samples = tmp_path / "f.npz", Images()
    with pytest.raises(KeyboardInterrupt):
        run(encoder, Images(fatal=6), out)
    options = change if isinstance(change, dict) else {}
    if callable(change):
        change(encoder, samples)
    done, said = run(encoder, samples, out, **options)
    assert done == 10
    assert "starting over" in said
    done, said = run(encoder, Images(labels=None), out)
    assert done == 10
    assert "will be replaced" in said


def test_a_function_can_embed_if_it_says_what_it_is(tmp_path):
    def brightness(x):
        return x.float().mean(dim=(2, 3))

    out = tmp_path / "f.npz"
    with pytest.raises(ValueError, match="identity"):
        run(brightness, Images(), out)
    assert run(brightness, Images(), out, identity="brightness")[0] == 10
    np.testing.assert_allclose(features(out), brightness(Images().load(list(range(10)))), rtol=1e-6)


def test_wrong_endings_foreign_files_and_broken_features_are_refused(encoder, tmp_path):
    samples = Images()
    with pytest.raises(UserError, match=r"\.npz or \.parquet"):
        run(encoder, samples, tmp_path / "f.csv")
    for name in ("mine.npz", "mine.parquet"):
        (tmp_path / name).write_bytes(b"years of work")
        with pytest.raises(UserError, match="not written by unmask"):
            run(encoder, samples, tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"years of work"
    with pytest.raises(UserError, match="no samples"):
        run(encoder, Images(names=[]), tmp_path / "f.npz")
    with pytest.raises(UserError, match="There are: mean, cls, mean4"):
        run(encoder, samples, tmp_path / "f.npz", pooling="max")
    assert samples.loaded == []
    with pytest.raises(UserError, match="not finite"):
        run(lambda x: x.float().mean((2, 3)) / 0 * 0, samples, tmp_path / "f.npz", identity="broken")


def test_the_hash_of_weights_tells_values_names_and_types_apart():
    one = torch.nn.Linear(2, 2)
    before = weights_hash(one)
    assert weights_hash(one) == before
    assert weights_hash(one.bfloat16()) != before
    assert weights_hash(torch.nn.Sequential(one)) != weights_hash(one)
