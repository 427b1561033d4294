"""Maps and classes predicted for scenes lie where the scenes lie, as rasterio reads them."""

import csv
import io

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin
from rich.console import Console

from unmask.data.annotations.legend import VOID
from unmask.data.codecs.scenes.piece import Piece
from unmask.data.datasets.scenes import SegmentedScenes
from unmask.data.transforms.labelled.segmentation import NoDataView
from unmask.models.encoder import create_encoder
from unmask.tasks.classification.classifier import Predictions
from unmask.tasks.classification.predict import write_predictions
from unmask.tasks.segmentation import scenes
from unmask.tasks.segmentation.predict import SHARES
from unmask.tasks.segmentation.scenes import predict_scenes
from unmask.tasks.segmentation.segmenter import ImageSegmenter
from unmask.tasks.task import PredictOptions

PLACE = {"crs": "EPSG:32614", "transform": from_origin(440280, 3159720, 20, 20)}
KIND = "bands(window=32, names=('band 1',))"


def write(path, array, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"driver": "GTiff", "count": len(array), "height": array.shape[1], "width": array.shape[2]}
    with rasterio.open(path, "w", **form | {"dtype": array.dtype.name} | PLACE | more) as file:
        file.write(array)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two scenes of 40 x 60 pixels, in which the first ten rows have no data, with the brighter half as a class."""
    for number in range(2):
        values = np.random.default_rng(number).integers(100, 200, (2, 40, 60)).astype(np.int16)
        labels = np.zeros((1, 40, 60), np.uint8)
        values[:, :, 30 * number : 30 * number + 30] += 3000
        labels[:, :, 30 * number : 30 * number + 30] = 7
        values[:, :10] = -1
        write(tmp_path / "images" / f"{number}.tif", values, nodata=-1)
        write(tmp_path / "masks" / f"{number}.tif", labels)
    return tmp_path


def segmenter():
    torch.manual_seed(0)
    encoder = create_encoder(
        "vit_tiny_patch16_224(depth=1, embed_dim=24, num_heads=2)",
        **{"image_size": (16, 16), "patch_size": 8, "channels": 2, "mean": (1500.0,) * 2, "std": (1500.0,) * 2},
        modality=KIND, gaps=True,
    )  # fmt: skip
    return ImageSegmenter(encoder, ["soil", "water"], [0, 7], head="linear", side=32).eval()


def test_maps_are_written_in_the_place_of_their_scenes_with_nothing_where_there_is_no_data(folder, tmp_path, capsys):
    out, model = tmp_path / "out", segmenter()
    options = PredictOptions((str(folder / "images"),), 4, 0.5)
    written = predict_scenes(model, {"colours": [(0, 0, 0), (0, 0, 255)]}, options, out, Console(quiet=True))
    assert [path.name for path in written.files] == ["0.tif", "1.tif"]
    for number, path in enumerate(written.files):
        with rasterio.open(path) as map_, rasterio.open(folder / "images" / path.name) as scene:
            assert (map_.crs, map_.transform, map_.shape) == (scene.crs, scene.transform, scene.shape)
            values, known = map_.read(1), map_.read_masks(1) > 0
            assert (known == (scene.read_masks(1) > 0)).all()
            assert set(np.unique(values[known])) <= {0, 7}
            assert map_.nodata not in (0, 7)
            shares = [(values[known] == n).mean() for n in (0, 7)]
        np.testing.assert_allclose(written.shares[number], shares, atol=1e-6)
        assert (out / "overlays" / path.name).with_suffix(".jpg").exists()
    rows = list(csv.DictReader((out / SHARES).open()))
    assert [row["path"] for row in rows] == ["0.tif", "1.tif"]


def by_pixel(x):
    """The logits of a segmenter that sees each pixel alone."""
    x = x.nan_to_num()
    return torch.stack([1000 - x[:, 0], x[:, 0]], dim=1)


def test_a_map_is_the_same_wherever_windows_lie_and_however_many_rows_are_read(folder, tmp_path, monkeypatch):
    options, console = PredictOptions((str(folder / "images"),), 4, 0.5), Console(quiet=True)
    maps, model = [], segmenter()
    model._run = by_pixel
    for number, (rows, window) in enumerate([(512, (16, 16)), (7, (16, 16)), (9, (10, 14))]):
        monkeypatch.setattr(scenes, "ROWS", rows)
        monkeypatch.setattr(scenes, "PART", 1 if number else 1 << 24)
        model.window = window
        predict_scenes(model, {"colours": [(0, 0, 0), (0, 0, 255)]}, options, tmp_path / str(number), console)
        with rasterio.open(tmp_path / str(number) / "1.tif") as file:
            maps.append(file.read(1, masked=True))
    with rasterio.open(folder / "masks" / "1.tif") as file:
        truth = file.read(1)
    for map_ in maps:
        assert map_.mask[:10].all()
        assert not map_.mask[10:].any()
        assert (map_.data[10:] == truth[10:]).all()


def test_a_scene_without_data_is_left_out_with_its_reason(folder, tmp_path):
    write(folder / "images" / "empty.tif", np.full((2, 40, 60), -1, np.int16), nodata=-1)
    out, said = tmp_path / "out", io.StringIO()
    options = PredictOptions((str(folder / "images"),), 4, 0.5)
    written = predict_scenes(
        segmenter(), {"colours": [(0, 0, 0), (0, 0, 255)]}, options, out, Console(file=said, width=200)
    )
    assert written.names == ["0.tif", "1.tif"]
    assert "empty.tif" in said.getvalue()
    assert "no pixel has data" in said.getvalue()


def test_windows_of_scenes_are_learnt_from_with_their_part_of_the_labels(folder):
    said = []
    data = SegmentedScenes([str(folder)], modality=KIND, max_side=32, say=said.append)
    assert data.classes == ["0", "7"] or data.classes == ["background", "object"]
    names = [scene.name for _, scene in data.scenes]
    assert names[:4] == [f"images/0.tif@{top}+{left}" for top in (0, 8) for left in (0, 28)]
    assert any("train split and in another" in line for line in said)
    segments = data.segments("train", 2)
    for i in range(len(segments)):
        both = segments.image(i)
        assert both.shape == (3, 32, 32)
        missing = both[:2].isnan().all(dim=0)
        assert (both[2][missing] == VOID).all()
        assert set(both[2][~missing].unique().tolist()) <= {0, 1}
        bright = both[0] > 1000
        assert ((both[2] == 1) == bright)[~missing].all()
        make = NoDataView((24, 24), 32, (float("nan"),) * 2, distort=False)
        view = make(both, torch.Generator().manual_seed(i))
        known = view[0].isfinite()
        nothing = view[2][~known]
        assert not len(nothing) or (nothing == VOID).float().mean() > 0.8  # but for half a pixel at the edge
        assert (view[0][known] > 99).all()
        pixels, truth = segments.pair(i)
        assert (truth[pixels.isnan().all(dim=0).numpy()] == VOID).all()


def test_tables_of_classes_say_where_scenes_lie(folder, tmp_path):
    from unmask.data.source import open_source

    source = open_source(folder / "images" / "0.tif", KIND)
    places = [source.modality.columns(source.raw(i)) for i in range(4)]
    assert isinstance(source.raw(3), Piece)
    with rasterio.open(folder / "images" / "0.tif") as file:
        for index, place in enumerate(places):
            top, left, height, width = source.raw(index).place
            bounds = rasterio.windows.bounds(rasterio.windows.Window(left, top, width, height), file.transform)
            assert [float(place[name]) for name in ("left", "bottom", "right", "top")] == pytest.approx(bounds)
            assert float(place["x"]) == pytest.approx((bounds[0] + bounds[2]) / 2)
            assert float(place["y"]) == pytest.approx((bounds[1] + bounds[3]) / 2)
            assert place["crs"] == "EPSG:32614"
    answers = Predictions([item.name for item in source.items], ["a", "b"], np.full((4, 2), 0.5, np.float32))
    write_predictions(answers, tmp_path / "p.csv", more=places)
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert rows[3]["path"] == "0.tif@8+28"
    assert {name: rows[3][name] for name in places[3]} == places[3]
    write_predictions(answers, tmp_path / "q.csv", more=[{}] * 4)
    assert (tmp_path / "q.csv").read_text().splitlines()[0] == "path,label,a,b"
