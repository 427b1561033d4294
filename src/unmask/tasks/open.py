"""Opens trained models: an encoder, the model of a task, or a finder of anomalies, depending on the folder."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from unmask import registry
from unmask.data.modality import IMAGE
from unmask.errors import UserError, closest_place
from unmask.files import CLASSIFY, read_json
from unmask.models.encoder import Encoder
from unmask.models.state import load_strictly
from unmask.plain import texts
from unmask.runs.run import CONFIG, Run, encoder_of_task
from unmask.tasks.anomaly.model import Finder
from unmask.tasks.classification.classifier import ImageClassifier
from unmask.tasks.folders import has_frozen, model_noun, task_folders, weights_file
from unmask.tasks.task import find_task, settings_from
from unmask.training.objective import Rebuilder
from unmask.weights.files import is_run, read_state, require_finite
from unmask.weights.open import open_weights
from unmask.weights.reading import READING, Reading
from unmask.weights.timm_models import untrained

ANOMALY, FINDER = "anomaly", "finder.safetensors"  # the folder and the weights that `unmask anomaly fit` writes


def load(run: str | Path, *, parts: str | Sequence[str] = (), **options: Any) -> Any:
    """The encoder of a run folder, of weights in any layout that `docs/weights.md` lists, or of a timm name with its
    own weights; the classifier, segmenter or detector of a folder that `transfer` wrote; the finder of anomalies of one
    that `anomaly fit` wrote. In eval mode.

    `encoder(x)` takes raw pixels (b c h w, uint8 or float) and returns `Tokens(prefix, units)`; `.net` is the timm
    model. `.predict(images)` gives probabilities, also of a run's encoder if `transfer` made `RUN/classify`.

    parts: those from outside of the package that a run was made with, such as "my_lab.comb" or "./comb.py"; they are
    run, and no other is, whatever a file says. options, to adapt weights: model, where a file does not tell which it
    is; mean and std, which overrule the weights'; weights_size, of the images that they were made for; ema or student,
    to take that network of a checkpoint; image_size, patch_size, channels, bands, statistics, as for `Opened.encoder`.
    What was assumed, and the licence, go to stderr. Raises UserError for what is neither.
    """
    with registry.given([*texts(parts), *([options["model"]] if options.get("model") else [])]):
        task = None if options else task_of(Path(run))
        if not task:
            return load_encoder(run, **options)
        return open_finder(Path(run)) if task == ANOMALY else open_trained(Path(run))


def load_encoder(run: str | Path, **options: Any) -> Encoder:
    """Like `load`, but always an encoder: from a classifier's folder, its encoder, trained with labels."""
    task = None if options else task_of(Path(run))
    if task:
        return load(run).encoder
    if task is not None:
        encoder = Run(Path(run)).encoder()
        if (Path(run) / CLASSIFY / weights_file(CLASSIFY)).exists():
            encoder.classifier = partial(load, Path(run) / CLASSIFY, parts=registry.parts_given())
        elif has_frozen(Path(run)):
            encoder.classifier = partial(_open_frozen, Path(run))
        return encoder
    reading = Reading.of(options)
    rest = {name: value for name, value in options.items() if name not in READING}
    opened = open_weights(run, model=rest.pop("model", None), reading=reading, image_size=rest.get("image_size"))
    encoder = opened.encoder(**rest)
    print("\n".join(opened.lines), file=sys.stderr)
    return encoder


def load_architecture(run: str | Path, **options: Any) -> Encoder:
    """As `load_encoder`, for those that start from scratch: of a timm name no weights are fetched."""
    return load_encoder(run, **options) if Path(run).exists() else untrained(str(run), Reading.of(options))


