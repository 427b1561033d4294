"""Gives every option of every command what it cannot mean, every place files that are none, and every setting of a file
a value of another type: each must be refused in a message, or, where an option may mean it, taken; none may end in a
traceback, in a signal, in silence, or never; nothing may be taken for images or weights that is none, and no code run.

    python benchmarks/bad_inputs.py --count 1500 --out bad      # goes on where it was; writes bad/bad_inputs.json

The inputs are made from the options themselves: those of cli/options and of each task, so new ones are tried too.
bad_files.py makes the files.
"""

import argparse
import dataclasses
import json
import random
import resource
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import forked_command
import smoke
from bad_files import RAN, make_files
from kill_storm import FAST, MODEL, RATE, prepare

from unmask.cli.help import is_positional
from unmask.cli.task_options import task_options
from unmask.cli.verb import commands
from unmask.tasks.folders import task_folders

SECONDS, LONGEST = 60.0, 300.0  # of a core, and on the clock, after which a command counts as hanging
MEMORY = 12 << 30  # bytes of addresses that it may use
FAULTS = ("traceback", "hang", "signal", "silent", "accepted", "ran")
NUMBERS = ("-1", "0", "1.5", "nan", "inf", "1e400", "1000000000", str(10**30), "abc", "", "1,2", "0x10", "None", "[]")
WORDS = (
    "",
    "nosuch",
    "none",
    "x(",
    "random(ratio=2)",
    "full(dim=0)",
    "full(depth=100000)",
    "a(b=1)",
    "a\x00b",
    "\udce9",
    "\x1b[31mred",
    "ä[b]",
    "0",
    "..",
)
MODELS = (
    *("vit_tiny_patch16_224(depth=0)", "vit_tiny_patch16_224(embed_dim=0)", "vit_tiny_patch16_224(depth=100000)"),
    *("vit_tiny_patch16_224(num_heads=0)", "vit_tiny_patch16_224(embed_dim='a')", "vit_tiny_patch16_224(depth=-1)"),
    *("vit_tiny_patch16_224(embed_dim=50, num_heads=3)", "vit_tiny_patch16_224(embed_dim=10000000)", "resnet50"),
    *("vit_tiny_patch16_224(mlp_ratio=0)", "vit_tiny_patch16_224(nosuch=1)", "vit_tiny_patch16_224(depth=1e9)"),
)
STUDENTS = (
    *("resnet", "resnet18(", "resnet18.a1_in1k", "nosuch:resnet18", "torchvision:nosuch", "torchvision:vit_b_16"),
    *("resnet18(num_classes=3)", "resnet18(nosuch=1)", "maps", "./nosuch.py:Net", "nosuch.nets.Net", "os:getcwd"),
    *("torchvision:googlenet", "test_resnet(in_chans=7)", "vit_tiny_patch16_224(depth=0)", "timm:"),
)
BASES = {  # a command that works, in the folder that `prepare` makes, to which a bad option is added
    "ablate": ["ablate", "data", "--dry-run", "--steps", "2"],
    "anomaly": ["anomaly", "fit", "run", "data", "--out", "{out}/f", "--memory", "10", "--sets", "1", *RATE],
    "audit": ["audit", "run", "--on", "data", "--out", "{out}/a", "--index", "{out}/i", "--groups", "groups.csv"],
    "tune": ["tune", "data", "--dry-run", "--steps", "4", "--axes", "ratio"],
    "compare": ["compare", "data", "--dry-run", "--images", "8", "--methods", "simmim", "--batch", "4"],
    "distil": ["distil", "run", "--into", "test_resnet", "--on", "data", "--out", "{out}/d", "--steps", "2", *FAST],
    "doctor": ["doctor", "run"],
    "embed": ["embed", "run", "data", "--out", "{out}/f.npz"],
    "evaluate": ["evaluate", "run", "--on", "data", "--out", "{out}/e", "--draws", "1"],
    "export": ["export", "run", "--to", "timm", "--out", "{out}/x"],
    "labels": ["labels", "run", "--on", "data", "--out", "{out}/l", "--draws", "1", "--protocols", "knn"],
    "map": ["map", "run", "data", "--out", "{out}/m.html", "--index", "{out}/i", "--method", "pca"],
    "pack": ["pack", "data", "{out}/p"],
    "predict": ["predict", "model", "data", "--out", "{out}/p.csv"],
    "pretrain": ["pretrain", "data", "--out", "{out}/r", *MODEL, "--steps", "2", "--batch", "8", *FAST],
    "search": ["search", "run", "data", "--out", "{out}/s", "--index", "{out}/i"],
    "select": ["select", "run", "data/train", "--on", "data/test", "--out", "{out}/s", "--index", "{out}/i"],
    "show": ["show", "run", "data/test", "--out", "{out}/p.png", "--most", "1"],
    "stress": ["stress", "model", "--on", "data", "--out", "{out}/s", "--corruptions", "contrast"],
    "transfer": ["transfer", "run", "--on", "data", "--out", "{out}/t", "--epochs", "1", "--batch", "8", *FAST],
    "demo": ["demo"],
}
BASES["anomaly apply"] = ["anomaly", "apply", "finder", "data/test", "--out", "{out}/a"]
NO_OUT = ("doctor", "completion", "ablate", "compare", "tune")  # they write nothing, a dry run neither
ONLY_REFUSED = ("demo",)  # it takes minutes: only what is refused at once is tried


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bad"), help="data and results")
    parser.add_argument("--count", type=int, default=1500, help="of inputs, drawn from all, evenly over the commands")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    prepare(out, [])
    make_files(out / "bad")
    paths = sorted(path.relative_to(out / "data").as_posix() for path in (out / "data").rglob("*.jpg"))
    rows = [f"{path},{'north' if number % 2 else 'south'}" for number, path in enumerate(paths)]
    (out / "groups.csv").write_text("\n".join(["path,site", *rows]))
    records = out / "inputs.jsonl"
    known = [json.loads(line) for line in records.read_text().splitlines()] if records.exists() else []
    done = {json.dumps(record["arguments"]) for record in known}
    for number, (arguments, is_wrong) in enumerate(drawn(out / "bad", options.count, options.seed)):
        if json.dumps(arguments) in done:
            continue
        record = {"arguments": arguments, **tried(arguments, is_wrong, out, number)}
        known.append(record)
        with open(records, "a") as file:
            file.write(json.dumps(record) + "\n")
        if record["what"] in FAULTS:
            print(record["what"], *map(ascii, arguments), record["said"][-300:], flush=True)
    print(table(known))
    (out / "bad_inputs.json").write_text(json.dumps(known, indent=1))
    if any(record["what"] in FAULTS for record in known):
        raise SystemExit(1)


