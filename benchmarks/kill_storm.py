"""Kills every command that trains or writes, at random moments, again and again, and gives the same command until it is
done. What then lies there must equal what a run that nobody killed leaves, but for the clock (docs/safety.md).

    python benchmarks/kill_storm.py --kills 300 --out storm      # goes on where it was; writes storm/kill_storm.json

A cycle begins in an empty folder, with up to eight kills (SIGKILL) at moments spread over the command's time, then one
run to the end. Its files are compared one by one: JSON without the fields of the clock, checkpoints tensor by tensor,
pages without times and speeds, all others by their bytes.
"""

import argparse
import json
import random
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import forked_command
import smoke
import torch

CLOCK = {  # fields of JSON and of checkpoints that tell the time, the speed or the memory; docs/safety.md lists them
    *("seconds", "images_per_second", "memory_mb", "waiting", "waited", "expected", "memory", "cost", "costs"),
    *("latency", "points", "since", "process", "window"),
}
FAST = ["--precision", "32", "--matmul", "default", "--attention", "matmul", "--threads", "1", "--workers", "0"]
MODEL = ["--model", smoke.MODEL, "--image-size", "32", "--patch-size", "8", "--decoder", smoke.DECODER]
STEPS = ["--steps", "12", "--batch", "8", "--save-every", "3", "--keep-every", "6", "--log-every", "2"]
TRAIN = ["--epochs", "2", "--batch", "8", "--log-every", "1", *FAST]
RATE = ["--false-alarms", "0.2"]
LABELS = ["--labels-per-class", "2", "4", "--protocols", "knn", "full", "--epochs", "2", "--precision", "32"]
COMMANDS = {  # name -> arguments; {out} is the folder of the cycle, and what else there is lies beside it
    "pretrain": ["pretrain", "data", "--out", "{out}/run", *MODEL, *STEPS, *FAST],
    "pretrain with a probe": ["pretrain", "data", "--out", "{out}/run", *MODEL, *STEPS, *FAST, "--probe", "data"],
    "transfer": ["transfer", "run", "--on", "data", "--out", "{out}/model", *TRAIN],
    "transfer, linear": ["transfer", "run", "--on", "data", "--protocol", "linear", "--out", "{out}/model", *TRAIN],
    "segment": ["transfer", "run", "--to", "segment", "--on", "maps", "--out", "{out}/model", *TRAIN],
    "pack": ["pack", "data", "{out}/data.pack", "--size", "24", "--threads", "1"],
    "embed": ["embed", "run", "data", "--out", "{out}/features.npz", "--batch", "4"],
    "evaluate": ["evaluate", "run", "--on", "data", "--out", "{out}/judged", "--draws", "2"],
    "labels": ["labels", "run", "--on", "data", "--out", "{out}/labels", "--draws", "1", "--jobs", "1", *LABELS],
    "predict": ["predict", "model", "data", "--out", "{out}/predictions.csv"],
    "stress": ["stress", "model", "--on", "data", "--out", "{out}/stress", "--corruptions", "contrast", "pixelate"],
    "search": ["search", "run", "data", "--query", "data/test", "--duplicates", "--out", "{out}/found"],
    "map": ["map", "run", "data", "--out", "{out}/map.html", "--index", "{out}/index", "--method", "pca"],
    "show": ["show", "run", "data/test", "--out", "{out}/panel.png"],
    "export": ["export", "run", "--to", "timm", "--out", "{out}/exported"],
    "anomaly": ["anomaly", "fit", "run", "data", "--out", "{out}/finder", "--memory", "20", "--sets", "2", *RATE],
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
    while sum(cycle["kills"] for cycle in cycles) < options.kills:
        name = options.commands[len(cycles) % len(options.commands)]
        cycle = {"command": name, **storm(name, out, seconds[name], random.Random(f"{options.seed} {len(cycles)}"))}
        cycles.append(cycle)
        with open(records, "a") as file:
            file.write(json.dumps(cycle) + "\n")
        print(f"{name}: {cycle['kills']} kills, {cycle['what'] or 'equal'}", flush=True)
    print(table(cycles))
    (out / "kill_storm.json").write_text(json.dumps({"kills": sum(c["kills"] for c in cycles), "cycles": cycles}))
    if any(cycle["what"] for cycle in cycles):
        raise SystemExit(1)


def prepare(out: Path, names: Iterable[str]) -> dict[str, float]:
    """Data, a run and a classifier; every command once without a kill. Returns its seconds by name."""
    facts = out / "seconds.json"
    seconds = json.loads(facts.read_text()) if facts.exists() else {}
    if not (out / "model" / "report.html").exists():
        smoke.labelled(out / "data")
        semantic(out / "maps")
        for arguments in (["pretrain", "data", "--out", "run", *MODEL, *STEPS, *FAST], COMMANDS["transfer"]):
            place = [argument.replace("{out}/", "") for argument in arguments]
            code, _ = forked_command.run(place, out / "said.txt", out)
            assert code == 0, (out / "said.txt").read_text()
    for name in names:
        if name not in seconds:
            folder = fresh(out / "cycle" / name)
            code, seconds[name] = forked_command.run(arguments_of(name, folder), out / "said.txt", out)
            assert code == 0, f"{name}: exit code {code}\n{(out / 'said.txt').read_text()}"
            shutil.rmtree(out / "references" / name, ignore_errors=True)
            shutil.move(folder, out / "references" / name)
            facts.write_text(json.dumps(seconds))
    return seconds


def storm(name: str, out: Path, seconds: float, chance: random.Random) -> dict[str, Any]:
    """A cycle: kills, how often the command was given, and what is not as it should be, if anything."""
    folder, kills, said = fresh(out / "cycle" / name), 0, out / "said.txt"
    arguments = arguments_of(name, folder)
    for _ in range(chance.randint(2, 8)):
        process = forked_command.begin(arguments, said, out)
        process.join(chance.uniform(0, 0.9 * seconds))
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    code, _ = forked_command.run(arguments, said, out)
    if code != 0:
        return {"kills": kills, "what": f"exit code {code}: {said.read_text()[-600:]}"}
    what = differences(out / "references" / name, folder)
    return {"kills": kills, "what": "; ".join(what)}


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
        text = re.sub(r'src="data:image[^"]*"', "", path.read_text())
        return re.sub(r"[\d.,:]+( ?(MB|GB|ms|s|%|images/s))?\b", "#", text)
    return path.read_bytes()


def timeless(value: Any) -> Any:
    """Without the fields of the clock."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in CLOCK}
    if isinstance(value, list | tuple):
        return [timeless(inner) for inner in value]
    return value


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and ours.keys() == theirs.keys() and all(same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return ours == theirs or (ours != ours and theirs != theirs)


def table(cycles: list[dict[str, Any]]) -> str:
    lines = [f"{'command':24}{'cycles':>8}{'kills':>8}{'equal':>8}"]
    for name in dict.fromkeys(cycle["command"] for cycle in cycles):
        own = [cycle for cycle in cycles if cycle["command"] == name]
        kills, equal = sum(cycle["kills"] for cycle in own), sum(not cycle["what"] for cycle in own)
        lines.append(f"{name:24}{len(own):>8}{kills:>8}{equal:>8}")
    total, equal = sum(cycle["kills"] for cycle in cycles), sum(not cycle["what"] for cycle in cycles)
    return "\n".join([*lines, f"{'in all':24}{len(cycles):>8}{total:>8}{equal:>8}"])


def smoke_commands(folder: Path, out: Path) -> Iterable[list[str]]:
    yield ["--kills", "3", "--commands", "pack", "embed", "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
