"""The pages of `--help`: commands by purpose, options by subject, the usual ones first, defaults in words.

The text of an option is the comment behind its field. What is left open says what happens then instead of `None`.
"""

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

COMMANDS = {
    "learn": ("pretrain", "transfer", "demo"),
    "look and judge": ("show", "evaluate", "labels", "stress", "ablate", "doctor"),
    "use": ("predict", "embed", "search", "map", "anomaly"),
    "move": ("export", "pack"),
    "set up": ("completion",),
}
USUAL = ("out", "on", "to", "model", "image_size", "epochs", "hours", "device")  # what most people give; always first
GROUPS = {  # every option of every command by subject, in the order in which they are shown
    "data": (
        "images", "classes", "format", "masks", "void", "most", "most_test", "labels_per_class", "fractions",
        "labels", "test", "calibrate_on", "normal", "held_out", "query", "groups", "corruptions", "severities",
        "channels", "bands", "crop", "crop_kind", "crop_size", "side", "size", "quality", "scale",
        "class_limit", "flip", "jitter", "distort", "randaug", "mixup", "cutmix", "erase", "eval_crop",
        "input_size", "resize", "resolutions", "views_per_image", "balanced", "shuffle_buffer", "in_memory",
        "max_bad", "shard_mb",
    ),
    "model": (
        "init", "patch_size", "pooling", "head", "pyramid", "width", "window", "global_blocks", "relative",
        "anchors", "ratios", "rois", "block", "layers", "against",
    ),
    "method": (
        "recipe", "method", "mask", "masks_per_image", "target", "decoder", "decoder_warmup", "protocol",
        "protocols", "blocks", "axes", "what", "action", "ratio", "sets", "normalize_errors", "false_alarms", "memory",
        "tiles", "blur", "by", "standardize", "duplicates", "threshold", "top", "compare", "background",
        "true_statistics", "normalize", "precision_of_export", "quantize",
    ),
    "length": ("steps", "patience", "draws", "seeds", "finetune_epochs"),
    "optimisation": (
        "batch", "accumulate", "checkpoint_activations", "optimizer", "lr", "blr", "floor", "warmup",
        "layer_decay", "weight_decay", "betas", "clip", "drop_path", "ema", "smoothing", "dice", "seed",
    ),
    "machine": (
        "precision", "matmul", "attention", "allocator", "fused", "compile", "channels_last", "threads",
        "workers", "jobs", "strategy", "devices", "nodes", "deterministic",
    ),
    "output": (
        "log_to", "log_every", "save_every", "keep_every", "keep_last", "spike", "rollbacks", "probe", "probe_every",
        "index", "save_maps", "heatmaps", "json", "config", "dry_run",
    ),
}  # fmt: skip
OPEN = {  # what happens where an option is left open
    "model": "chosen for the data and the machine",
    "image_size": "chosen from the data",
    "patch_size": "chosen from the image size",
    "channels": "as the data has",
    "epochs": "chosen from the data and the time it takes",
    "hours": "no limit",
    "steps": "chosen from the data and the time it takes",
    "mask": "the method's own",
    "target": "the method's own",
    "decoder": "the method's own",
    "resolutions": "one size",
    "recipe": "none",
    "bands": "not named",
    "masks_per_image": "1",
    "batch": "chosen for the model and the memory",
    "accumulate": "as many parts as memory needs",
    "lr": "chosen from the batch",
    "blr": "not used",
    "config": "none",
    "probe": "none",
    "probe_every": "none",
    "threads": "one per core",
    "workers": "measured",
    "devices": "all that were started",
    "nodes": "all that were started",
    "clip": "off",
    "most": "all of them",
    "most_test": "all of them",
    "against": "none",
    "on": "none",
    "query": "none",
    "head": "chosen for the encoder",
    "images": "where the annotations lead",
    "fractions": "none",
    "masks": "none",
    "save_maps": "none",
    "patience": "chosen from the length",
    "keep_every": "four copies of the weights",
    "keep_last": "2, and 1 when the run is finished",
    "finetune_epochs": "fits the time",
    "window": "all patches see each other",
    "ema": "off",
    "log_to": "metrics.jsonl alone",
}
WIDTH, COLUMN = 100, 30


def overview(options_by_name: dict[str, Any]) -> str:
    """The page of `unmask --help`."""
    lines = [
        "usage: unmask COMMAND [options]",
        "",
        "Masked autoencoders: learn from unlabeled images, then use and judge what was learned.",
    ]
    rest = [name for name in options_by_name if not any(name in names for names in COMMANDS.values())]
    for purpose, names in (*COMMANDS.items(), ("more", tuple(rest))):
        lines += ["", f"{purpose}:"] if set(names) & options_by_name.keys() else []
        lines += [f"  {n:<10} {summary(options_by_name[n])}" for n in names if n in options_by_name]
    return "\n".join(
        [*lines, "", "unmask COMMAND --help lists the options of a command; unmask --version tells the version."]
    )


