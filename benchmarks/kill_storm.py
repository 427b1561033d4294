"""Kills every command that trains or writes, at random moments, again and again, and gives the same command until it is
done. What then lies there must equal what a run that nobody killed leaves, but for the clock (docs/safety.md).

    python benchmarks/kill_storm.py --kills 300 --out storm      # goes on where it was; writes storm/kill_storm.json

A cycle begins in an empty folder, with up to nine kills (SIGKILL or SIGTERM) at moments spread evenly over the work of
the command (in seconds of a core, which it takes undisturbed), then one run to the end. Its files are compared one by
one: JSON without the fields of the clock, checkpoints tensor by tensor, pages without times, speeds and memory, all
others by their bytes.
"""

import argparse
import importlib
import json
import os
import random
import re
import shutil
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import forked_command
import numpy as np
import smoke
import soundfile
import torch

CLOCK = {  # fields of JSON and of checkpoints that tell the time, the speed or the memory; docs/safety.md lists them
    *("seconds", "waited", "waiting", "images_per_second", "memory_mb", "memory", "expected", "latency", "window"),
    *("forecast", "save_every", "saves", "step_seconds", "judging_seconds"),
}
MEASURED = re.compile(  # the same in texts and pages: 0:05, 3.2 s, 685 MB, a share of the time, the curve of speed
    r"\b\d+(:\d\d)+\b|[\d.,]+ ?(ms|s|min|h|MB|GB|images/s)\b|\d+ %(?=</b><span>of the time waiting)|\([\d.]+ times\)"
    r'|src="data:image[^"]*"(?= alt="loss and speed)'
)
WAITING = re.compile(r'<p class="note">\d+% of the time went into waiting[^<]*</p>\n?')  # said from a tenth on
SECONDS = {  # the ninth cell of a row, in the tables of `ablate`; the seventh, in those of `tune`
    "tuning.md": re.compile(r"^((?:\|[^|\n]*){6}\|)[^|\n]*", re.M),
    "tuning.html": re.compile(r"((?:<td[^>]*>[^<]*</td>\s*){6})<td[^>]*>[^<]*</td>"),
    "ablation.md": re.compile(r"^((?:\|[^|\n]*){8}\|)[^|\n]*", re.M),
    "ablation.html": re.compile(r"((?:<td[^>]*>[^<]*</td>\s*){8})<td[^>]*>[^<]*</td>"),
}
HEARD = (128 + signal.SIGTERM, -signal.SIGTERM)  # exit codes on SIGTERM; the second before Python has set its handlers
FAST = ["--precision", "32", "--matmul", "default", "--attention", "matmul", "--threads", "1", "--workers", "0"]
MODEL = ["--model", smoke.MODEL, "--image-size", "32", "--patch-size", "8", "--decoder", smoke.DECODER]
STEPS = ["--steps", "12", "--batch", "8", "--save-every", "3", "--keep-every", "6", "--log-every", "2"]
TRAIN = ["--epochs", "2", "--batch", "8", "--log-every", "1", *FAST]
RATE = ["--false-alarms", "0.2"]
LABELS = ["--labels-per-class", "2", "--protocols", "knn", "full", "--epochs", "2", "--precision", "32"]
STUDY = ["--seeds", "1", "--steps", "6", "--batch", "8", "--precision", "32", "--workers", "0"]
COMPARISON = ["--methods", "mae", "simclr", "--images", "48", "--model", smoke.MODEL, "--image-size", "32"]
COMPARISON += ["--patch-size", "8", "--batch", "8", "--labels-per-class", "2", "--finetune-epochs", "1"]
COMPARISON += ["--precision", "32", "--workers", "0"]
TUNING = ["--axes", "mask.ratio=0.5,0.75", "--model", smoke.MODEL, "--image-size", "32", "--patch-size", "8"]
SOUND = ["--modality", "audio(rate=8000, seconds=0.5)", "--model", smoke.MODEL, "--decoder", smoke.DECODER]
SEVERAL = ["--modality", "multimodal(photo=image, grey=image, size=32, patch=8)", "--model", smoke.MODEL]
DISTIL = ["--into", smoke.MODEL, "--epochs", "2", "--batch", "8", *FAST]
DETECT = ["--input-size", "64", "--width", "16", "--rois", "16", "--jitter", "1", "1"]
COMMANDS = {  # name -> arguments; {out} is the folder of the cycle, and what else there is lies beside it
    "pretrain": ["pretrain", "data", "--out", "{out}/run", *MODEL, *STEPS, *FAST],
    "pretrain with a probe": ["pretrain", "data", "--out", "{out}/run", *MODEL, *STEPS, *FAST, "--probe", "data"],
    "pretrain on recordings": ["pretrain", "tones", "--out", "{out}/run", *SOUND, *STEPS, *FAST],
    "pretrain on pairs": ["pretrain", "pairs", "--out", "{out}/run", *SEVERAL, *STEPS, *FAST],
    "distil": ["distil", "run", "--on", "data", "--out", "{out}/student", *DISTIL],
    "transfer": ["transfer", "run", "--on", "data", "--out", "{out}/model", *TRAIN],
    "transfer, linear": ["transfer", "run", "--on", "data", "--protocol", "linear", "--out", "{out}/model", *TRAIN],
    "segment": ["transfer", "run", "--to", "segment", "--on", "maps", "--out", "{out}/model", *TRAIN],
    "detect": ["transfer", "run", "--to", "detect", "--on", "boxes", "--out", "{out}/model", *DETECT, *TRAIN],
    "pack": ["pack", "data", "{out}/data.pack", "--size", "24", "--threads", "1"],
    "embed": ["embed", "run", "data", "--out", "{out}/features.npz", "--batch", "4"],
    "evaluate": ["evaluate", "run", "--on", "data", "--out", "{out}/judged", "--draws", "2"],
    "labels": ["labels", "run", "--on", "data", "--out", "{out}/labels", "--draws", "1", "--jobs", "1", *LABELS],
    "predict": ["predict", "model", "data", "--out", "{out}/predictions.csv"],
    "stress": ["stress", "model", "--on", "data", "--out", "{out}/stress", "--corruptions", "contrast"],
    "search": ["search", "run", "data", "--query", "data/test", "--duplicates", "--out", "{out}/found"],
    "map": ["map", "run", "data", "--out", "{out}/map.html", "--index", "{out}/index", "--method", "pca"],
    "select": ["select", "run", "data/train", "--on", "data/test", "--out", "{out}/selected", "--index", "{out}/index"],
    "show": ["show", "run", "data/test", "--out", "{out}/panel.png"],
    "export": ["export", "run", "--to", "timm", "--out", "{out}/exported"],
    "anomaly": ["anomaly", "fit", "run", "data", "--out", "{out}/finder", "--memory", "20", "--sets", "1", *RATE],
    "anomaly, apply": ["anomaly", "apply", "finder", "data/test", "--out", "{out}/judged", "--save-maps", "npy"],
    "ablate": ["ablate", "data", "--out", "{out}/study", "--axes", "tokens", "--finetune-epochs", "1", *STUDY, *MODEL],
    "compare": ["compare", "data", "--out", "{out}/comparison", *COMPARISON],
    "tune": ["tune", "data", "--out", "{out}/tuning", *TUNING, *STUDY],
    "audit": ["audit", "model", "--on", "data", "--groups", "groups.csv", "--out", "{out}/audit"],
    "demo": ["demo", "--out", "{out}/demo"],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("storm"), help="data, references and results")
    parser.add_argument("--kills", type=int, default=300, help="to stop after, in all")
    parser.add_argument("--commands", nargs="*", default=list(COMMANDS), help="names of those to kill")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    seconds = prepare(out, options.commands)
    records = out / "cycles.jsonl"
    cycles = [json.loads(line) for line in records.read_text().splitlines()] if records.exists() else []
    while sum(len(cycle["kills"]) for cycle in cycles) < options.kills:
        name = options.commands[len(cycles) % len(options.commands)]
        cycle = {"command": name, **storm(name, out, seconds[name], random.Random(f"{options.seed} {len(cycles)}"))}
        cycles.append(cycle)
        with open(records, "a") as file:
            file.write(json.dumps(cycle) + "\n")
        print(f"{name}: {len(cycle['kills'])} kills, {cycle['faults'] or 'equal'}", flush=True)
    print(table(cycles))
    (out / "kill_storm.json").write_text(json.dumps({"seconds": seconds, "cycles": cycles}))
    if any(cycle["faults"] for cycle in cycles):
        raise SystemExit(1)