def tried(arguments: list[str], is_wrong: bool, out: Path, number: int) -> dict[str, Any]:
    """How the command ended: taken, refused, or a fault of ours. is_wrong: nobody can take it."""
    said, folder = out / "said.txt", out / "tried" / f"{number:05d}"
    filled = [argument.replace("{out}", str(folder)) for argument in arguments]
    process = forked_command.begin(filled, said, out, limited)
    seconds = forked_command.work(process, SECONDS, LONGEST)
    code = forked_command.finish(process, 0.5)
    text = said.read_text(errors="replace")
    if RAN.exists():
        RAN.unlink()
        what = "ran"
    elif code is None:
        what = "hang"
    elif "Traceback" in text:
        what = "traceback"
    elif code < 0:
        what = "signal"
    elif code and not text.strip():
        what = "silent"
    elif code:
        what = "refused"
    else:
        what = "accepted" if is_wrong else "taken"
    return {"what": what, "code": code, "seconds": round(seconds, 1), "said": text[-400:]}


def limited() -> None:
    """What takes all memory is to fail alone."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def drawn(bad: Path, count: int, seed: int) -> list[tuple[list[str], bool]]:
    """So many of all inputs, as many of each command as there are, options and places in turns."""
    chance, piles = random.Random(seed), []
    for name, options in commands().items():
        for base in [base for base in BASES if base.split()[0] == name] or [name]:
            for pile in (list(bad_options(name, base, options, bad)), list(bad_places(name, base, bad))):
                chance.shuffle(pile)
                piles.append(pile)
    chosen = []
    while len(chosen) < count and any(piles):
        for pile in filter(None, piles):
            chosen.append(pile.pop())
    return chosen[:count]


def bad_options(name: str, base: str, options: Any, bad: Path) -> Iterator[tuple[list[str], bool]]:
    """Bad values of every option, on the command line and of other types in a file."""
    start, tasks = BASES.get(base, [name]), task_folders() if getattr(options, "BY_TASK", False) else ()
    kinds = [(options, []), *((task_options(task), ["--to", task]) for task in tasks)]
    for kind, chosen in kinds:
        hints = get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            if field.name == "_" or is_positional(hints[field.name]):
                continue  # other places are given below
            flag = f"--{field.name.replace('_', '-')}"
            for value in values(field.name, hints[field.name], bad):
                if not (name in ONLY_REFUSED and value in ("", "none", "auto")):
                    yield [*start, *chosen, flag, *value.split("|")], False
            yield [*start, *chosen, flag], False
            for number, value in enumerate(({"a": 1}, [[1], {"b": None}])):
                path = bad.with_name("settings") / f"{name}_{field.name}_{number}.json"
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps({field.name: value}))
                yield [*start, *chosen, "--config", str(path)], True


def bad_places(name: str, base: str, bad: Path) -> Iterator[tuple[list[str], bool]]:
    """Bad files and folders in place of those of the base."""
    start = BASES.get(base, [name])
    for number, argument in enumerate(start):
        if argument in ("run", "model", "finder", "data", "data/test"):
            for path in [*sorted(bad.iterdir()), bad / "nosuch", Path("/dev/null"), Path("/dev/zero"), Path("x" * 300)]:
                yield [*start[:number], str(path), *start[number + 1 :]], not path.name.startswith("fair")
    yield from (
        *([] if name in ONLY_REFUSED else [([name], False)]),
        ([name, "--nosuch"], True),
        ([name, *["x"] * 5], True),
        ([*start, "--out", "/proc/x"], name not in NO_OUT),
        ([*start, "--out", "/dev/null"], name not in NO_OUT),
    )


def values(name: str, hint: Any, bad: Path) -> Iterable[str]:
    """What an option of this type does not mean, or hardly."""
    inner = _types_in(hint)
    if name in ("model", "into"):
        yield from MODELS if name == "model" else STUDENTS
    if bool in inner:
        yield "maybe"
    elif int in inner or float in inner:
        yield from NUMBERS
        yield "1|2|3"
    elif name == "out":
        yield from ("/proc/nosuch/x", "/dev/null", "", str(bad / "noise.bin" / "x"), "data", "x" * 300)
    elif name == "config":
        yield from [str(path) for path in sorted(bad.iterdir()) if path.suffix in (".json", ".yaml")]
    elif Path in inner or name in ("init", "on", "against"):
        yield from [*map(str, sorted(bad.iterdir())), "", "nosuch", "data"]
    else:
        yield from WORDS


def _types_in(hint: Any) -> set[Any]:
    """The types that an annotation names, at any depth."""
    return {hint} if not get_args(hint) else {part for arg in get_args(hint) for part in _types_in(arg)}


def table(records: list[dict[str, Any]]) -> str:
    """How many inputs of each command ended how."""
    kinds = ("refused", "taken", *FAULTS)
    lines = [f"{'command':12}{'inputs':>8}" + "".join(f"{kind:>11}" for kind in kinds)]
    for name in [*dict.fromkeys(record["arguments"][0] for record in records), ""]:
        own = [record for record in records if not name or record["arguments"][0] == name]
        counts = Counter(record["what"] for record in own)
        lines.append(f"{name or 'in all':12}{len(own):>8}" + "".join(f"{counts[kind]:>11}" for kind in kinds))
    return "\n".join(lines)


def smoke_commands(folder: Path, out: Path) -> Iterable[list[str]]:
    yield ["--count", "8", "--out", str(out)]


if __name__ == "__main__":
    smoke.start(main, smoke_commands)