def page(name: str, options: Any) -> str:
    """The page of `unmask NAME --help`. options: the frozen dataclass of the command."""
    fields, texts, types_of = (
        dataclasses.fields(options),
        comments(options),
        get_type_hints(options, include_extras=True),
    )
    places = [field for field in fields if is_positional(types_of[field.name])]
    usage = " ".join(metavar(field.name, types_of[field.name], field.default) for field in places)
    lines = [f"usage: unmask {name} {usage} [options]".replace("  ", " "), "", inspect.cleandoc(options.__doc__ or "")]
    if places:
        lines.append("")
        for field in places:
            lines += _entry(metavar(field.name, types_of[field.name], None), texts.get(field.name, ""))
    for group, members in _grouped([field for field in fields if field not in places]).items():
        lines += ["", f"{group}:"]
        for field in members:
            lines += _entry(_flag(field, types_of[field.name]), _described(field, texts.get(field.name, "")))
    return "\n".join(lines)


def describe(options: Any) -> str:
    """Every option with its text and default, by its name in Python: for docstrings."""
    lines, texts, hints = [], comments(options), get_type_hints(options, include_extras=True)
    fields = dataclasses.fields(options)
    places = [field for field in fields if is_positional(hints[field.name])]
    groups = _grouped([field for field in fields if field not in places])
    for field in [*places, *(field for members in groups.values() for field in members)]:
        default = f" [{field.default}]" if isinstance(field.default, bool) else ""
        text = f"{field.name}: {_described(field, texts.get(field.name, ''))}{default}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


def _grouped(fields: Sequence[dataclasses.Field]) -> dict[str, list[dataclasses.Field]]:
    by_name = {field.name: field for field in fields}
    groups = {"usual options": [by_name.pop(name) for name in USUAL if name in by_name]}
    for group, names in GROUPS.items():
        groups[group] = [by_name.pop(name) for name in names if name in by_name]
    groups["more"] = list(by_name.values())
    return {group: members for group, members in groups.items() if members}


def _entry(left: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - COLUMN) or [""]
    fits = len(left) < COLUMN - 3
    first = [f"  {left:<{COLUMN - 2}}{lines[0]}".rstrip()] if fits else [f"  {left}", " " * COLUMN + lines[0]]
    return [*first, *(" " * COLUMN + line for line in lines[1:])]


def _described(field: dataclasses.Field, text: str) -> str:
    """The text of an option with its default, unless the text says it."""
    if field.default is dataclasses.MISSING or "by default" in text or isinstance(field.default, bool):
        return text
    if field.default is None or field.default in ((), ""):
        default = OPEN.get(field.name, "chosen, and printed in the plan")
    elif field.default == "auto":
        default = "chosen" if "auto" in text else "auto: chosen"
    else:
        default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
    return f"{text} [{default}]"


def _flag(field: dataclasses.Field, hint: Any) -> str:
    flag = f"--{field.name.replace('_', '-')}"
    if isinstance(field.default, bool):
        return f"--no-{field.name.replace('_', '-')}" if field.default else flag
    return f"{flag} {metavar(field.name, hint, None, flag=True)}"


def metavar(name: str, hint: Any, default: Any, flag: bool = False) -> str:
    """What to write for a value: N, X, PATH, TEXT, the choices, or several of them."""
    kinds, several, choices = _kinds(hint)
    word = (
        "|".join(choices)
        if choices
        else "PATH"
        if Path in kinds
        else "X"
        if float in kinds
        else "N"
        if int in kinds
        else "TEXT"
    )
    if not flag:
        word = name.upper()
    word = f"{word} ..." if several else word
    return f"[{word}]" if default in ((), "") else word


def _kinds(hint: Any) -> tuple[set[Any], bool, tuple[str, ...]]:
    """The plain types in a type hint, whether it takes several values, and its choices."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _kinds(get_args(hint)[0])
    if origin is Literal:
        return {str}, False, tuple(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        parts = [_kinds(part) for part in get_args(hint) if part is not type(None)]
        return set().union(*(p[0] for p in parts)), any(p[1] for p in parts), tuple(c for p in parts for c in p[2])
    if origin is not None:
        return set().union(*(_kinds(part)[0] for part in get_args(hint) if part is not ...)), True, ()
    return {hint}, False, ()


def choices_of(hint: Any) -> tuple[str, ...]:
    """The words that an option may have, where its type names them."""
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return tuple(map(str, inner))
    if get_origin(hint) is Annotated:
        named = [words for part in inner[1:] for words in getattr(part, "words", ())]
        return tuple(named) or choices_of(inner[0])
    return tuple(word for part in inner for word in choices_of(part)) if isinstance(hint, types.UnionType) else ()


def is_positional(hint: Any) -> bool:
    marker = get_args(Positional[int])[1]  # the public name is all that tyro promises
    return get_origin(hint) is Annotated and marker in get_args(hint)[1:]


def summary(options: Any) -> str:
    return (options.__doc__ or "").strip().splitlines()[0]


@functools.cache
def comments(options: Any) -> dict[str, str]:
    """The comments behind the fields of a dataclass and of those that it extends, by field."""
    texts: dict[str, str] = {}
    for part in reversed(options.__mro__):
        if not dataclasses.is_dataclass(part) or not vars(part).get("__annotations__"):
            continue  # one that joins others has no fields of its own
        lines = textwrap.dedent(inspect.getsource(part)).splitlines()  # type: ignore[arg-type]
        for node in ast.parse("\n".join(lines)).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                own = [line.partition("  # ")[2] for line in lines[node.lineno - 1 : node.end_lineno]]
                texts[node.target.id] = " ".join(text for text in own if text).strip()
    return texts