def prepare(out: Path, names: Iterable[str]) -> dict[str, float]:
    """Data, a run, a classifier and a finder of anomalies; every command once without a kill. Returns by name the
    seconds of a core that it takes."""
    timings = out / "seconds.json"
    seconds = json.loads(timings.read_text()) if timings.exists() else {}
    if not (out / "finder" / "finder.safetensors").exists():
        smoke.labelled(out / "data")
        semantic(out / "maps")
        boxes(out / "boxes")
        tones(out / "tones")
        for kind, mode in (("photo", "RGB"), ("grey", "L")):
            smoke.images(out / "pairs" / kind, 16, side=40, mode=mode)
        groups(out / "data", out / "groups.csv")
        pretrain = ["pretrain", "data", "--out", "run", *MODEL, *STEPS, *FAST]
        for arguments in (pretrain, COMMANDS["transfer"], COMMANDS["anomaly"]):
            finish([argument.replace("{out}/", "") for argument in arguments], out)
    for name in names:
        if name not in seconds:
            folder = fresh(out / "cycle" / name)
            seconds[name] = finish(arguments_of(name, folder), out)
            shutil.rmtree(out / "references" / name, ignore_errors=True)
            shutil.move(folder, out / "references" / name)
            timings.write_text(json.dumps(seconds))
    return seconds


