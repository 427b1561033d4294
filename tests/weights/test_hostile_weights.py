"""Hostile weights: pickles that swell, false headers, networks that claim to be huge, numbers that are not finite."""

import json
import pickle
import struct
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hostile import little

import unmask
from unmask.data import limits
from unmask.data.limits import Bomb, require_modest_pickle
from unmask.errors import UserError
from unmask.weights.files import read_weights
from unmask.weights.open import open_weights


def laughing_pickle(levels):
    """A dictionary whose key is a tuple of two tuples of two tuples ..., each pair the same object."""
    content = (
        b"\x80\x02}(K\x01K\x02\x86q\x00"
        + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(levels))
        + b"K\x01u."
    )
    return content.replace(b"q\x00", b"q\x00")


def test_pickles_that_keep_the_reader_busy_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE", 16 << 20)
    laughing = laughing_pickle(60)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("zip/data.pkl", laughing)
        archive.writestr("zip/version", "3\n")
        archive.writestr("zip/byteorder", "little")
    old = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    (tmp_path / "old.pth").write_bytes(b"".join(old) + laughing + pickle.dumps([], 2))
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", pickle.dumps({}, 2))
        with archive.open("bomb/data/0", "w", force_zip64=True) as member:
            for _ in range(25):
                member.write(bytes(1 << 20))
    for name in ("zip", "old", "bomb"):
        with little(), pytest.raises(UserError, match="is refused"):
            read_weights(tmp_path / f"{name}.pth")
    for content in (b"\x80\x02", b"no pickle at all", laughing[:50], pickle.dumps([1] * 1000), bytes(1000)):
        (tmp_path / "x.pth").write_bytes(content)
        with little(), pytest.raises(UserError):
            read_weights(tmp_path / "x.pth")
    torch.save(
        {"model": {f"w{i}": torch.ones(2) for i in range(50)}, "shape": torch.Size([2, 3])}, tmp_path / "good.pth"
    )
    require_modest_pickle(tmp_path / "good.pth")
    assert len(read_weights(tmp_path / "good.pth")[0]) == 50
    with pytest.raises(Bomb):
        limits.require_modest(1, 1 << 40)


def test_safetensors_with_huge_or_false_headers_are_refused(tmp_path):
    entry = {"x": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 4]}}
    heads = [b"[" * 100_000, json.dumps(entry).encode(), b"{" + b'"a":' * 100_000]
    files = [struct.pack("<Q", 1 << 62), struct.pack("<Q", (1 << 64) - 1) + b"{}"]
    files += [struct.pack("<Q", len(head)) + head + bytes(4) for head in heads]
    for content in files:
        (tmp_path / "x.safetensors").write_bytes(content)
        with little(), pytest.raises(UserError, match="holds no weights that can be read"):
            read_weights(tmp_path / "x.safetensors")


@pytest.mark.parametrize("option", ["depth=1000000", "embed_dim=1000000", "depth=-1"])
def test_weights_that_claim_to_be_huge_are_refused_by_arithmetic(option, run, tmp_path):
    state, name = load_file(run.path / "encoder.safetensors"), f"vit_tiny_patch16_224({option})"
    facts = {"timm": "{}", "settings": json.dumps({"model": name, "image_size": [32, 32]})}
    save_file(state, tmp_path / "x.safetensors", metadata=facts)
    with little(), pytest.raises(UserError, match="that of the weights is"):
        unmask.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_noticed_when_they_are_opened(value, run, tmp_path):
    from unmask.evaluation.doctor.subject import Subject

    path = run.path / "encoder.safetensors"
    state = load_file(path)
    state["norm.weight"][3] = value
    save_file(state, tmp_path / "x.safetensors", metadata={"timm": "{}"})
    with pytest.raises(UserError, match=r"not finite.*norm\.weight"):
        open_weights(tmp_path / "x.safetensors", model=run.config.model.name)
    save_file(state, path)
    with pytest.raises(UserError, match="not finite"):
        unmask.load(run.path)
    assert any("not finite" in finding.what for found in unmask.doctor(run.path).findings.values() for finding in found)
    assert Subject(str(run.path)).opened
    large = {"a": torch.full((300,), 3e38), "b": torch.tensor([1, 2])}  # whose sum is infinite
    save_file(large, tmp_path / "large.safetensors")
    from unmask.weights.files import require_finite

    require_finite(large, "large")
