"""Does the pack's own file format pay? Training crops per second of one core from a pack, a stored zip and a tar.

    python benchmarks/pack_format.py          # 500 photographs, original JPEG files and raw pixels

The images in the three are the same: the original files, or pixels shrunk to a short side of 256 (in zip and tar as
.npy members). Zip and tar are read where they lie by `data/sources/archive.py`. Everything goes through what training
uses, in random order, one thread; see loader.py. Seconds are those that the core worked.
"""

import argparse
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import smoke
from loader import BATCH, COUNT, ONE_THREAD, SCALE, SIDE, _taking, make_photographs
from records import RESULTS
from side_by_side import Variant, compare


def crops(data: str, batches: int, batch: int) -> Callable[[], dict[str, float]]:
    """Samples of a source, crops, batches, as `unmask pretrain` makes them."""
    import torch

    from unmask.data.datasets.images import Samples
    from unmask.data.loaders.map_style import Loader
    from unmask.data.source import open_source
    from unmask.data.sources.archive import Archive
    from unmask.data.transforms.kernels.crop import RandomCrop

    class Pixels(Archive):
        """An archive of .npy members, of which the images are."""

        def _begins_as_image(self, name: str) -> bool:
            return name.endswith(".npy")

        def pixels(self, index: int) -> torch.Tensor:
            content = io.BytesIO(self.read(index))
            np.lib.format.read_magic(content)
            shape, _, dtype = np.lib.format.read_array_header_1_0(content)
            values = np.frombuffer(content.getbuffer(), dtype, offset=content.tell()).reshape(shape)
            return torch.from_numpy(values).permute(2, 0, 1)

    torch.set_num_threads(1)
    source = Pixels(data) if Path(data).name.startswith("raw.") and Path(data).is_file() else open_source(data)
    samples = Samples(source, range(len(source.items)), channels=3, max_side=4 * SIDE)
    for index in range(len(samples)):  # training looks at everything first, too; packs check their sums then
        samples.image(index)
    view = RandomCrop((SIDE, SIDE), scale=SCALE, resize="fast")
    return _taking(Loader(samples=samples, view=view, batch=batch)(0), batches)


def write_archives(folder: Path, raw: Path, out: Path) -> None:
    """original.zip, original.tar, raw.zip and raw.tar: the files of `folder`, and the pixels of the pack `raw`."""
    from unmask.data.source import open_source

    files = [(path.name, path.read_bytes()) for path in sorted(folder.glob("*.jpg"))]
    source, arrays = open_source(raw), []
    for index, item in enumerate(source.items):
        content, pixels = io.BytesIO(), source.read(index)
        assert isinstance(pixels, np.ndarray)
        np.save(content, pixels)
        arrays.append((f"{Path(item.name).stem}.npy", content.getvalue()))
    for kind, members in (("original", files), ("raw", arrays)):
        with zipfile.ZipFile(out / f"{kind}.zip", "w") as archive, tarfile.open(out / f"{kind}.tar", "w") as tar:
            for name, content in members:
                archive.writestr(name, content)
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def main() -> None:
    import unmask

    options = parser().parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "photos", Path(place)
        make_photographs(folder, options.count)
        for kind in ("original", "raw"):
            unmask.pack(folder, out / f"{kind}.pack", format=kind)
        write_archives(folder, out / "raw.pack", out)
        shared = {"rounds": options.rounds, "out": options.out, "in_process": options.smoke}
        for kind, what in (("original", "original JPEG files"), ("raw", "raw pixels")):
            variants = [
                Variant(
                    form,
                    "pack_format.py:crops",
                    {"data": str(out / f"{kind}.{form}"), "batches": options.batches, "batch": options.batch},
                    ONE_THREAD,
                )
                for form in ("pack", "zip", "tar")
            ]
            title = f"Training crops per second of one core, 224 px, {what}"
            compare(f"pack_format_{kind}", title, variants, baseline="pack", unit="crops", **shared)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=8, help="per measurement")
    parser.add_argument("--batch", type=int, default=BATCH, help="crops")
    parser.add_argument("--count", type=int, default=COUNT, help="images made")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    yield ["--rounds", "1", "--batches", "1", "--batch", "4", "--count", "8", "--out", str(out), "--smoke"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
