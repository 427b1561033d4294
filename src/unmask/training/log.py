"""One record, one JSON line. Console, report and trackers read that record; nothing is computed twice."""

import contextlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from unmask.data.datasets.images import BAD_FILES, num_lost
from unmask.errors import UserError
from unmask.files import Json, is_full, parse_json, write_atomically
from unmask.runtime.progress import TrainingBar, training_bar
from unmask.training.loss_guard import LeftOut
from unmask.training.objective import Symptom
from unmask.training.state import RunState
from unmask.training.symptoms import Watchful
from unmask.training.trackers import Tracker, scalars

METRICS = "metrics.jsonl"
ENOUGH = 0.2  # share of the variance; runs that explain less have hardly begun (ImageNet's MAE ends near 0.6)
FEATURES = ("feature_rank", "feature_spread")  # recorded for doctor and the report, and not printed
SAID = 3  # skipped steps that are printed one by one
ROLLED_BACK = "rolled_back"  # an event that is kept in the state of the run, since going back drops later records


def little_learnt(explained: float) -> tuple[str, str]:
    """What it means to explain less than `ENOUGH` of the variance, and what to do."""
    return (
        f"the run explains {explained:.1%} of the variance of what it rebuilds: it has learnt little",
        "train longer (more --epochs or --hours); if the loss had stopped falling, the learning rate may be far off",
    )


class Log:
    """Writes `metrics.jsonl` and shows progress: a live bar on a terminal, plain lines elsewhere."""

    def __init__(
        self,
        out: Path,
        console: Console,
        batch: int,
        samples: int,
        context: dict[str, float] | None = None,
        trackers: Sequence[Tracker] = (),
        settings: Mapping[str, object] | None = None,
        symptoms: Sequence[Symptom] = (),
        word: str = "image",
    ):
        """batch: samples per step; samples: per epoch; context: losses of trivial predictors on this data.

        trackers: receive every record too; settings: of the run, for them. symptoms: known failures of the method.
        word: what a sample is called.
        """
        self.trackers, self.settings = list(trackers), scalars(settings or {})
        self.path, self.console, self.batch, self.samples = out / METRICS, console, batch, samples
        self.context, self.last = context or {}, (0, 0.0)
        self.steps, self.word = 0, word
        self._symptoms = Watchful(symptoms)
        self._bar: TrainingBar | None = None
        self._shown = contextlib.ExitStack()  # the bar on the terminal
        self._waiting: list[str] = []  # lines that could not be written yet
        self._lost = 0  # images that were said to be lost

    def start(self, step: int, steps: int, rolled: Sequence[Json] = ()) -> None:
        """Drops records of steps after the last checkpoint, so that no step is recorded twice. rolled: records of
        rollbacks, which are never dropped."""
        self.steps = steps
        records = self._drop(step, rolled)
        self._begin_tracking(step)
        self.last = next(((r["step"], r["seconds"]) for r in reversed(records) if "seconds" in r), (0, 0.0))
        if step:
            self.console.print(f"Continuing after step {step} of {steps}.")
        if self.console.is_terminal:
            self._bar = TrainingBar(steps, step)
            self._shown.enter_context(training_bar(self.console, self._bar))

    def at(self, step: int) -> None:
        """Moves the bar to a step."""
        if self._bar is not None:
            self._bar.step, self._bar.steps = step, self.steps

    def step(
        self, step: int, lr: float, means: dict[str, float], seconds: float, skipped: int, waited: float = 0.0
    ) -> None:
        """Records the means since the last record. `seconds`: of training in total; rates and the seconds `waited` for
        data cover this window only."""
        before, then = self.last
        rate = (step - before) / max(seconds - then, 1e-9)
        record = {"step": step, "epoch": round(step * self.batch / self.samples, 3), "lr": lr, **means}
        if "loss" in means and self.context.get("data_mean"):
            record["explained"] = 1 - means["loss"] / self.context["data_mean"]
        record |= {"skipped": skipped, "seconds": round(seconds, 2)}
        record |= {"images_per_second": round(rate * self.batch, 1), "memory_mb": memory_mb()}
        record["waiting"] = round(min(1.0, waited / max(seconds - then, 1e-9)), 4)  # share of the time, for data
        self.last = step, seconds
        self._write(record)
        for symptom, text in self._symptoms.at(step, self.steps, means):
            self.event(step, "symptom", text, scalar=symptom.scalar, value=means[symptom.scalar])
        left = clock((self.steps - step) / rate)
        speed = f"{record['images_per_second']:.0f} {self.word}s/s · {record['memory_mb']} MB"
        if record["waiting"] >= 0.01:
            speed += f" · {record['waiting']:.0%} waiting for data"
        text = f"{_loss_text(record, self.context)} · {speed}"
        if self._bar is not None:
            self._bar.loss = f"{means['loss']:.4f}" if "loss" in means else "not finite"
            self._bar.speed, self._bar.left = f"{record['images_per_second']:.0f}", left
        else:
            self.console.print(
                f"step {step}/{self.steps} · epoch {record['epoch']:.1f} · {text} · lr {lr:.2e} · {left} left",
                soft_wrap=True,
            )

        self._say_lost(step)

    def _say_lost(self, step: int) -> None:
        """Says that images turn out bad while training: at the first, and whenever there are twice as many."""
        lost = num_lost(self.path.parent / BAD_FILES)
        if lost < max(1, 2 * self._lost):
            return
        self._lost = lost
        text = (
            f"{lost:,} of {self.samples:,} {self.word}s can no longer be read, and others take their place: {BAD_FILES}"
        )
        still = "; is the data still there?" if 2 * lost > self.samples else ""
        self.event(step, "lost", f"step {step}: {text}{still}", images=lost)

    def left_out(self, steps: Sequence[LeftOut]) -> None:
        """Records skipped updates, each with its own step number."""
        for count, left in enumerate(steps):
            record = {"step": left.step, "event": "skipped", "why": left.why, "lr": left.lr}
            self._write(record | {"loss": str(left.loss), "grad_norm": str(left.norm), "limit": str(left.limit)})
            if count < SAID:
                limit = f" (above {left.limit:.3g})" if left.why == "spike" else ""
                text = f"step {left.step}: loss {left.loss:.3g}{limit}, gradient norm {left.norm:.3g}; update left out"
                self.console.print(text, style="yellow")
        if len(steps) > SAID:
            self.console.print(f"and {len(steps) - SAID} more, up to step {steps[-1].step}", style="yellow")

    def event(self, step: int, name: str, text: str, **facts: object) -> None:
        """Records and prints an event of the run itself."""
        self._write({"step": step, "event": name, **facts})
        self.console.print(text, style="yellow", soft_wrap=True, highlight=False, markup=False)

    def rolled_back(self, state: RunState, text: str) -> None:
        """Drops the records of later steps after a rollback. state: the run's state now."""
        self._drop(state.step, state.rolled)
        self._begin_tracking(state.step)
        self.last = state.step, state.seconds
        self.console.print(text, style="yellow", soft_wrap=True, highlight=False, markup=False)

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Records further values of a step, such as a probe's accuracy."""
        if values:
            self._write({"step": step, **values})
        if said := ", ".join(f"{name} {_short(v)}" for name, v in values.items() if name not in FEATURES):
            self.console.print(f"step {step}: {said}", soft_wrap=True)

    def close(self) -> None:
        self._flush()
        for tracker in self.trackers:
            self._track(tracker, tracker.close)
        self._bar = None
        self._shown.close()

    def _drop(self, step: int, rolled: Sequence[Json]) -> list[Json]:
        records = [r for r in read(self.path) if r["step"] <= step and r.get("event") != ROLLED_BACK]
        lines = "".join(json.dumps(record) + "\n" for record in [*records, *rolled])
        write_atomically(self.path, lambda part: part.write_text(lines, encoding="utf-8"))
        return records

    def _write(self, record: Json) -> None:
        """A full disk does not end a run: lines that cannot be written now are written with the next record."""
        self._waiting.append(json.dumps(record) + "\n")
        self._flush()
        values = {name: float(value) for name, value in record.items() if isinstance(value, int | float)}
        step = int(values.pop("step"))
        for tracker in self.trackers if values and "event" not in record else ():
            self._track(tracker, lambda tracker=tracker: tracker.write(step, values))

    def _begin_tracking(self, step: int) -> None:
        """Raises UserError where a tool does not let us in: the user asked for it."""
        for tracker in self.trackers:
            try:
                tracker.begin(self.path.parent, self.settings, step)
            except Exception as error:
                raise UserError(f"--log-to {type(tracker).__name__}: {error or type(error).__name__}") from error

    def _track(self, tracker: Tracker, work: Callable[[], None]) -> None:
        """A tool that fails, such as one over the network, does not end a training: it is left out from then on."""
        try:
            work()
        except Exception as error:
            self.trackers = [other for other in self.trackers if other is not tracker]
            text = f"{type(tracker).__name__} gets no more records ({error}); {self.path} has them all"
            self.console.print(text, style="yellow", soft_wrap=True, highlight=False, markup=False)

    def _flush(self) -> None:
        if not self._waiting:
            return
        size = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("".join(self._waiting))
        except OSError as error:
            if not is_full(error):
                raise
            if len(self._waiting) == 1:
                self.console.print(f"{self.path} cannot be written now: {error.strerror}", style="yellow")
            with contextlib.suppress(OSError):  # half a line would corrupt the next
                os.truncate(self.path, size)
            return
        self._waiting.clear()


