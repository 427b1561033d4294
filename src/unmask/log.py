"""One record, one JSON line. The console and the report read that record; nothing is computed twice."""

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from unmask.checkpoint import write_atomically

METRICS = "metrics.jsonl"


class Log:
    """Writes `metrics.jsonl` and shows progress: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, out: Path, console: Console, batch: int, samples: int, context: dict[str, float] | None = None):
        """batch: samples per step; samples: per epoch; context: losses of trivial predictors on this data."""
        self.path, self.console, self.batch, self.samples = out / METRICS, console, batch, samples
        self.context, self.last = context or {}, (0, 0.0)
        self.steps = 0
        self._bar: Progress | None = None
        self._task: Any = None

    def start(self, step: int, steps: int) -> None:
        """Drops what a crash left behind the last checkpoint, so that no step is recorded twice."""
        self.steps = steps
        kept = [record for record in read(self.path) if record["step"] <= step]
        self.last = next(((r["step"], r["seconds"]) for r in reversed(kept) if "seconds" in r), (0, 0.0))
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self.path, lambda part: part.write_text(lines, encoding="utf-8"))
        if step:
            self.console.print(f"Continuing after step {step} of {steps}.")
        if self.console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn()
            self._bar = Progress(*columns, TextColumn("{task.fields[eta]}"), console=self.console)
            self._task = self._bar.add_task("starting", total=steps, completed=step, eta="")
            self._bar.start()

    def step(self, step: int, lr: float, means: dict[str, float], seconds: float, skipped: int) -> None:
        """Records the means since the last record. `seconds`: of training in all; rates are of this window alone."""
        before, then = self.last
        rate = (step - before) / max(seconds - then, 1e-9)
        record = {"step": step, "epoch": round(step * self.batch / self.samples, 3), "lr": lr, **means}
        if "loss" in means and self.context.get("data_mean"):
            record["explained"] = 1 - means["loss"] / self.context["data_mean"]
        record |= {"skipped": skipped, "seconds": round(seconds, 2)}
        record |= {"images_per_second": round(rate * self.batch, 1), "memory_mb": memory_mb()}
        self.last = step, seconds
        self._write(record)
        eta = f"{clock((self.steps - step) / rate)} left"
        speed = f"{record['images_per_second']:.0f} images/s · {record['memory_mb']} MB"
        text = f"{_loss_text(record, self.context)} · {speed}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=f"epoch {record['epoch']:.1f} · {text}", eta=eta)
        else:
            self.console.print(
                f"step {step}/{self.steps} · epoch {record['epoch']:.1f} · {text} · lr {lr:.2e} · {eta}", soft_wrap=True
            )

    def skipped(self, step: int, lr: float, loss: float, norm: float) -> None:
        """Records an update left out because its loss or gradient was not finite."""
        self._write({"step": step, "event": "skipped", "lr": lr, "loss": str(loss), "grad_norm": str(norm)})
        self.console.print(f"step {step}: loss {loss:.3g}, gradient norm {norm:.3g}; update left out", style="yellow")

    def note(self, step: int, values: dict[str, Any]) -> None:
        """Records what was seen at a step besides the loss, such as a probe's accuracy."""
        if values:
            self._write({"step": step, **values})
            self.console.print(
                f"step {step}: " + ", ".join(f"{k} {_short(v)}" for k, v in values.items()), soft_wrap=True
            )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _write(self, record: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Silent(Log):
    """Keeps nothing and shows nothing: for the many short runs of a study, which has a progress bar of its own."""

    def __init__(self):
        self.steps, self.last = 0, (0, 0.0)

    def start(self, step: int, steps: int) -> None:
        self.steps = steps

    def step(self, step: int, lr: float, means: dict[str, float], seconds: float, skipped: int) -> None:
        self.last = step, seconds

    def skipped(self, step: int, lr: float, loss: float, norm: float) -> None:
        pass

    def note(self, step: int, values: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def make_console() -> Console:
    """The terminal, or plain text 160 columns wide where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line that a crash cut off is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "step" in record:
            yield record


def memory_mb() -> int:
    """Peak memory so far: of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def clock(seconds: float) -> str:
    """90 -> '1:30', 5400 -> '1:30:00'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _loss_text(record: dict[str, Any], context: dict[str, float]) -> str:
    if "loss" not in record:
        return "no finite step"
    text = f"loss {record['loss']:.4f}"
    if "explained" in record:
        text += f" ({record['explained']:.1%} of variance; nearest unit {context['nearest']:.3f})"
    return text


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
