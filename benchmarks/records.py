"""What a benchmark leaves behind: a record (JSON), the same as text and as an image (PNG), with its machine."""

import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_tile")


def machine() -> dict[str, Any]:
    """What this was measured on."""
    found: dict[str, Any] = {"system": platform.system(), "python": platform.python_version()}
    found["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        found["cpu"] = facts.get("model name", "unknown")
        found["family"], found["model"] = facts.get("cpu family"), facts.get("model")
        found["flags"] = [flag for flag in FLAGS if flag in facts.get("flags", "").split()]
        memory = Path("/proc/meminfo").read_text().split()[1]
        found["memory_gb"] = round(int(memory) / 2**20, 1)
    except OSError:  # not Linux
        found["cpu"] = platform.processor() or platform.machine()
    import torch

    found["torch"] = torch.__version__
    found["threads"] = torch.get_num_threads()
    found["waiting"] = {
        k: v for k, v in os.environ.items() if k in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    }
    found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def summary(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each variant: speed and ratio to the baseline as [least, median, greatest], and the medians of the rest."""
    speeds = {
        name: {turn["round"]: turn["units"] / turn["seconds"] for turn in turns}
        for name, turns in record["measured"].items()
    }
    base, result = speeds[record["baseline"]], {}
    for name, turns in record["measured"].items():
        if not turns:
            continue
        ratios = [speed / base[number] for number, speed in speeds[name].items() if number in base]
        other = sorted({key for turn in turns for key in turn} - {"round", "units", "seconds", "load"})
        result[name] = {
            "speed": _spread(list(speeds[name].values())),
            "ratio": _spread(ratios) if ratios else None,
            "seconds_per_turn": statistics.median(turn["seconds"] for turn in turns),
        } | {key: statistics.median(turn[key] for turn in turns if key in turn) for key in other}
    return result


def _spread(values: list[float]) -> list[float]:
    return [min(values), statistics.median(values), max(values)]


def table(record: dict[str, Any], columns: dict[str, Any] | None = None) -> str:
    """The record as text. columns: heading -> function of a variant's summary, to add some."""
    here = record["machine"]
    where = here["gpu"] or f"{here['cpu']} (family {here.get('family')}), {here['cores']} cores"
    head = [
        f"{record['title']}",
        f"{record['command']}",
        f"{where}; flags {' '.join(here.get('flags', []))}; torch {here['torch']}; {record['rounds']} rounds,"
        f" load before {record['load_before'][0]}",
        "",
    ]
    extra = columns or {}
    titles = ["variant", f"{record['unit']}/s min-med-max", "ratio min-med-max", "peak MiB", *extra]
    rows = [titles]
    for name, found in record["summary"].items():
        memory = found["peak_mb"] - found["imported_mb"]
        rows.append(
            [name, _text(found["speed"]), _text(found["ratio"]), f"{memory:,.0f}", *(f(found) for f in extra.values())]
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(titles))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    failed = [
        f"{name}: left out, it failed: {error.strip().splitlines()[-1]}" for name, error in record["errors"].items()
    ]
    notes = [f"{key}: {value}" for key, value in record["facts"].items()]
    foot = [f"Ratios are to {record['baseline']}, within each round. Peak MiB: above what the imports took."]
    return "\n".join([*head, *lines, "", *foot, *notes, *failed]) + "\n"


def write(record: dict[str, Any], out: Path = RESULTS, columns: dict[str, Any] | None = None) -> None:
    """NAME.json, NAME.txt and NAME.png."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{record['name']}.json").write_text(json.dumps(record, indent=1) + "\n")
    text = table(record, columns)
    (out / f"{record['name']}.txt").write_text(text)
    print(text)
    if record["summary"]:
        _draw(record, out / f"{record['name']}.png")


def _draw(record: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = {name: values for name, values in record["summary"].items() if values["ratio"]}
    names = list(reversed(found))
    low, middle, high = zip(*(found[name]["ratio"] for name in names))
    figure, axes = plt.subplots(figsize=(8, 1.3 + 0.36 * len(names)), layout="constrained")
    reach = [[m - a for m, a in zip(middle, low)], [b - m for m, b in zip(middle, high)]]
    colors = ["#9aa7b4" if name == record["baseline"] else "#2f6f9f" for name in names]
    axes.barh(names, middle, xerr=reach, color=colors, ecolor="#333333", capsize=3, height=0.66)
    for place, name in enumerate(names):
        text = f"  {middle[place]:.2f}x  ({found[name]['speed'][1]:.3g} {record['unit']}/s)"
        axes.text(high[place], place, text, va="center", fontsize=8)
    axes.axvline(1, color="#9aa7b4", linewidth=1)
    axes.set_xlim(0, 1.35 * max(high))
    axes.set_xlabel(
        f"{record['unit']} per second, divided by those of {record['baseline']} (median, least to greatest)"
    )
    axes.set_title(record["title"], fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _text(spread: list[float] | None) -> str:
    return "-" if spread is None else " - ".join(f"{value:.2f}" if value < 100 else f"{value:,.0f}" for value in spread)
