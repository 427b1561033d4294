"""How many training crops one core prepares: the usual torchvision-PIL pipeline, and unmask's sources and loaders.

    python benchmarks/loader.py                  # 500 photographs of about 73 KiB made from scikit-image's and -learn's
    python benchmarks/loader.py --data FOLDER    # your own
    python benchmarks/loader.py --small          # 32-pixel pictures: one by one, and in memory for whole batches

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
from side_by_side import Variant, compare

SIDE, BATCH, SCALE = 224, 64, (0.2, 1.0)
COUNT, QUALITY = 500, 94  # pictures made, which gives about 73 KiB each
PILLOW = "torchvision and Pillow"


def usual(folder: str, batches: int) -> Callable[[], dict[str, float]]:
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
            yield from DataLoader(Photographs(), BATCH, shuffle=True, drop_last=True)

    return _taking(batches_without_end(), batches)


def ours(data: str, batches: int, resize: str, crops: int = 1) -> Callable[[], dict[str, float]]:
    """Samples of a source, crops, batches: what `unmask pretrain` feeds its loop with, nothing kept in memory."""
    import torch

    from unmask.data.datasets.pictures import Samples
    from unmask.data.loaders.map_style import Loader
    from unmask.data.source import open_source
    from unmask.data.transforms.crops import RandomCrop, one_thread_each

    torch.set_num_threads(1)
    one_thread_each()
    source = open_source(data)
    samples = Samples(source, range(len(source.items)), channels=3, max_side=4 * SIDE)
    for index in range(len(samples)):  # training looks at everything first, too; packs check their sums then
        samples.picture(index)
    view = RandomCrop((SIDE, SIDE), scale=SCALE, resize=resize)
    return _taking(Loader(samples=samples, view=view, batch=BATCH, crops=crops)(0), batches)


def small(data: str, batches: int, in_memory: bool, device: str) -> Callable[[], dict[str, float]]:
    """32-pixel pictures, decoded beforehand in both cases."""
    import torch

    from unmask.data.datasets.pictures import Samples
    from unmask.data.loaders.map_style import Loader
    from unmask.data.loaders.on_device import InMemory
    from unmask.data.sheet import inspect
    from unmask.data.source import open_source
    from unmask.data.transforms.crops import RandomCrop, one_thread_each

    torch.set_num_threads(1)
    one_thread_each()
    source = open_source(data)
    _, cache = inspect(source, max_side=4 * 32, keep_bytes=2**30)
    samples = Samples(source, range(len(source.items)), channels=3, cache=cache)
    shared: dict[str, Any] = {"samples": samples, "view": RandomCrop((32, 32), scale=SCALE), "batch": 1024}
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
    pictures = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in names]
    pictures += [Image.fromarray(picture) for picture in load_sample_images().images]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        width = int(rng.uniform(0.5, 1.0) * min(picture.width, picture.height * 4 / 3))
        height = width * 3 // 4
        left, top = rng.integers(picture.width - width + 1), rng.integers(picture.height - height + 1)
        window = picture.crop((left, top, left + width, top + height)).resize((500, 375), Image.Resampling.LANCZOS)
        noisy = np.asarray(window, np.float32) + rng.normal(0, 3, (375, 500, 1))  # grain, which enlarging took away
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=QUALITY)


def compare_photographs(data: str | None, rounds: int, batches: int) -> None:
    import unmask

    with tempfile.TemporaryDirectory() as place:
        folder, jpeg, raw = (str(Path(place) / name) for name in ("photos", "jpeg.pack", "raw.pack"))
        if data is None:
            make_photographs(Path(folder))
        else:
            folder = data
        unmask.pack(folder, jpeg)
        unmask.pack(folder, raw, format="raw")
        size = {name: _kib(Path(there)) for name, there in (("files", folder), ("jpeg", jpeg), ("raw", raw))}

        def one(name: str, there: str, resize: str, note: str, crops: int = 1) -> Variant:
            several = {"crops": crops} if crops > 1 else {}
            arguments = {"data": there, "batches": batches, "resize": resize} | several
            return Variant(name, "loader.py:ours", arguments, ONE_THREAD, note)

        variants = [
            Variant(PILLOW, "loader.py:usual", {"folder": folder, "batches": batches}, ONE_THREAD, "float32 batches"),
            one("same files", folder, "exact", "the default for files"),
            one("same files, 4 crops", folder, "exact", "--views-per-image 4", 4),
            one("packed, exact resize", jpeg, "exact", "--resize exact"),
            one("packed", jpeg, "fast", "unmask pack; the default for packs"),
            one("packed, 4 crops", jpeg, "fast", "--views-per-image 4", 4),
            one("raw, exact resize", raw, "exact", "--resize exact"),
            one("raw", raw, "fast", "unmask pack --format raw; the default for packs"),
        ]
        title, facts = "Training crops per second of one core, 224 px", {"mean KiB per picture": size}
        compare("loader", title, variants, baseline=PILLOW, unit="crops", rounds=rounds, facts=facts)


def compare_small(rounds: int, batches: int, device: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = str(Path(place) / "small.npy")
        np.save(path, np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3)).astype(np.uint8))
        shared = {"data": path, "batches": batches, "device": device}
        variants = [
            Variant(name, "loader.py:small", shared | {"in_memory": quick}, ONE_THREAD, note)
            for name, quick, note in (
                ("one by one", False, "--in-memory off"),
                ("in memory", True, f"--in-memory on, on {device}"),
            )
        ]
        title = "Training crops per second, 32 px, one CPU thread"
        compare("loader_small", title, variants, baseline="one by one", unit="crops", rounds=rounds)


ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def _kib(place: Path) -> float:
    files = [p for p in place.rglob("*") if p.suffix in (".jpg", ".bin")]
    count = len(list(place.rglob("*.jpg"))) or sum(len(p.read_text().splitlines()) for p in place.glob("*.jsonl"))
    return round(sum(p.stat().st_size for p in files) / count / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with JPEG files right in it")
    parser.add_argument("--small", action="store_true", help="compare the two ways for 32-pixel pictures instead")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where pictures in memory live")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4, help="per measurement")
    options = parser.parse_args()
    if options.small:
        compare_small(options.rounds, options.batches, options.device)
    else:
        compare_photographs(options.data, options.rounds, options.batches)


if __name__ == "__main__":
    main()
