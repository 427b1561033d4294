"""What lies in a file or a folder of weights: tensors, config.json, preprocessor_config.json, a model card."""

from dataclasses import replace
from pathlib import Path

from unmask.errors import UserError
from unmask.files import Json, read_json
from unmask.training.checkpoint import LAST, newest
from unmask.weights.canonical import State, WeightFile
from unmask.weights.files import ENCODER, is_run, read_checkpoint
from unmask.weights.licence import stated_licence
from unmask.weights.reading import Reading

PREPROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")  # of images, of clips
CONFIG, CLASSIFIER = "config.json", "classifier.safetensors"
FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.safetensors")

Content = tuple[WeightFile, str | None, State | None]  # the weights, their stated licence, all of a run's objective


def read_file(path: Path, reading: Reading) -> Content:
    checkpoint = read_checkpoint(path, reading)
    state = checkpoint.state
    config = read_json(path.parent / CONFIG)
    ours = path.name == CLASSIFIER or (path.suffix == ".ckpt" and ("task" in config or is_run(config)))
    hub = "model_type" in config or "architecture" in config or ours
    whole = state if "encoder.mean" in state else None
    name = path.name if path.name not in FILES else path.parent.resolve().name
    return (
        WeightFile(
            state=state,
            name=name,
            header=checkpoint.header,
            networks=checkpoint.networks,
            remarks=checkpoint.remarks,
            config=config if hub else {},
            preprocessor=_preprocessor(path.parent) if hub else {},
        ),
        stated_licence(path.parent) if hub else None,
        whole,
    )


def read_folder(path: Path, reading: Reading) -> Content:
    config = read_json(path / CONFIG)
    ours = (CLASSIFIER,) if "task" in config else (LAST, ENCODER) if is_run(config) else ()
    saved = newest(path) if LAST in ours else None
    file = saved or next((path / name for name in (*ours, *FILES) if (path / name).is_file()), None)
    index = path / "model.safetensors.index.json"
    if file is None and not index.is_file():
        what = f"run folder has no {', '.join(ours)} yet" if ours else f"folder has neither of {', '.join(FILES)}"
        raise UserError(f"{path}: this {what}; give a run, a Hugging Face or timm folder, or a file of weights")
    if not config:
        raise UserError(
            f"{path} has no {CONFIG}, which says what {file.name if file else index.name} is; download it too"
        )
    if file is not None:
        content, licence, whole = read_file(file, reading)
        return replace(content, name=path.resolve().name, config=config), licence or stated_licence(path), whole
    shards = sorted({str(name) for name in read_json(index).get("weight_map", {}).values()})
    missing = [name for name in shards if not (path / name).is_file()]
    if missing or not shards:
        raise UserError(f"{path} lacks {', '.join(missing) or 'its parts'}, named in {index.name}; download them too")
    state = {key: value for name in shards for key, value in read_checkpoint(path / name).state.items()}
    file = WeightFile(state=state, name=path.resolve().name, config=config, preprocessor=_preprocessor(path))
    return file, stated_licence(path), None


def _preprocessor(folder: Path) -> Json:
    """How samples are to be prepared, as the first of these files that is there says; empty where there is none."""
    return next((content for name in PREPROCESSORS if (content := read_json(folder / name))), {})


def learnt_from(source: str) -> list[str]:
    """What a run names as the frozen teachers that it learnt from; none for what is no run."""
    path = Path(source).expanduser() / CONFIG
    record = read_json(path).get("record", {}) if path.exists() else {}
    return [str(teacher["source"]) for teacher in record.get("teachers", [])]


def stamp(source: str) -> tuple[float, ...]:
    """Times and sizes of the files of a source; empty for a name of timm's."""
    path = Path(source).expanduser()
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    return tuple(number for file in files for number in (file.stat().st_mtime_ns, file.stat().st_size))