class Silent(Log):
    """Records and shows nothing: for the many short runs of a study, which has its own progress bar."""

    def __init__(self):
        self.steps, self.last = 0, (0, 0.0)

    def start(self, step: int, steps: int, rolled: Sequence[Json] = ()) -> None:
        self.steps = steps

    def at(self, step: int) -> None:
        pass

    def step(
        self, step: int, lr: float, means: dict[str, float], seconds: float, skipped: int, waited: float = 0.0
    ) -> None:
        self.last = step, seconds

    def left_out(self, steps: Sequence[LeftOut]) -> None:
        pass

    def event(self, step: int, name: str, text: str, **facts: object) -> None:
        pass

    def rolled_back(self, state: RunState, text: str) -> None:
        self.last = state.step, state.seconds

    def note(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def close(self) -> None:
        pass


def read(path: Path) -> Iterator[Json]:
    """The records of a `metrics.jsonl`; a last line cut off by a crash is ignored."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record:
            yield record


def memory_mb() -> int:
    """Peak memory so far: of the GPU if one is used, otherwise of this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def clock(seconds: float) -> str:
    """90 -> '1:30', 5400 -> '1:30:00'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """9 -> '9 s', 90 -> '1 min 30 s', 5400 -> '1 h 30 min'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else rest, "s"))
    return " ".join(f"{number:,} {unit}" for number, unit in parts if number) or "0 s"


def _loss_text(record: Json, context: dict[str, float]) -> str:
    if "loss" not in record:
        return "no finite step"
    text = f"loss {record['loss']:.4f}"
    if "explained" in record:
        text += f" ({record['explained']:.1%} of variance; copying the nearest patch: {context['nearest']:.3f})"
    return text


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
