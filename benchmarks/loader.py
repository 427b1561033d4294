"""How many training crops one core prepares: the usual torchvision-PIL pipeline, and unmask's sources and loaders.

    python benchmarks/loader.py                  # 500 photographs of about 73 KiB made from scikit-image's and -learn's
    python benchmarks/loader.py --data FOLDER    # your own
    python benchmarks/loader.py --small          # 32-pixel images: one by one, and in memory for whole batches

Everything of unmask's goes through what training uses: sources, `Samples`, views and loaders, in the main process with
one thread. Seconds are those that the core worked (CPU time), so that other work on the machine hardly counts; on a
GPU, those that passed. Crops are 224 x 224, a fifth to all of the area, mirrored half of the time, in batches of 64.
The usual pipeline's batches are normalised float32, unmask's are uint8 and normalised on the device, within the step.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import smoke
from records import RESULTS
from side_by_side import Variant, compare

SIDE, BATCH, SCALE = 224, 64, (0.2, 1.0)
SMALL_COUNT, SMALL_BATCH = 10_000, 1024  # images of 32 pixels
COUNT, QUALITY = 500, 94  # images made, which gives about 73 KiB each
PILLOW = "torchvision and Pillow"


def usual(folder: str, batches: int, batch: int = BATCH) -> Callable[[], dict[str, float]]:
    """Open, RandomResizedCrop, flip, ToTensor, Normalize, as every recipe has it."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    torch.set_num_threads(1)
    steps = [
        transforms.RandomResizedCrop(SIDE, scale=SCALE, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    transform, paths = transforms.Compose(steps), sorted(Path(folder).glob("*.jpg"))

    class Photographs(Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            with open(paths[index], "rb") as file:
                return transform(Image.open(file).convert("RGB"))

    def batches_without_end() -> Iterator[Any]:
        while True:
            yield from DataLoader(Photographs(), batch, shuffle=True, drop_last=True)

    return _taking(batches_without_end(), batches)


def ours(data: str, batches: int, resize: str, crops: int = 1, batch: int = BATCH) -> Callable[[], dict[str, float]]:
    """Samples of a source, crops, batches: what `unmask pretrain` feeds its loop with, nothing kept in memory."""
    import torch

    from unmask.data.datasets.images import Samples
    from unmask.data.loaders.map_style import Loader
    from unmask.data.source import open_source
    from unmask.data.transforms.kernels.crop import RandomCrop

    torch.set_num_threads(1)
    source = open_source(data)
    samples = Samples(source, range(len(source.items)), channels=3, max_side=4 * SIDE)
    for index in range(len(samples)):  # training looks at everything first, too; packs check their sums then
        samples.image(index)
    view = RandomCrop((SIDE, SIDE), scale=SCALE, resize=resize)
    return _taking(Loader(samples=samples, view=view, batch=batch, crops=crops)(0), batches)


def small(
    data: str, batches: int, in_memory: bool, device: str, batch: int = SMALL_BATCH
) -> Callable[[], dict[str, float]]:
    """32-pixel images, decoded beforehand in both cases."""
    import torch

    from unmask.data.datasets.images import Samples
    from unmask.data.loaders.map_style import Loader
    from unmask.data.loaders.on_device import InMemory
    from unmask.data.sheet import inspect
    from unmask.data.source import open_source
    from unmask.data.transform import Transform, View
    from unmask.data.transforms.kernels.crop import RandomCrop

    torch.set_num_threads(1)
    source = open_source(data)
    _, cache = inspect(source, max_side=4 * 32, keep_bytes=2**30)
    samples = Samples(source, range(len(source.items)), channels=3, cache=cache)
    view = Transform(View(RandomCrop((32, 32), scale=SCALE)))
    shared: dict[str, Any] = {"samples": samples, "view": view, "batch": batch}
    stream = InMemory(device=device, **shared)(0) if in_memory else Loader(**shared)(0)
    return _taking(stream, batches, device)


def _taking(stream: Iterator[Any], batches: int, device: str = "cpu") -> Callable[[], dict[str, float]]:
    import torch

    clock = time.process_time if device == "cpu" else time.perf_counter

    def take() -> dict[str, float]:
        found, start = 0, clock()
        for batch in islice(stream, batches):
            found += len(batch["views"][0] if isinstance(batch, dict) else batch)
        if device != "cpu":
            torch.cuda.synchronize()
        return {"units": found, "seconds": clock() - start}

    return take


def make_photographs(folder: Path, count: int = COUNT) -> None:
    """Windows of the photographs of scikit-image and scikit-learn, 500 x 375 as in ImageNet; always the same."""
    from PIL import Image
    from skimage import data
    from sklearn.datasets import load_sample_images

    names = ("astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry")
    images = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in names]
    images += [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = images[number % len(images)]
        width = int(rng.uniform(0.5, 1.0) * min(image.width, image.height * 4 / 3))
        height = width * 3 // 4
        left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
        window = image.crop((left, top, left + width, top + height)).resize((500, 375), Image.Resampling.LANCZOS)
        noisy = np.asarray(window, np.float32) + rng.normal(0, 3, (375, 500, 1))  # grain, which enlarging took away
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=QUALITY)


def compare_photographs(options: argparse.Namespace) -> None:
    import unmask

    data, batches, sized = options.data, options.batches, {"batch": options.batch} if options.batch else {}

    with tempfile.TemporaryDirectory() as place:
        folder, jpeg, raw = (str(Path(place) / name) for name in ("photos", "jpeg.pack", "raw.pack"))
        if data is None:
            make_photographs(Path(folder), options.count or COUNT)
        else:
            folder = data
        unmask.pack(folder, jpeg)
        unmask.pack(folder, raw, format="raw")
        size = {name: _kib(Path(there)) for name, there in (("files", folder), ("jpeg", jpeg), ("raw", raw))}

        def one(name: str, there: str, resize: str, note: str, crops: int = 1) -> Variant:
            several = {"crops": crops} if crops > 1 else {}
            arguments = {"data": there, "batches": batches, "resize": resize} | several | sized
            return Variant(name, "loader.py:ours", arguments, ONE_THREAD, note)

        variants = [
            Variant(
                PILLOW, "loader.py:usual", {"folder": folder, "batches": batches} | sized, ONE_THREAD, "float32 batches"
            ),
            one("same files", folder, "exact", "the default for files"),
            one("same files, 4 crops", folder, "exact", "--views-per-image 4", 4),
            one("packed, exact resize", jpeg, "exact", "--resize exact"),
            one("packed", jpeg, "fast", "unmask pack; the default for packs"),
            one("packed, 4 crops", jpeg, "fast", "--views-per-image 4", 4),
            one("raw, exact resize", raw, "exact", "--resize exact"),
            one("raw", raw, "fast", "unmask pack --format raw; the default for packs"),
        ]
        title, facts = "Training crops per second of one core, 224 px", {"mean KiB per image": size}
        shared = {"rounds": options.rounds, "out": options.out, "in_process": options.smoke}
        compare("loader", title, variants, baseline=PILLOW, unit="crops", facts=facts, **shared)


def compare_small(options: argparse.Namespace) -> None:
    count, batch, device = options.count or SMALL_COUNT, options.batch or SMALL_BATCH, options.device
    with tempfile.TemporaryDirectory() as place:
        path = str(Path(place) / "small.npy")
        np.save(path, np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8))
        shared = {"data": path, "batches": options.batches, "device": device, "batch": batch}
        variants = [
            Variant(name, "loader.py:small", shared | {"in_memory": quick}, ONE_THREAD, note)
            for name, quick, note in (
                ("one by one", False, "--in-memory off"),
                ("in memory", True, f"--in-memory on, on {device}"),
            )
        ]
        title = "Training crops per second, 32 px, one CPU thread"
        shared = {"rounds": options.rounds, "out": options.out, "in_process": options.smoke}
        compare("loader_small", title, variants, baseline="one by one", unit="crops", **shared)


ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def _kib(place: Path) -> float:
    files = [p for p in place.rglob("*") if p.suffix in (".jpg", ".bin")]
    count = len(list(place.rglob("*.jpg"))) or sum(len(p.read_text().splitlines()) for p in place.glob("*.jsonl"))
    return round(sum(p.stat().st_size for p in files) / count / 1024, 1)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with JPEG files right in it")
    parser.add_argument("--small", action="store_true", help="compare the two ways for 32-pixel images instead")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where images in memory live")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4, help="per measurement")
    parser.add_argument("--batch", type=int, help=f"crops; by default {BATCH}, or {SMALL_BATCH} of 32 pixels")
    parser.add_argument("--count", type=int, help=f"images made; by default {COUNT}, or {SMALL_COUNT:,} of 32 pixels")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    if options.small:
        compare_small(options)
    else:
        compare_photographs(options)


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    shared = ["--rounds", "1", "--batches", "1", "--out", str(out), "--smoke"]
    yield [*shared, "--batch", "4", "--count", "8"]
    yield [*shared, "--batch", "32", "--count", "64", "--small"]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