def finish(arguments: list[str], out: Path) -> float:
    """Runs a command that must succeed; the seconds of a core that it takes."""
    process = forked_command.begin(arguments, out / "said.txt", out, short_demo)
    seconds, code = forked_command.work(process), forked_command.finish(process, 10)
    assert code == 0, f"{arguments}: exit code {code}\n{(out / 'said.txt').read_text()}"
    return seconds


def short_demo() -> None:
    """`demo` trains for 100 seconds: a number of steps that the clock decides. Here it has few steps and images."""
    recipe = {"model": smoke.MODEL, "decoder": smoke.DECODER, "batch": 8, "steps": 12, "save_every": 3, "workers": 0}
    recipe |= {"precision": "32", "matmul": "default", "attention": "matmul", "threads": 1}
    vars(importlib.import_module("unmask.cli.commands.demo")).update(RECIPE=recipe)
    vars(importlib.import_module("unmask.data.sources.demo")).update(COUNTS={"train": 4, "test": 4})


def storm(name: str, out: Path, seconds: float, chance: random.Random) -> dict[str, Any]:
    """A cycle: its kills (signal, and moment as a share of the work), and faults found."""
    folder, kills, said = fresh(out / "cycle" / name), [], out / "said.txt"
    arguments = arguments_of(name, folder)
    for _ in range(chance.randint(4, 9)):
        number, moment = chance.choice((signal.SIGKILL, signal.SIGTERM)), chance.uniform(0, 1)
        process = forked_command.begin(arguments, said, out, short_demo)
        forked_command.work(process, moment * seconds)
        assert process.pid is not None
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(process.pid, number)
        code = forked_command.finish(process, 60)
        if code == 0:
            break
        kills.append([number.name, round(moment, 3)])
        if "Traceback" in said.read_text() or code not in (-signal.SIGKILL, *HEARD):
            return {"kills": kills, "faults": [f"exit code {code} on {number.name}: {said.read_text()[-600:]}"]}
    code, _ = forked_command.run(arguments, said, out, setup=short_demo)
    if code != 0:
        return {"kills": kills, "faults": [f"exit code {code}: {said.read_text()[-600:]}"]}
    return {"kills": kills, "faults": differences(out / "references" / name, folder)}


