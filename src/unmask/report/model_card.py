"""The model card: training data, initial weights, results, how to load the model and how the files were checked.

Paths of this machine are shortened to names: a card is made to be given away.
"""

import re
from pathlib import Path
from typing import Any

import jinja2

from unmask.files import CLASSIFY, RESULT, Json, read_json
from unmask.runs.run import Run
from unmask.weights.licence import licence_of

NON_COMMERCIAL = "cc-by-nc-4.0"
FAIR = ("mae_pretrain_vit_", "mae_visualize_vit_", "mae_finetuned_vit_")  # Meta's files, by the names it gave them
RECIPE = (
    "model", "image_size", "patch_size", "channels", "method", "mask", "target", "decoder", "protocol", "pooling",
    "init", "epochs", "steps", "hours", "batch", "accumulate", "optimizer", "lr", "warmup", "weight_decay",
    "layer_decay", "drop_path", "smoothing", "mixup", "cutmix", "randaug", "erase", "ema", "crop", "flip", "seed",
    "precision",
)  # fmt: skip
SHEET = {
    "count": "images", "formats": "formats", "channel_counts": "channels", "bits": "bits per value",
    "min_size": "smallest size", "median_size": "median size", "max_size": "largest size", "splits": "splits",
    "classes": "classes", "num_duplicates": "exact copies", "mean": "mean", "std": "standard deviation",
    "fingerprint": "fingerprint",
}  # fmt: skip


def model_card(run: Path, config: Json, figures: Json, **facts: object) -> str:
    """README.md of one exported format. figures: from export.json; facts: further values of the template."""
    start, licence = initial_weights(config)
    sheet = read_json(run / "data_sheet.json")
    settings = config["settings"]
    return _template().render(
        name=run.resolve().name,
        task=config.get("task"),
        config=config,
        data=_name(sheet.get("where") or str(settings.get("data") or settings.get("on") or "")),
        sheet=[(words, _text(sheet[key])) for key, words in SHEET.items() if sheet.get(key)],
        recipe=[(key, _text(settings[key])) for key in RECIPE if settings.get(key) not in (None, "", [])],
        evaluation=_without_folders(read_json(run / "evaluation.json")),
        metrics=_numbers(read_json(run / RESULT) or read_json(run / CLASSIFY / RESULT)),
        start=start,
        licence=licence,
        figures=figures,
        **facts,
    )


def initial_weights(config: Json) -> tuple[str, str | None]:
    """The initial weights and frozen teachers in words, with the first licence of them that is known."""
    start, licence = _start(config)
    for teacher in config.get("teachers") or ():
        start += (
            f" It learned from the features of `{_name(teacher['source'])}`, a frozen teacher that is no part of it"
        )
        start, licence = f"{start}; licence of the teacher: {licence_of(teacher)}.", licence or teacher["licence"]
    return start, licence


def _start(config: Json) -> tuple[str, str | None]:
    settings, options = config["settings"], config["asked"]
    init = str(settings.get("init") or "none")
    init = str(options.get("run") or init) if init == "run" else init
    if init == "none":
        return "Random initialisation: no other weights are in it.", None
    name, licence_name = _name(init), config.get("licence")
    if licence_name:
        return f"`{name}`, licence: {licence_name}.", str(licence_name)
    if name.startswith(FAIR) or name.split(".")[-1] == "mae":
        return f"`{name}`: Meta's MAE weights, CC-BY-NC 4.0, not for commercial use.", NON_COMMERCIAL
    path = Path(init) / "config.json"
    if path.exists():
        words, licence = initial_weights(Run(Path(init)).record)
        return f"The run `{name}`. What that started from: {words[0].lower() + words[1:]}", licence
    return f"`{name}`. Its licence is not recorded here: ask whoever made it.", None


def _without_folders(value: Any) -> Any:
    """The same with every path in a text shortened to its last part: rivals are called as they were given."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    return re.sub(r"(?:[A-Za-z]:)?[~.]*[/\\](?:[^\s,;|`/\\]+[/\\])*", "", value) if isinstance(value, str) else value


def _numbers(metrics: Json) -> dict[str, float]:
    """The test metrics of a classifier's metrics.json."""
    scores = metrics.get("test", metrics)
    return {k: v for k, v in scores.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(part)}" for key, part in list(value.items())[:12])
    if isinstance(value, list | tuple):
        numbers = all(isinstance(part, int) for part in value) and len(value) == 2
        return (" x " if numbers else ", ").join(_text(part) for part in value)
    return f"{value:.6g}" if isinstance(value, float) else _name(str(value))


def _name(text: str) -> str:
    """The last part of a path; what is no path stays."""
    return ", ".join(Path(part).name if "/" in part else part for part in text.split(", "))


def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    options = {"undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, autoescape=False, **options)  # Markdown, not HTML
    return environment.get_template("card.md.jinja")
