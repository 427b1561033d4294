"""A run folder, opened: its settings, its encoder, its whole objective."""

import dataclasses
import json
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from unmask import registry
from unmask.errors import UserError, closest_place
from unmask.files import read_json
from unmask.models.classifier import Classifier
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.state import load_strictly
from unmask.runs.config import Config
from unmask.tasks.anomaly.model import Finder, Settings
from unmask.training import checkpoint
from unmask.training.objective import Objective
from unmask.weights.files import ENCODER, is_run, read_state
from unmask.weights.open import open_weights

CONFIG, SUMMARY = "config.json", "summary.json"
CLASSIFIER = "classifier.safetensors"
CLASSIFY = "classify"  # transfer writes into a folder named after the task inside a run's unless told otherwise
ANOMALY, FINDER = "anomaly", "finder.safetensors"  # the folder and the weights that `unmask anomaly fit` writes
TRAINED = {"classify": "classifier", "segment": "segmenter", "detect": "detector"}  # what transfer makes, by task
FOLDERS = {"classify": "classification", "segment": "segmentation", "detect": "detection"}  # where its class lives


@dataclass(frozen=True)
class Run:
    """What `unmask.pretrain` returns and `unmask.load` opens."""

    path: Path

    def __post_init__(self):
        object.__setattr__(self, "path", Path(self.path))
        if not self.path.exists():
            raise UserError(f"{self.path} is no run folder: there is no such folder{closest_place(self.path)}")
        if not (self.path / CONFIG).exists():
            raise UserError(
                f"{self.path} is no run folder: it has no {CONFIG}. Make one: unmask pretrain DATA --out RUN"
            )

    @cached_property
    def config(self) -> Config:
        """The configuration of a pretraining run. Raises UserError for a folder that a task wrote."""
        if "task" in read_json(self.path / CONFIG):
            raise UserError(
                f"{self.path} is no pretraining run: it was made by {read_json(self.path / CONFIG)['task']}"
            )
        return Config.from_json(self.path / CONFIG)

    @cached_property
    def record(self) -> dict[str, Any]:
        """What config.json says, in the form that tasks and pretraining share: see `Config.flat`."""
        content = read_json(self.path / CONFIG)
        if "task" not in content:
            return self.config.flat()
        if missing := {"asked", "settings", "mean", "std", "timm", "fit", "data"} - content.keys():
            raise UserError(f"{self.path / CONFIG} is damaged: it lacks {', '.join(sorted(missing))}")
        return content

    @property
    def task(self) -> str | None:
        """What `transfer` or `anomaly fit` trained; None for a pretraining run."""
        return read_json(self.path / CONFIG).get("task")

    def read(self, name: str) -> dict[str, Any]:
        """One of the JSON files of the folder."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    @property
    def finished(self) -> bool:
        return (self.path / SUMMARY).exists()

    def objective(self) -> Objective:
        """The whole objective, decoder included, with the weights of the last checkpoint, in eval mode on the CPU."""
        found = checkpoint.read_newest(self.path)
        if found is None:
            have = f" It has {ENCODER}, but an encoder alone cannot rebuild." if (self.path / ENCODER).exists() else ""
            raise UserError(f"{self.path} has no {checkpoint.LAST}, so there is no decoder to rebuild with.{have}")
        objective = make_objective(self.config)
        load_strictly(objective, found[1]["objective"], str(found[0]))
        return objective.eval()

    def encoder(self) -> Encoder:
        """The encoder with the weights of the last checkpoint, in eval mode on the CPU; takes raw pixels."""
        path = self.path / ENCODER
        if not path.exists():
            return self.objective().encoder  # interrupted before the first export
        encoder = make_encoder(self.config)
        load_strictly(encoder.net, read_state(path), str(path))
        return encoder.eval()


def make_encoder(config: Config) -> Encoder:
    """A fresh encoder as a configuration describes it, with the data's statistics."""
    model, data = config.model, config.data
    return create_encoder(
        model.name,
        image_size=data.image_size,
        patch_size=model.patch_size,
        channels=data.channels,
        mean=data.mean,
        std=data.std,
    )


def make_objective(config: Config) -> Objective:
    """A fresh objective as a configuration describes it; weights are random, from torch's global generator."""
    parts = dataclasses.asdict(config.method)
    return registry.build("method", parts.pop("name"), encoder=make_encoder(config), **parts)


def encoder_of_task(record: dict[str, Any]) -> Encoder:
    """A fresh encoder as the record of a task's folder describes it."""
    settings, mean, std = record["settings"], tuple(record["mean"]), tuple(record["std"])
    size, shape = tuple(settings["image_size"]), {name: settings[name] for name in ("patch_size", "channels")}
    return create_encoder(settings["model"], image_size=size, mean=mean, std=std, **shape)


def weights_of(task: str) -> str:
    """The file that holds what a task trained."""
    return f"{TRAINED[task]}.safetensors"


