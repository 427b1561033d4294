"""Images beside scenes, volumes or clips: each is rebuilt from the other, and what has no data counts for nothing."""

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from support.sampling import write_clip, write_volume

from unmask.data.source import open_source
from unmask.masking.mask import Mask
from unmask.methods.mae import MAE
from unmask.models.encoder import create_encoder

MODEL = "vit_tiny_patch16_224(depth=2, embed_dim=48, num_heads=3)"
COUNT, SIDE, EMPTY = 12, 32, 8  # samples, pixels, columns without data


def write_bands(path, number):
    """Five bands, of which each is brighter the higher the sample's number; the first columns have no data."""
    values = (
        np.full((5, SIDE, SIDE), 1000 + 200 * number, np.uint16) + 100 * np.arange(5, dtype=np.uint16)[:, None, None]
    )
    values[:, :, :EMPTY] = 0
    place = {"crs": "EPSG:32614", "transform": rasterio.transform.from_origin(440280, 3159720, 30, 30)}
    form = {"driver": "GTiff", "count": 5, "height": SIDE, "width": SIDE, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path.with_suffix(".tif"), "w", **form, **place) as file:
        file.write(values)


WRITERS = {"bands": write_bands}
WRITERS |= {"volume": lambda path, number: write_volume(path, number % 2, number)}
WRITERS |= {"video": lambda path, number: write_clip(path, number % 2, number)}
OPTIONS = {"bands": "bands", "volume": "volume", "video": "video(frames=4)"}


def samples(folder, kind):
    """The modality and all samples of images whose brightness tells that of the other part."""
    for part in ("rgb", "other"):
        (folder / part).mkdir()
    for number in range(COUNT):
        level = 20 + 18 * number if kind == "bands" else 60 + 120 * (number % 2)
        Image.new("RGB", (SIDE, SIDE), (level, 255 - level, 80)).save(folder / "rgb" / f"{number:02d}.png")
        WRITERS[kind](folder / "other" / f"{number:02d}", number)
    source = open_source(folder, f"multimodal(rgb=image, other={OPTIONS[kind]}, size={SIDE}, patch=8)")
    modality = source.modality
    view = modality.whole((modality.layout.length,))
    return modality, torch.stack([view(modality.decode(source.raw(i)).content) for i in range(COUNT)])


def learnt(modality, x, steps):
    torch.manual_seed(0)
    sizes = {"image_size": (modality.layout.length,), "patch_size": (modality.layout.width,), "channels": 1}
    encoder = create_encoder(MODEL, **sizes, **modality.for_encoder)
    mae = MAE(encoder, mask="dirichlet(ratio=0.6)", target="per_part", decoder="per_part(dim=48, depth=1, heads=3)")
    adam, losses = torch.optim.AdamW([p for p in mae.parameters() if p.requires_grad], lr=2e-3), []
    for _ in range(steps):
        loss = mae({"views": [x]})["loss"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return mae.eval(), losses


def error(mae, x, shown):
    """Squared error of the part that is not shown, as a share of its variance, where it has values."""
    grid = mae.encoder.grid
    seen, hidden = (torch.arange(*grid.spans[place]).expand(len(x), -1) for place in (shown, 1 - shown))
    made, truth = grid.cut(mae.rebuild(x, Mask(seen, hidden))), grid.cut(x)
    (first, end), part = grid.spans[1 - shown], grid.parts[1 - shown]
    made, truth = made[:, first:end, : part.num_values], truth[:, first:end, : part.num_values]
    there = truth.isfinite()
    assert made.isfinite().all()
    return float((made - truth)[there].square().mean() / truth[there].var())


@pytest.mark.slow
def test_a_photograph_and_a_scene_are_rebuilt_from_each_other(tmp_path):
    modality, x = samples(tmp_path, "bands")
    scene = modality.layout.unpack(x[3])[1]
    assert scene.shape == (5, SIDE, SIDE)
    assert scene[:, :, : EMPTY // 2].isnan().all()
    assert scene[:, :, EMPTY + 4 :].isfinite().all()
    mae, losses = learnt(modality, x, steps=200)
    assert losses[-1] < 0.3 * losses[0]
    assert error(mae, x, shown=0) < 0.5
    assert error(mae, x, shown=1) < 0.5


@pytest.mark.parametrize("kind", ["volume", "video"])
def test_images_beside_other_kinds_are_learnt_from_together(kind, tmp_path):
    modality, x = samples(tmp_path, kind)
    mae, losses = learnt(modality, x, steps=20)
    assert losses[-1] < losses[0]
    assert all(np.isfinite(error(mae, x, shown)) for shown in (0, 1))


def test_what_a_scene_lacks_counts_for_nothing(tmp_path):
    modality, x = samples(tmp_path, "bands")
    mae, _ = learnt(modality, x, steps=1)
    wanted = mae.target(x)
    first, end = mae.encoder.grid.spans[1]
    other = wanted.nan_to_num(0.0)  # of predictions where there is no value
    losses = mae.target.losses(other[:, first:end].nan_to_num(0.0), wanted[:, first:end])
    assert losses["loss_other"] == 0
