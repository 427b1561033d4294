"""How long samples of any kind take to be read, decoded and cut, and what share of a training step that is.

    python benchmarks/preparing.py clips/
    python benchmarks/preparing.py clips/ --modality "video(frames=8)" --image-size 8 32 32 --patch-size 8

DATA is what `unmask pretrain` takes: a folder of clips, volumes, recordings, scenes, clouds, series or images. The run
is planned as there, and steps are measured as the plan measures them, in turns: with samples made in the main process
and, where this process may use two cores, by a worker process beside it. Shares are those of a step's time in which it
waits for its samples, some of which may come from memory, as in a run. Samples per second are all decoded anew, without
a model, by seconds that the core worked (CPU time), so that other work on the machine hardly counts. What is left open
is chosen for this machine.
"""

import argparse
import json
import os
import statistics
import time
import wave
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import smoke
from records import RESULTS, machine

MUCH = 0.3  # of a step's time: above it the plan says what to do


def planned(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """The plan of a run before its length is chosen, its samples, and how weights begin."""
    from rich.console import Console

    from unmask.cli.commands.pretrain import asked_for, inspect_options
    from unmask.cli.options.pretrain import Pretrain
    from unmask.planning.initial_weights import initial
    from unmask.planning.plan import Plan
    from unmask.planning.pretrain import Given, choose_parts
    from unmask.runtime.machine import choices
    from unmask.runtime.machine import machine as look_at_machine

    names = ("modality", "image_size", "patch_size", "batch", "model", "decoder", "device", "precision")
    names += ("views_per_image", "in_memory")
    asked = {name: value for name in names if (value := getattr(options, name)) is not None}
    pretrain = Pretrain((str(options.data),), **asked, steps=1)
    here = look_at_machine(pretrain.device, pretrain.precision)
    sheet, samples = inspect_options(pretrain, None, Console(quiet=True))
    given = Given(asked_for(pretrain), asked_for(pretrain), {}, sheet, samples, here, choices(here.device))
    start = initial(str(pretrain.init))
    return choose_parts(Plan(dict(given.options)), given, start), samples, start


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from unmask.planning.build import build
    from unmask.planning.loaders import make_loader
    from unmask.planning.measure import trial
    from unmask.planning.pretrain import choose_length
    from unmask.runtime.distributed.data_parallel import make_devices
    from unmask.training.speed.compile import ready

    draft, samples, start = planned(options)
    config = draft.config()
    devices = make_devices(config.runtime)

    def model() -> Any:
        return ready(build(draft.config(), start), config.runtime)

    counts = [0, 1] if cores() > 1 else [0]
    speeds: list[float] = []
    steps: dict[int, list[Any]] = {count: [] for count in counts}
    for _ in range(options.rounds):
        speeds.append(speed(make_loader(config, samples.light(), workers=0), options.batches))
        for count in counts:
            loader = partial(make_loader, config, samples, workers=count)
            steps[count].append(trial(model, loader, draft.plan, devices, retry=False, enough=options.seconds))
    middle = sorted(steps[0], key=lambda step: step.preparing / step.seconds)[len(steps[0]) // 2]
    final = choose_length(draft, [middle], 0.0)
    return {
        "word": config.data.word,
        "samples": len(samples),
        "in_memory_mb": round(sum(content.nbytes for content in samples.cache.values()) / 2**20, 1),
        "modality": config.data.modality,
        "image_size": config.data.image_size,
        "patch_size": config.model.patch_size,
        "model": config.model.name,
        "batch": config.training.batch,
        "per_second": statistics.median(speeds),
        "workers": {count: shares(found) for count, found in steps.items()},
        "plan": {"workers": final.data.workers, "why": draft.plan.reasons["workers"]},
    }


def speed(loader: Callable[[int], Iterator[Any]], batches: int) -> float:
    """Samples per second of CPU time, after a batch that is not counted."""
    stream, found = loader(0), 0
    next(stream)
    start = time.process_time()
    for batch in islice(stream, batches):
        found += len(batch["views"][0] if isinstance(batch, dict) else batch)
    return found / (time.process_time() - start)


def shares(steps: list[Any]) -> dict[str, Any]:
    """Least, median and greatest share of the time in which a step waits; medians of its seconds."""
    waiting = [step.preparing / step.seconds for step in steps]
    return {
        "share": [min(waiting), statistics.median(waiting), max(waiting)],
        "preparing": statistics.median(step.preparing for step in steps),
        "computing": statistics.median(step.computing for step in steps),
    }


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def text(measured: dict[str, Any]) -> str:
    size = " x ".join(map(str, measured["image_size"]))
    lines = [
        f"{measured['samples']:,} {measured['word']}s, {measured['modality']}: {size}, patch {measured['patch_size']},"
        f" {measured['model']}, batch {measured['batch']:,}, {'one core' if cores() == 1 else f'{cores()} cores'}",
        f"decoded and cut: {measured['per_second']:,.1f} {measured['word']}s per second of one core;"
        f" in a run, {measured['in_memory_mb']:,} MB of decoded samples are in memory",
    ]
    for count, found in measured["workers"].items():
        low, middle, high = found["share"]
        lines.append(
            f"workers {count}: a step waits {middle:.1%} of its time ({low:.1%} to {high:.1%}):"
            f" {1e3 * found['preparing']:.3g} ms of waiting, {1e3 * found['computing']:.3g} ms of work"
        )
    if 1 not in measured["workers"]:
        lines.append("workers 1: not measured, there is one core")
    lines.append(f"the plan: workers {measured['plan']['workers']}: {measured['plan']['why']}")
    much = measured["workers"][0]["share"][1] > MUCH
    return "\n".join([*lines, f"more than {MUCH:.0%} without workers: {'yes' if much else 'no'}"]) + "\n"


def make_volumes(folder: Path, count: int) -> None:
    import nibabel

    for number in range(count):
        values = np.random.default_rng(number).normal(100, 20, (24, 28, 20)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"{number}.nii.gz")


def make_recordings(folder: Path, count: int) -> None:
    for number in range(count):
        values = np.random.default_rng(number).integers(-9000, 9000, 4000).astype("<i2")
        with wave.open(str(folder / f"{number}.wav"), "wb") as sound:
            sound.setparams((1, 2, 8000, 0, "NONE", ""))
            sound.writeframes(values.tobytes())


def make_scenes(folder: Path, count: int) -> None:
    from scene_windows import make_scene

    for number in range(count):
        make_scene(folder / f"{number}.tif", 64, 5)


def make_clouds(folder: Path, count: int) -> None:
    for number in range(count):
        np.save(folder / f"{number}.npy", np.random.default_rng(number).normal(size=(128, 3)).astype(np.float32))


def make_series(folder: Path, count: int) -> None:
    np.save(folder / "series.npy", np.random.default_rng(0).normal(size=(count, 3, 200)).astype(np.float32))


def make_clips(folder: Path, count: int) -> None:
    from video_reads import make_clips

    make_clips(folder, count)


MADE = {"video": make_clips, "volume": make_volumes, "audio": make_recordings, "bands": make_scenes}
MADE |= {"points": make_clouds, "signal": make_series}  # what makes a few samples of each kind in a folder
WIDTH = {"video": ("8", "16", "16"), "volume": ("16",) * 3, "bands": ("32", "32")}  # what a model sees of those


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="what `unmask pretrain` takes")
    parser.add_argument("--modality", help="by default what most files are")
    parser.add_argument("--image-size", type=int, nargs="+", help="by default as planned; so are the following")
    parser.add_argument("--patch-size", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--model")
    parser.add_argument("--decoder")
    parser.add_argument("--views-per-image", type=int)
    parser.add_argument("--in-memory", choices=("auto", "on", "off"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=4, help="that are made without a model, in each round")
    parser.add_argument("--seconds", type=float, default=30.0, help="after which a round begins no further step")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the record")
    parser.add_argument("--smoke", action="store_true", help=smoke.HELP)
    return parser


def main() -> None:
    options = parser().parse_args()
    measured = measure(options)
    options.out.mkdir(parents=True, exist_ok=True)
    name = f"preparing_{measured['word']}"
    record = {"name": name, "machine": machine(), "measured": measured}
    (options.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.out / f"{name}.txt").write_text(text(measured))
    print(text(measured))


def smoke_commands(folder: Path, out: Path) -> Iterator[list[str]]:
    small = ["--model", smoke.MODEL, "--decoder", smoke.DECODER, "--batch", "4", "--rounds", "1", "--batches", "1"]
    for kind, make in MADE.items():
        (place := folder / kind).mkdir()
        make(place, 12)
        size = ["--image-size", *WIDTH[kind], "--patch-size", "8"] if kind in WIDTH else []
        yield [str(place), "--modality", kind, "--seconds", "1", "--out", str(out), *small, *size]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
