"""What an epoch over the windows of a large scene takes: resident memory, and seconds of a core for each window.

    python benchmarks/scene_windows.py                          # 10,980 x 10,980 pixels of 10 bands, as of Sentinel-2
    python benchmarks/scene_windows.py --side 4096 --bands 4

The scene is written tile by tile into a temporary folder, as a tiled GeoTIFF with a border without data (some 0.6 GB
where it is packed). It is opened, looked at for its data sheet, and loaded once, as `pretrain` does.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import smoke
from rasterio.transform import from_origin
from records import RESULTS, machine

from unmask.data.datasets.images import Samples
from unmask.data.loaders.map_style import Loader
from unmask.data.sheet import inspect
from unmask.data.source import open_source

BLOCK, VIEW, BATCH = 512, 224, 8


def make_scene(path: Path, side: int, bands: int) -> None:
    """Smooth fields and a little noise, 16 bits; a tenth along two sides has no data."""
    chance = np.random.default_rng(0)
    form = {"driver": "GTiff", "count": bands, "height": side, "width": side, "dtype": "uint16", "nodata": 0}
    form |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "lzw", "bigtiff": "if_safer"}
    place = {"crs": "EPSG:32632", "transform": from_origin(300_000, 5_000_000, 10, 10)}
    with rasterio.open(path, "w", **form, **place) as file:
        for top in range(0, side, BLOCK):
            for left in range(0, side, BLOCK):
                h, w = min(BLOCK, side - top), min(BLOCK, side - left)
                rows, columns = np.ogrid[top : top + h, left : left + w]
                field = 2000 + 1000 * np.sin(rows / 300) * np.cos(columns / 200)
                tile = np.stack([field + 100 * band + chance.integers(0, 8, (h, w)) for band in range(bands)])
                tile[:, (rows < side // 10) | (columns < side // 10)] = 0
                file.write(tile.astype(np.uint16), window=((top, top + h), (left, left + w)))


def peak() -> float:
    """GiB that this process has held at the most."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_980)
    parser.add_argument("--bands", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        make_scene(path, options.side, options.bands)
        written, began = peak(), time.perf_counter()
        source = open_source(path, None)
        sheet, _ = inspect(source, max_side=None, threads=options.threads)
        looked, looking = peak(), time.perf_counter() - began
        samples = Samples(source, range(len(source.items)), channels=options.bands)
        view = source.modality.window("random", (VIEW, VIEW), 0.2, True, "exact")
        loader = Loader(samples=samples, view=view, batch=BATCH)
        began, seen = time.perf_counter(), 0
        for batch in loader():
            seen += len(batch["views"][0])
            if seen >= len(samples):
                break
        loading = time.perf_counter() - began
        result = {
            "scene": [options.bands, options.side, options.side],
            "file_gib": round(path.stat().st_size / 2**30, 2),
            "windows": len(samples),
            "modality": source.modality.text,
            "bad": len(sheet.bad),
            "peak_gib": {"written": round(written, 2), "data sheet": round(looked, 2), "an epoch": round(peak(), 2)},
            "seconds": {"data sheet": round(looking, 1), "an epoch": round(loading, 1)},
            "windows_per_second": round(seen / loading, 1),
            "machine": machine(),
        }
    print(json.dumps(result, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scene_windows.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--side", "600", "--bands", "5", "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