def arguments_of(name: str, folder: Path) -> list[str]:
    return [argument.replace("{out}", str(folder)) for argument in COMMANDS[name]]


def semantic(root: Path) -> None:
    """Images with a class for every pixel."""
    for number in range(8):
        path = root / "images" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (root / "masks").mkdir(exist_ok=True)
        image = smoke.image(number, 48)
        image.save(path)
        image.convert("L").point(lambda value: int(value > 127)).save(root / "masks" / path.name)


def boxes(root: Path) -> None:
    """Images with a box on each, annotated as COCO does."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    smoke.images(root / "images", 6, side=48)
    images = [{"id": n, "file_name": f"{n:03d}.jpg", "height": 48, "width": 48} for n in range(6)]
    box = {"category_id": 1, "bbox": [8, 8, 24, 16], "area": 384, "iscrowd": 0}
    annotations = [box | {"id": n + 1, "image_id": n} for n in range(6)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]}
    for split in ("train", "val", "test"):
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))


def tones(root: Path) -> None:
    """Recordings of half a second."""
    root.mkdir(exist_ok=True)
    for number in range(16):
        wave = np.sin(np.arange(4000) * (0.05 + 0.02 * number))
        soundfile.write(root / f"{number:03d}.wav", wave, 8000)


def groups(data: Path, table: Path) -> None:
    """Two groups of a data set's images, in turns."""
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.jpg"))
    table.write_text("path,side\n" + "".join(f"{name},{'left right'.split()[n % 2]}\n" for n, name in enumerate(names)))


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def differences(reference: Path, folder: Path) -> list[str]:
    """Names of the files that differ or are in one of the folders only."""
    names = {p.relative_to(top) for top in (reference, folder) for p in top.rglob("*") if p.is_file()}
    names = {name for name in names if not name.name.startswith(".unmask")}
    what = []
    for name in sorted(names):
        ours, theirs = reference / name, folder / name
        if not (ours.exists() and theirs.exists()):
            what.append(f"{name} {'is missing' if ours.exists() else 'is left over'}")
        elif ours.read_bytes() != theirs.read_bytes() and not same(content(ours), content(theirs)):
            what.append(f"{name} differs")
    return what


def content(path: Path) -> Any:
    """What is compared of a file."""
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [timeless(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".ckpt":
        return timeless(torch.load(path, map_location="cpu", weights_only=True))
    if path.suffix in (".html", ".md"):
        text = MEASURED.sub("#", WAITING.sub("", path.read_text()))
        return SECONDS[path.name].sub(r"\1#", text) if path.name in SECONDS else text
    return path.read_bytes()


def timeless(value: Any) -> Any:
    """Without the fields of the clock."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCK}
    if isinstance(value, list | tuple):
        return [timeless(inner) for inner in value]
    return MEASURED.sub("#", value) if isinstance(value, str) else value


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or (ours != ours and theirs != theirs)


def table(cycles: list[dict[str, Any]]) -> str:
    lines = [f"{'command':24}{'cycles':>8}{'SIGKILL':>9}{'SIGTERM':>9}{'equal':>8}"]
    for name in [*dict.fromkeys(cycle["command"] for cycle in cycles), ""]:
        own = [cycle for cycle in cycles if name in ("", cycle["command"])]
        signals = [kill[0] for cycle in own for kill in cycle["kills"]]
        counts = f"{signals.count('SIGKILL'):>9}{signals.count('SIGTERM'):>9}"
        lines.append(f"{name or 'in all':24}{len(own):>8}{counts}{sum(not cycle['faults'] for cycle in own):>8}")
    return "\n".join(lines)


def smoke_commands(folder: Path, out: Path) -> Iterable[list[str]]:
    yield ["--kills", "3", "--commands", "pack", "embed", "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
