"""Probe accuracy by decoder, at equal steps and at equal time: the work of `python benchmarks/decoders.py quality`.

The same encoder, data, batch and masks' ratio for all. Equal time is the time of the full decoder's steps: step times,
loading included, are measured in turns before the first run, and the steps of the others are scaled by their ratio.
Judged as `unmask evaluate` does: a linear classifier on frozen features, pooling and penalty chosen on a val split.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from records import machine

STEPS = 4  # of a turn of measuring step times
ALIKE = 0.9  # of the full decoder's step time; above, equal time is equal steps
BASE, UNTRAINED = "full", "untrained"


def decoders(size: str, only: list[str] | None = None) -> dict[str, str]:
    """Texts by name. only: words of which a name has one, beside the full decoder."""
    found = {
        BASE: f"full({size})",
        "partial 1/2": f"partial(keep=0.5, {size})",
        "cross 1/3": f"cross({size})",
        "windowed 4": f"windowed(window=4, {size})",
        "slim": "full(dim=128, depth=2, heads=4)",
    }
    return {n: text for n, text in found.items() if n == BASE or only is None or any(word in n for word in only)}


def quality(options: argparse.Namespace) -> None:
    """Runs what is missing, and writes the results after every run."""
    from unmask.studies.ablation.findings import records_in
    from unmask.studies.ablation.one_run import run_cell

    out = options.out or Path("runs") / f"decoders-{options.name}"
    out.mkdir(parents=True, exist_ok=True)
    bench, study = prepare(options, out)
    runs, records = cells_of(study), records_in(out)
    todo = [(key, seed) for seed in range(options.seeds) for key in runs if (key, seed) not in records.lines]
    total = len(runs) * options.seeds
    for number, (key, seed) in enumerate(todo, total - len(todo) + 1):
        start = time.monotonic()
        name = f"{key.replace(' ', '_').replace('/', '-')}-{seed}"
        cell = run_cell(bench, key, runs[key], seed, out / "runs" / name, lambda what, share: None)
        records.add({"key": key, "seed": seed} | cell)
        said = f"linear {cell['linear']:.1%} after {cell['steps']} steps"
        print(f"[{number}/{total}] {key}, seed {seed}: {said}, {time.monotonic() - start:.0f} s", flush=True)
        publish(options, study, records.lines)
    publish(options, study, records.lines)
    print(markdown(options.results / f"decoders_quality_{options.name}.json"))


def prepare(options: argparse.Namespace, out: Path) -> tuple[Any, dict[str, Any]]:
    """The bench that all runs share, and what was planned and measured when the folder was begun."""
    from unmask.cli.commands.ablate import plan_tuning
    from unmask.cli.commands.pretrain import asked_for, inspect_options
    from unmask.cli.options.pretrain import Pretrain
    from unmask.data.datasets.classification import Labelled
    from unmask.files import write_json
    from unmask.planning.initial_weights import Start
    from unmask.planning.pretrain import Given, make_plan
    from unmask.runs.config import Config
    from unmask.runtime.distributed.data_parallel import make_devices
    from unmask.runtime.machine import choices, tune
    from unmask.runtime.machine import machine as look_at_machine
    from unmask.runtime.progress import make_console
    from unmask.studies.ablation.one_run import Bench

    asked = {"steps": options.steps, "labels": options.labels, "test": options.test, "size": options.size}
    asked |= {name: value for name in ("only", "model") if (value := getattr(options, name)) is not None}
    path, console = out / "study.json", make_console()
    study = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    if study is not None and study["asked"] != asked:
        sys.exit(f"{out} was begun with {study['asked']}; give the same, or another folder with --out")
    here = look_at_machine("cpu", "auto")
    full, own = decoders(options.size)[BASE], {"model": options.model} if options.model else {}
    basis = Pretrain(options.data, steps=options.steps, decoder=full, device="cpu", **own)
    saved = study and Config.from_plain(study["config"], str(path))
    sheet, samples = inspect_options(basis, saved, console)
    if saved is None:
        tune("cpu")
        asked_of_run = asked_for(basis)
        given = Given(asked_of_run, asked_of_run, {}, sheet, samples, here, choices("cpu"))
        config, _ = make_plan(given, Start(), time.monotonic(), console)
    else:
        config = saved
    tune("cpu", config.runtime)
    samples.channels = config.data.channels
    side = 4 * max(config.data.image_size)
    labelled = Labelled(options.data, max_side=side, most=options.labels, most_test=options.test)
    tuning = plan_tuning(config, labelled, here)
    bench = Bench(config, options.steps, tuning, samples, labelled, make_devices(config.runtime), finetunes=False)
    if study is None:
        study = {
            "asked": asked,
            "config": asdict(config),
            "seconds": step_times(bench, decoders(options.size, options.only), options.turns),
        }
        study["command"] = command(options)
        study |= {"machine": machine(), "judged_on": labelled.said}
        write_json(path, study)
    return bench, study


def command(options: argparse.Namespace) -> str:
    """How to run this again, with names of data and not their places."""
    words = ["python", "benchmarks/decoders.py", "quality", *(Path(place).name for place in options.data)]
    for name in ("name", "steps", "seeds", "labels", "test", "size"):
        words += [f"--{name}", str(getattr(options, name))]
    for name in ("only", "model"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", *(value if isinstance(value, list) else [value])]
    return shlex.join(words)


def step_times(bench: Any, texts: dict[str, str], turns: int) -> dict[str, float]:
    """Median seconds of a step by decoder, loading included, relative to the full decoder's within each turn."""
    from unmask.planning.build import build
    from unmask.planning.initial_weights import Start
    from unmask.planning.loaders import make_loader
    from unmask.studies.ablation.axes import changed
    from unmask.training.loop import backward
    from unmask.training.optimizer import make_optimizer
    from unmask.training.settings import Fit
    from unmask.training.speed.compile import ready

    made = {}
    for name, text in texts.items():
        config = changed(bench.config, {"decoder": text}, 0)
        objective = ready(build(config, Start()), replace(config.runtime, compile="off"))
        model, optimizer = bench.devices.setup(objective), make_optimizer(objective, weight_decay=0.05)
        made[name] = model, objective, optimizer, make_loader(config, bench.samples)(0)
    batch = bench.config.training.batch
    fitting, taken = Fit(steps=1, batch=batch, lr=1e-4), {name: [] for name in made}
    for turn in range(turns):
        for name in list(made) if turn % 2 else list(reversed(made)):
            model, objective, optimizer, stream = made[name]
            start = time.perf_counter()
            for _ in range(STEPS):
                backward(model, objective, optimizer, stream, fitting, bench.devices)
                optimizer.step()
                optimizer.zero_grad()
            if turn:
                taken[name].append((time.perf_counter() - start) / STEPS)
    full = statistics.median(taken[BASE])
    ratios = {name: statistics.median(a / b for a, b in zip(own, taken[BASE])) for name, own in taken.items()}
    print({name: f"{ratio:.2f}" for name, ratio in ratios.items()}, f"of {1e3 * full:.0f} ms", flush=True)
    return {name: full * ratio for name, ratio in ratios.items()}


