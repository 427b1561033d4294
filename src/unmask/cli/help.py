"""The pages of `--help`: commands by purpose, options by subject, the usual ones first, defaults in words.

The text of an option is the comment behind its field, or above it where it is long. It says what happens without the
option, unless that is a plain value, which stands behind it in brackets.
"""

import ast
import dataclasses
import functools
import inspect
import shutil
import textwrap
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional

COMMANDS = {
    "learn": ("advise", "pretrain", "distil", "transfer", "demo"),
    "look and judge": ("show", "evaluate", "labels", "stress", "audit", "compare", "ablate", "tune", "doctor"),
    "use": ("predict", "embed", "search", "map", "select", "anomaly"),
    "move": ("export", "pack"),
    "set up": ("completion",),
}
# what most people give; always first
USUAL = ("out", "on", "to", "into", "model", "image_size", "epochs", "hours", "device")
GROUPS = {  # every option of every command by subject, in the order in which they are shown
    "data": (
        "modality", "kind", "images", "classes", "format", "masks", "void", "most", "most_test",
        "labels_per_class", "fractions", "templates",
        "labels", "test", "calibrate_on", "normal", "held_out", "query", "groups", "unlabelled",
        "corruptions", "severities",
        "channels", "bands", "crop", "crop_kind", "crop_size", "side", "size", "quality", "scale",
        "class_limit", "flip", "views", "jitter", "distort", "randaug", "mixup", "cutmix", "erase", "eval_crop",
        "clips", "input_size", "resize", "resolutions", "views_per_image", "balanced", "shuffle_buffer", "in_memory",
        "max_bad", "shard_mb",
    ),
    "model": (
        "init", "mean", "std", "weights_size", "ema", "weights_ema", "student", "teacher_size", "patch_size",
        "pooling", "head", "pyramid", "width", "window", "global_blocks", "relative",
        "anchors", "ratios", "rois", "block", "layers", "against", "parts",
    ),
    "method": (
        "recipe", "method", "mask", "masks_per_image", "target", "decoder", "decoder_warmup", "protocol",
        "protocols", "methods", "evaluators", "blocks", "axes", "axis", "equal", "sizes", "what",
        "action", "ratio", "progress", "sets",
        "normalize_errors", "false_alarms", "memory", "tiles", "blur",
        "loss", "features", "maps", "strides",
        "by", "standardize", "duplicates", "threshold", "top", "compare", "among", "recall", "background",
        "true_statistics", "normalize", "precision_of_export", "quantize",
    ),
    "length": ("minutes", "flops", "steps", "patience", "draws", "seeds", "points", "finetune_epochs"),
    "optimisation": (
        "batch", "accumulate", "grad_cache", "checkpoint_activations", "optimizer", "lr", "blr", "floor", "warmup",
        "layer_decay", "weight_decay", "betas", "clip", "drop_path", "smoothing", "dice", "seed",
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
WIDEST, NARROWEST, COLUMN = 100, 50, 26  # characters of a page, and where texts begin
SAYS = ("by default", "required", "in place of", "auto:")  # words of a text that says what happens without the option


def overview(options_by_name: dict[str, type]) -> str:
    """The page of `unmask --help`."""
    lines = ["usage: unmask COMMAND [options]", ""]
    lines += textwrap.wrap(
        "Masked autoencoders: learn from unlabeled images, then use and judge what was learned.", _width()
    )
    rest = [name for name in options_by_name if not any(name in names for names in COMMANDS.values())]
    for purpose, names in (*COMMANDS.items(), ("more", tuple(rest))):
        lines += ["", f"{purpose}:"] if set(names) & options_by_name.keys() else []
        for name in (n for n in names if n in options_by_name):
            text, start = summary(options_by_name[name]), f"  {name:<11}"
            lines += textwrap.wrap(text, _width(), initial_indent=start, subsequent_indent=" " * len(start))
    end = "unmask COMMAND --help lists the options of a command; unmask --version tells the version."
    return "\n".join([*lines, "", *textwrap.wrap(end, _width())])


def page(name: str, options: type) -> str:
    """The page of `unmask NAME --help`. options: the frozen dataclass of the command."""
    fields, texts, types_of = (
        dataclasses.fields(options),
        comments(options),
        get_type_hints(options, include_extras=True),
    )
    places = [field for field in fields if is_positional(types_of[field.name])]
    usage = " ".join(metavar(field.name, types_of[field.name], field.default) for field in places)
    lines = [f"usage: unmask {name} {usage} [options]".replace("  ", " "), "", *_paragraphs(options.__doc__ or "")]
    if places:
        lines.append("")
        for field in places:
            lines += _entry(metavar(field.name, types_of[field.name], None), texts.get(field.name, ""))
    for group, members in _grouped([field for field in fields if field not in places]).items():
        lines += ["", f"{group}:"]
        for field in members:
            lines += _entry(_flag(field, types_of[field.name]), _described(field, texts.get(field.name, "")))
    return "\n".join(lines)


def describe(options: type) -> str:
    """Every option with its text and default, by its name in Python: for docstrings."""
    lines, texts, hints = [], comments(options), get_type_hints(options, include_extras=True)
    fields = dataclasses.fields(options)
    places = [field for field in fields if is_positional(hints[field.name])]
    groups = _grouped([field for field in fields if field not in places])
    for field in [*places, *(field for members in groups.values() for field in members)]:
        default = f" [{field.default}]" if isinstance(field.default, bool) else ""
        text = f"{field.name}: {_described(field, texts.get(field.name, ''))}{default}"
        lines += textwrap.wrap(text, WIDEST, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


def _grouped(fields: Sequence[dataclasses.Field]) -> dict[str, list[dataclasses.Field]]:
    by_name = {field.name: field for field in fields}
    groups = {"usual options": [by_name.pop(name) for name in USUAL if name in by_name]}
    for group, names in GROUPS.items():
        groups[group] = [by_name.pop(name) for name in names if name in by_name]
    groups["more"] = list(by_name.values())
    return {group: members for group, members in groups.items() if members}


def place_on_page(name: str) -> int:
    """Where an option stands among all, as the pages show them."""
    order = [*USUAL, *(member for members in GROUPS.values() for member in members)]
    return order.index(name) if name in order else len(order)


def _width() -> int:
    """Characters in a line: those of the terminal, within limits; 80 where there is none."""
    return min(WIDEST, max(NARROWEST, shutil.get_terminal_size((80, 24)).columns))


def _paragraphs(text: str) -> list[str]:
    """Running text in lines that fit; lines that are indented or hold a command stay as they are."""
    lines: list[str] = []
    for part in inspect.cleandoc(text).split("\n\n"):
        kept = any(line.startswith("  ") for line in part.splitlines()) or ": " in part.splitlines()[-1][:7]
        lines += ["", *(part.splitlines() if kept else textwrap.wrap(" ".join(part.split()), _width()))]
    return lines[1:]


def _entry(left: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, _width() - COLUMN) or [""]
    fits = len(left) < COLUMN - 3
    first = [f"  {left:<{COLUMN - 2}}{lines[0]}".rstrip()] if fits else [f"  {left}", " " * COLUMN + lines[0]]
    return [*first, *(" " * COLUMN + line for line in lines[1:])]


def _described(field: dataclasses.Field, text: str) -> str:
    """The text of an option with its default, unless the text says it."""
    default = field.default
    if isinstance(default, bool) or default in (dataclasses.MISSING, None, (), "") or "by default" in text:
        return text
    return f"{text} [{' '.join(map(str, default)) if isinstance(default, tuple) else default}]"


def _flag(field: dataclasses.Field, hint: object) -> str:
    flag = f"--{field.name.replace('_', '-')}"
    if isinstance(field.default, bool):
        return f"--no-{field.name.replace('_', '-')}" if field.default else flag
    return f"{flag} {metavar(field.name, hint, None, flag=True)}"


def metavar(name: str, hint: object, default: object, flag: bool = False) -> str:
    """What to write for a value: N, X, PATH, TEXT, the choices, or several of them."""
    kinds, several, choices = kinds_of(hint)
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


def kinds_of(hint: object) -> tuple[set[object], bool, tuple[str, ...]]:
    """The plain types in a type hint, whether it takes several values, and its choices."""
    origin = get_origin(hint)
    if origin is Annotated:
        return kinds_of(get_args(hint)[0])
    if origin is Literal:
        return {str}, False, tuple(map(str, get_args(hint)))
    if origin in (Union, types.UnionType):
        parts = [kinds_of(part) for part in get_args(hint) if part is not type(None)]
        return set().union(*(p[0] for p in parts)), any(p[1] for p in parts), tuple(c for p in parts for c in p[2])
    if origin is not None:
        return set().union(*(kinds_of(part)[0] for part in get_args(hint) if part is not ...)), True, ()
    return {hint}, False, ()


def choices_of(hint: object) -> tuple[str, ...]:
    """The words that an option may have, where its type names them."""
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return tuple(map(str, inner))
    if get_origin(hint) is Annotated:
        named = [words for part in inner[1:] for words in getattr(part, "words", ())]
        return tuple(named) or choices_of(inner[0])
    return tuple(word for part in inner for word in choices_of(part)) if isinstance(hint, types.UnionType) else ()


def is_positional(hint: object) -> bool:
    marker = get_args(Positional[int])[1]  # the public name is all that tyro promises
    return get_origin(hint) is Annotated and marker in get_args(hint)[1:]


def summary(options: type) -> str:
    return (options.__doc__ or "").strip().splitlines()[0]


@functools.cache
def comments(options: type) -> dict[str, str]:
    """The comments behind or above the fields of a dataclass and of those that it extends, by field."""
    texts: dict[str, str] = {}
    for part in reversed(options.__mro__):
        if not dataclasses.is_dataclass(part) or not vars(part).get("__annotations__"):
            continue  # one that joins others has no fields of its own
        lines = textwrap.dedent(inspect.getsource(part)).splitlines()
        (tree,) = ast.parse("\n".join(lines)).body
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                own = [line.partition("  # ")[2] for line in lines[node.lineno - 1 : node.end_lineno]]
                above = node.lineno - 1
                while lines[above - 1].startswith("    # "):
                    above -= 1
                    own.insert(0, lines[above].removeprefix("    # "))
                texts[node.target.id] = " ".join(text for text in own if text).strip()
    return texts