def find_trained(path: Path, task: str | None = None) -> Path:
    """The folder that `transfer` wrote: `path` itself, or the one in a run's folder.

    task: which is meant. Raises UserError where there is none, or where a run has several and none was named.
    """
    path, tasks = Path(path), [task] if task else list(TRAINED)
    made_by = task_of(path) or ""
    if made_by in tasks and (path / weights_of(made_by)).exists():
        return path
    inside = [path / name for name in tasks if (path / name / weights_of(name)).exists()]
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise UserError(f"{path} has several; name the folder that is meant: {', '.join(map(str, inside))}")
    wanted = task or "classify"
    noun = TRAINED[task] if task else "model that transfer trains"
    if not path.is_dir():
        what = f"is no folder{closest_place(path)}"
    elif made_by in tasks:
        unfinished = f"{path} has no {weights_of(made_by)} yet: its training is not finished"
        raise UserError(f"{unfinished}; the same unmask transfer command again continues it")
    else:
        what = f"has no {weights_of(task)}." if task else f"has no {noun}."
    raise UserError(f"{path} {what} Make a {TRAINED[wanted]}: unmask transfer RUN --to {wanted} --on LABELLED")


def open_trained(path: Path, task: str | None = None) -> Any:
    """The model that `transfer` trained, in eval mode on the CPU; see `find_trained`."""
    folder = find_trained(path, task)
    record = Run(folder).record
    noun = TRAINED[record["task"]]
    kind = getattr(import_module(f"unmask.models.{noun}"), noun.capitalize())
    model = kind.of_config(encoder_of_task(record), record)
    file = folder / weights_of(record["task"])
    load_strictly(model, read_state(file), str(file))
    return model.eval()


def open_classifier(path: Path) -> Classifier:
    """The classifier of a folder that `transfer` wrote, or of `classify` in a run's folder, in eval mode on the CPU.

    Raises UserError for a folder without one.
    """
    return open_trained(path, "classify")


def open_finder(path: Path) -> Finder:
    """What `unmask anomaly fit` learned, in eval mode on the CPU. Raises UserError for any other folder."""
    path = Path(path)
    inside = path / ANOMALY
    if not (path / FINDER).exists() and (inside / FINDER).exists():
        path = inside
    if not (path / FINDER).exists() or task_of(path) != ANOMALY:
        what = f"is no folder{closest_place(path)}" if not path.is_dir() else f"has no {FINDER} of a finished fit."
        raise UserError(f"{path} {what} Make one: unmask anomaly fit RUN NORMALS --out FOLDER")
    record = Run(path).record
    saved = dict(record["finder"])
    size = {name: saved.pop(name) for name in ("bank", "width")}
    options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
    settings, model = Settings(**options), encoder_of_task(record)
    if settings.methods != ("features",):
        parts = {name: record["settings"][name] for name in ("mask", "target", "decoder")}
        more = {name: record["settings"][name] for name in ("decoder_warmup", "masks_per_image")}
        model = registry.build("method", record["settings"]["method"], encoder=model, **parts, **more)
    finder = Finder(model, settings, **size)
    load_strictly(finder, read_state(path / FINDER), str(path / FINDER))
    finder.promises = record["promises"]
    return finder.eval()


def task_of(path: Path) -> str | None:
    """The task that wrote a folder; "" for a pretraining run, None for anything else."""
    content = read_json(path / CONFIG)
    return content.get("task", "") if "task" in content or is_run(content) else None


def load(run: str | Path, **options: Any) -> Any:
    """The encoder of a run folder, of weights in any layout that `docs/weights.md` lists, or of a timm name with its
    own weights; the classifier, segmenter or detector of a folder that `transfer` wrote; the finder of anomalies of one
    that `anomaly fit` wrote. In eval mode.

    `encoder(x)` takes raw pixels (b c h w, uint8 or float) and returns `Tokens(prefix, units)`; `.net` is the timm
    model. `.predict(images)` gives probabilities, also of a run's encoder if `transfer` made `RUN/classify`.

    options, to adapt weights: model, where a file does not tell which it is; image_size, patch_size, channels, bands,
    statistics, as for `Opened.encoder`. What was assumed, and the licence, go to stderr. Raises UserError for what is
    neither.
    """
    task = None if options else task_of(Path(run))
    if task:
        return open_finder(Path(run)) if task == ANOMALY else open_trained(Path(run))
    return load_encoder(run, **options)


def load_encoder(run: str | Path, **options: Any) -> Encoder:
    """As `load`, for those that need an encoder; of a classifier's folder it is the encoder, trained with labels."""
    task = None if options else task_of(Path(run))
    if task:
        return load(run).encoder
    if task is not None:
        encoder = Run(Path(run)).encoder()
        if (Path(run) / CLASSIFY / CLASSIFIER).exists():
            encoder.classifier = partial(open_classifier, Path(run))
        return encoder
    opened = open_weights(run, model=options.pop("model", None))
    encoder = opened.encoder(**options)
    print("\n".join(opened.lines), file=sys.stderr)
    return encoder