def find_trained(path: Path, task: str | None = None) -> Path:
    """The folder that `transfer` wrote: `path` itself, or the one in a run's folder.

    task: which is meant. Raises UserError where there is none, or where a run has several and none was named.
    """
    path, tasks = Path(path), [task] if task else list(task_folders())
    own_task = task_of(path) or ""
    if own_task in tasks and (path / weights_file(own_task)).exists():
        return path
    inside = [path / name for name in tasks if (path / name / weights_file(name)).exists()]
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise UserError(f"{path} holds several trained models; name the folder of one: {', '.join(map(str, inside))}")
    if not path.is_dir():
        what = f"is no folder{closest_place(path)}"
    elif own_task in tasks:
        unfinished = f"{path} has no {weights_file(own_task)} yet: its training is not finished"
        raise UserError(f"{unfinished}; the same unmask transfer command again continues it")
    else:
        what = f"has no {weights_file(task) if task else 'model that transfer trains'}."
    wanted = task or CLASSIFY
    also = "; unmask evaluate RUN --on LABELLED keeps one on frozen features" if wanted == CLASSIFY else ""
    line = f"unmask transfer RUN --to {wanted} --on LABELLED"
    raise UserError(f"{path} {what} Make a {model_noun(wanted)}: {line}{also}")


def _open_frozen(run: Path) -> Any:
    """The classifier that `evaluate` left; its judges bring scikit-learn, which training does without."""
    from unmask.tasks.classification.frozen import open_frozen

    return open_frozen(run)


def is_frozen_only(path: Path) -> bool:
    """Whether a folder is that of a run from which `transfer` trained nothing, but `evaluate` kept a classifier."""
    trained = any((path / name / weights_file(name)).exists() for name in task_folders())
    return task_of(path) == "" and not trained and has_frozen(path)


def open_trained(path: Path, task: str | None = None) -> Any:
    """The model that `transfer` trained, in eval mode on the CPU; see `find_trained`."""
    folder = find_trained(path, task)
    record = Run(folder).record
    kind = find_task(record["task"], record.get("modality", IMAGE))
    settings = settings_from(kind.settings, record["settings"], folder / CONFIG)
    model = kind.make_model(encoder_of_task(record), settings, record)
    weights = folder / weights_file(record["task"])
    state = read_state(weights)
    require_finite(state, weights)
    load_strictly(model, state, str(weights))
    registry.remark_on_parts(folder)
    return model.eval()


def open_classifier(path: Path) -> ImageClassifier:
    """The classifier in a folder that `transfer` wrote, or in `classify` of a run's folder, in eval mode on the CPU.

    Raises UserError for a folder without one.
    """
    return open_trained(path, CLASSIFY)


def open_finder(path: Path) -> Finder:
    """The finder that `unmask anomaly fit` wrote, in eval mode on the CPU. Raises UserError for any other folder."""
    path = Path(path)
    inside = path / ANOMALY
    if not (path / FINDER).exists() and (inside / FINDER).exists():
        path = inside
    if not (path / FINDER).exists() or task_of(path) != ANOMALY:
        what = f"is no folder{closest_place(path)}" if not path.is_dir() else f"has no {FINDER} of a finished fit."
        raise UserError(f"{path} {what} Make one: unmask anomaly fit RUN NORMALS --out FOLDER")
    record = Run(path).record
    model: Rebuilder | Encoder = encoder_of_task(record)
    if record["finder"]["methods"] != ["features"]:
        settings = record["settings"]
        parts = {name: settings[name] for name in ("mask", "target", "decoder", "decoder_warmup", "masks_per_image")}
        parts = {name: value for name, value in parts.items() if value is not None}
        model = registry.build("method", settings["method"], encoder=model, **parts)
    finder = Finder.of_config(model, record)
    load_strictly(finder, read_state(path / FINDER), str(path / FINDER))
    registry.remark_on_parts(path)
    return finder.eval()


def task_of(path: Path) -> str | None:
    """The task that wrote a folder; "" for a pretraining run, None for anything else."""
    content = read_json(path / CONFIG)
    return content.get("task", "") if "task" in content or is_run(content) else None
