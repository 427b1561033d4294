"""Every kind of data, those that come later too: found, decoded, cut, drawn; and as a user meets it, from files to a
classifier."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.sampling import BROKEN, NAMED, WRITERS, write_samples
from support.small_training import losses

import unmask
from unmask.data.loaders.map_style import collate
from unmask.data.modality import kinds, make_modality
from unmask.data.sheet import inspect
from unmask.data.source import open_source
from unmask.errors import UserError

KINDS = sorted(WRITERS)
TINY = {
    "model": "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)",
    "decoder": "full(dim=16, depth=1, heads=2)",
}


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """The folder of each kind of data."""
    root = tmp_path_factory.mktemp("samples")
    return {kind: write_samples(root / kind, kind) for kind in KINDS}


def test_every_modality_has_samples_here():
    assert set(kinds()) == set(KINDS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NAMED])
def test_files_are_recognised_by_their_content(kind, samples, tmp_path):
    shutil.copytree(samples[kind], tmp_path / "unnamed")
    for path in sorted((tmp_path / "unnamed").rglob("*.*")):
        path.rename(path.with_name(path.name.split(".")[0] + ".bin"))
    source = open_source(tmp_path / "unnamed", None)
    assert source.modality.text.split("(")[0] == kind
    assert len(source.items) == 12
    assert {item.label for item in source.items} == {"calm", "loud"}


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_decoded_cut_and_laid_out_alike_every_time(kind, samples):
    source = open_source(samples[kind], None)
    modality, sheet = source.modality, inspect(source, max_side=64)[0]
    assert (sheet.num_good, sheet.word, len(sheet.min_size)) == (12, modality.word, len(modality.sizes))
    patch = None if modality.parts or modality.placed else 4  # otherwise said by the modality, from the start
    size = modality.full_size(modality.choices(sheet, patch, small=True)["image_size"].value)
    assert len(size) == len(modality.axes)
    decoded = modality.decode(source.raw(0), 64)
    content = pickle.loads(pickle.dumps(modality.fitted(decoded.content, sheet.channels)))  # to a worker process
    for window in (modality.window("random", size, 0.5, False, "exact"), modality.whole(size)):
        one, two = (window(content, torch.Generator().manual_seed(3)) for _ in range(2))
        assert tuple(one.shape) == (sheet.channels, *size)
        assert torch.equal(one.nan_to_num(), two.nan_to_num())
    assert modality.whole(size)(content).shape == one.shape  # without chance
    flat = modality.flat(one)
    assert flat.ndim == 3
    assert set(flat.nan_to_num().unique().tolist()) <= {*one.nan_to_num().unique().tolist(), 0.0}
    hidden = modality.flat(torch.ones(sheet.channels, *size, dtype=torch.bool))
    assert hidden.dtype == torch.bool
    assert hidden.shape[1:] == flat.shape[1:]
    assert make_modality(modality.text).text == modality.text


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_a_broken_file_is_named_with_its_reason_and_the_others_are_used(kind, samples, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(samples[kind], folder)
    whole = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    (folder / "calm" / BROKEN[kind]).write_bytes(whole.read_bytes()[: len(whole.read_bytes()) // 2])
    sheet = inspect(open_source(folder, None), max_side=64)[0]
    assert (sheet.num_good, [name for _, name, _ in sheet.bad]) == (12, [f"calm/{BROKEN[kind]}"])
    assert sheet.bad[0][2]


def beside_others(folder: Path, place: Path) -> Path:
    """A copy, with files that count as this or that kind only where it is asked for: nobody asked for it here."""
    shutil.copytree(folder, place)
    (place / "people.csv").write_text("name,home\nAda,London\nEmmy,Erlangen\n")
    frames = [Image.new("RGB", (16, 16), (tone, 90, 200)) for tone in (0, 100, 250)]
    frames[0].save(place / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(place / "plain.tif")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_modality_serves_every_command(kind, samples, tmp_path):
    folder, options = samples[kind], {**TINY, "steps": 4, "save_every": 1, "keep_every": 2, "log_every": 1, "batch": 4}
    learnt = folder if kind == "multimodal" else beside_others(folder, tmp_path / "learnt")
    run = unmask.pretrain(learnt, out=tmp_path / "run", workers=0, **options)
    assert run.config.data.modality.split("(")[0] == kind
    whole, objective = losses(run.path), run.objective()
    for file in [*run.path.glob("*.ckpt"), run.path / "summary.json"]:
        if file.name != "step_00000002.ckpt":
            file.unlink()
    again = unmask.pretrain(learnt, out=run.path, workers=0, **options)
    assert losses(again.path) == whole
    assert all(torch.equal(value, again.objective().state_dict()[k]) for k, value in objective.state_dict().items())
    query = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    assert unmask.show(run.path, query, out=tmp_path / "panel.png").exists()
    assert unmask.show(run.path, query, what="masks", out=tmp_path / "masks.png").exists()
    verdict = unmask.evaluate(run.path, on=folder, evaluators=("knn", "attentive"))
    assert len(verdict.scores) > 2
    assert unmask.embed(run.path, folder, out=tmp_path / "features.npz").exists()
    found = unmask.search(run.path, folder, query=query, out=tmp_path / "search")
    assert found.hits[0].same == "same file"
    classifier = unmask.transfer(run.path, on=folder, epochs=1, batch=4, out=tmp_path / "classifier")
    assert unmask.predict(classifier.path, query, out=tmp_path / "p.csv").labels[0] in ("calm", "loud")
    encoder = unmask.load(run.path)
    assert encoder.modality == run.config.data.modality
    exported = unmask.export(run.path, to="onnx", out=tmp_path / "exported")
    assert any(exported.folder.rglob("*.onnx"))
    exported = unmask.export(classifier.path, to="onnx", out=tmp_path / "answers")
    assert any(exported.folder.rglob("*.onnx"))
    if kind != "image":
        with pytest.raises(UserError, match="it takes"):
            unmask.export(run.path, to="timm", out=tmp_path / "timm")
    diagnosis = unmask.doctor(run.path)
    assert not [finding for several in diagnosis.findings.values() for finding in several if "Error" in finding.what]


def test_batches_of_clips_and_images_are_of_their_own_type(samples):
    for kind, dtype in (("video", torch.uint8), ("audio", torch.float32)):
        source = open_source(samples[kind], None)
        size = source.modality.full_size(
            source.modality.choices(inspect(source, max_side=64)[0], 4, small=True)["image_size"].value
        )
        views = [source.modality.whole(size)(source.modality.decode(source.raw(i)).content) for i in range(2)]
        assert collate([{"views": [view]} for view in views])["views"][0].dtype == dtype