def cells_of(study: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every run: what it changes, by key. Equal steps first, then equal time, where that is another number."""
    seconds, texts = study["seconds"], decoders(study["asked"]["size"], study["asked"].get("only"))
    found: dict[str, dict[str, Any]] = {UNTRAINED: {"length": 0}}
    found |= {f"{name}, equal steps": {"decoder": text} for name, text in texts.items()}
    for name, text in texts.items():
        if seconds[name] < ALIKE * seconds[BASE]:
            found[f"{name}, equal time"] = {"decoder": text, "length": seconds[BASE] / seconds[name]}
    return found


def publish(options: argparse.Namespace, study: dict[str, Any], cells: dict[Any, Any]) -> None:
    """JSON and image of what is finished."""
    from unmask.runs.config import Config

    settings = Config.from_plain(study["config"], "study.json").options()
    keep = ("model", "image_size", "patch_size", "mask", "batch", "lr", "precision", "crop")
    record = {key: study[key] for key in ("asked", "seconds", "command", "machine", "judged_on")}
    record |= {"name": options.name, "settings": {key: settings[key] for key in keep}, "rows": table(study, cells)}
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / f"decoders_quality_{options.name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (path.with_suffix(".txt")).write_text(markdown(path) + "\n", encoding="utf-8")
    draw(record, path.with_suffix(".png"))


def table(study: dict[str, Any], cells: dict[Any, Any]) -> list[dict[str, Any]]:
    """Accuracy of each run over its seeds, and how far it is from the full decoder of the same seed."""

    from unmask.studies.ablation.findings import interval

    rows, base = [], {seed: cell for (key, seed), cell in cells.items() if key == f"{BASE}, equal steps"}
    for key in cells_of(study):
        own = {seed: cell for (other, seed), cell in sorted(cells.items()) if other == key}
        if not own:
            continue
        first = next(iter(own.values()))
        both = [own[seed]["linear"] - base[seed]["linear"] for seed in own if seed in base]
        row = {"key": key, "seeds": list(own), "steps": first["steps"], "gflop": first["flops"] / 1e9}
        row |= {"accuracy": asdict(interval([cell["linear"] for cell in own.values()]))}
        row |= {"seconds": statistics.median(cell["seconds"]["pretrain"] for cell in own.values())}
        rows.append(row | {"difference": asdict(interval(both)) if both and key[: len(BASE)] != BASE else None})
    return rows


def markdown(path: Path) -> str:
    """The record as a table for people."""
    record = json.loads(path.read_text(encoding="utf-8"))
    settings, asked = record["settings"], record["asked"]
    size = " x ".join(map(str, settings["image_size"]))
    lines = [
        f"**{record['name']}**: `{record['command']}`. Encoder {settings['model']}, {size} px, patch"
        f" {settings['patch_size']}, {asked['steps']:,} steps of {settings['batch']} for the full decoder; decoders"
        f" with {asked['size']}, slim with its own; judged on {record['judged_on']} images.",
        "",
        "| decoder | steps | step, relative | GFLOP per image | linear probe, % | against full, by seed | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        name = row["key"].rpartition(",")[0] or row["key"]
        relative = record["seconds"][name] / record["seconds"][BASE] if name in record["seconds"] else None
        lines.append(
            f"| {row['key']} | {row['steps']:,} | {'-' if relative is None else f'{relative:.2f}'}"
            f" | {row['gflop']:.2f} | {_of(row['accuracy'])} | {_of(row['difference'])} | {len(row['seeds'])} |"
        )
    return "\n".join(lines)


def _of(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    mean = f"{100 * found['mean']:.1f}"
    return mean if found["low"] is None else f"{mean} ({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def draw(record: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = list(reversed(record["rows"]))
    figure, axes = plt.subplots(figsize=(8, 1.3 + 0.36 * len(rows)), layout="constrained")
    for place, row in enumerate(rows):
        values = [100 * value for value in row["accuracy"]["values"]]
        color = "#9aa7b4" if row["difference"] is None else "#2f6f9f" if "steps" in row["key"] else "#c2703d"
        axes.plot(values, [place] * len(values), "o", color=color, alpha=0.6, markersize=5)
        axes.plot([100 * row["accuracy"]["mean"]], [place], "|", color="#222222", markersize=14, markeredgewidth=2)
    axes.set_yticks(range(len(rows)), [f"{row['key']} ({row['steps']:,})" for row in rows], fontsize=8)
    axes.set_xlabel("linear probe, % of test images; a point per seed, the bar is their mean")
    axes.set_title(f"Decoders, {record['name']}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
