"""Chooses what belongs to a method: its parts, its views, and the settings that it wants otherwise than MAE."""

import inspect
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from unmask.choice import Choice
from unmask.data.modality import IMAGE, make_modality
from unmask.data.sheet import Sheet
from unmask.data.transform import Transform, make_transform
from unmask.errors import UserError, many
from unmask.files import Json
from unmask.masking.mask import Sampler
from unmask.methods.families.guide import Guide
from unmask.models.encoder import Encoder
from unmask.plain import check_options
from unmask.planning.length import BUDGET
from unmask.planning.plan import ASKED, Plan
from unmask.registry import build, find, names, parse
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Objective, Rebuilder
from unmask.weights.frozen_teacher import RANDOM, teachers_of

TEXTS = ("mask", "target", "decoder")
PARTS = (*TEXTS, "masks_per_image", "decoder_warmup")  # options that some methods have


def split_text(settings: dict[str, Any]) -> None:
    """Moves parts that the method's text names, `mae(mask=block)`, to their own options. Raises UserError where both
    are given."""
    name, options = parse(settings["method"])
    for part in PARTS:
        if part in options:
            inside = options.pop(part)
            if part in TEXTS and not isinstance(inside, str):
                raise UserError(f"a {part} is named by text, name or name(option=value); got {inside!r}")
            if part in inspect.signature(find("method", name)).parameters:
                check_options(find("method", name), name, {part: inside})
            if settings.get(part) not in (None, inside):
                raise UserError(
                    f"the {part} is given twice: {settings[part]} and, in {settings['method']!r}, {inside}; leave one"
                )
            settings[part] = inside
    rest = ", ".join(f"{key}={value!r}" for key, value in options.items())
    settings["method"] = f"{name}({rest})" if rest else name


def refuse_strange_options(settings: dict[str, Any]) -> None:
    """Raises UserError for options that the method does not have: they would do nothing."""
    name = parse(settings["method"])[0]
    takes = inspect.signature(find("method", name)).parameters
    has = [part for part in PARTS if part in takes]
    for part in PARTS:
        if settings.get(part) is not None and part not in takes:
            own = f"it has --{', --'.join(p.replace('_', '-') for p in has)}" if has else "it has none of its kind"
            raise UserError(f"{name} has no --{part.replace('_', '-')}; {own}")


def for_method(choices: Mapping[str, Choice], text: str) -> dict[str, Choice]:
    """Those that a method has, and that its text does not say itself."""
    name, written = parse(text)
    takes = inspect.signature(find("method", name)).parameters
    return {k: choice for k, choice in choices.items() if k not in PARTS or (k in takes and k not in written)}


def plan_method(plan: Plan, sheet: Sheet, machine: Machine, encoder: Encoder) -> None:
    """Fills in the method's parts and its own defaults."""
    settings = plan.settings
    split_text(settings)
    refuse_strange_options(settings)
    name, written = parse(settings["method"])
    method: type[Objective] = find("method", name)
    takes = inspect.signature(method).parameters
    cheap = settings.get("recipe") == BUDGET
    if cheap and settings["decoder"] == "cross":
        size = "dim=128, depth=2, heads=4" if encoder.dim < 384 else "dim=512, depth=4, heads=16"
        settings["decoder"] = f"cross({size})"
        plan.reasons["decoder"] += ": shallow, and no wider than the encoder needs"
    if cheap and machine.device == "cuda" and "masks_per_image" in takes:
        plan.choose("masks_per_image", 2, f"recipe {BUDGET}: each decoded image is used twice")
    given = {name for name in ("lr", "blr") if settings.get(name) is not None}
    defaults = method.defaults_of(written, encoder, sheet, machine)
    own = {key: choice for key, choice in defaults.items() if key in takes and key not in (*PARTS, *written)}
    if own:
        options = written | {key: choice.value for key, choice in own.items()}
        settings["method"] = f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"
    plan.choose_all({key: choice for key, choice in defaults.items() if not (given and key in ("lr", "blr"))})
    for part in TEXTS:
        default = takes[part].default if part in takes else None
        if isinstance(default, str):
            plan.choose(part, default, f"{name}'s own")
    if "masks_per_image" in takes:
        plan.choose("masks_per_image", 1, "as in MAE; --masks-per-image for more")


def plan_views(plan: Plan, encoder: Encoder) -> Objective:
    """Chooses the views that the method needs; returns the method, built to ask it. Raises UserError for options that
    these views do not have."""
    settings = plan.settings
    parts = {part: settings[part] for part in PARTS if settings.get(part) is not None}
    with torch.device("meta"):
        objective: Objective = build("method", settings["method"], encoder=encoder, **parts)
    transform = check_views(settings, objective, tuple(settings["image_size"]), settings["patch_size"])
    note_mask(plan, objective, encoder)
    plan.choose(
        "views",
        list(objective.views),
        f"what {parse(settings['method'])[0]} sees of each {make_modality(encoder.modality).word}",
    )
    if transform.notes:
        plan.reasons["views"] = "; ".join((plan.reasons.get("views", ASKED), *transform.notes))
    plan.words = dict(objective.words)
    if isinstance(objective, Rebuilder) and not objective.drawable:
        plan.words["undrawn"] = objective.undrawn
    plan.divisible = objective.divisible or settings["grad_cache"]
    return objective


def note_mask(plan: Plan, objective: Objective, encoder: Encoder) -> None:
    """Says which ratios are hidden and which teacher is asked, where a mask has such. Raises UserError for a mask that
    leaves nothing of this grid visible."""
    mask, guide = getattr(objective, "mask", None), getattr(objective, "guide", None)
    if isinstance(mask, Sampler):
        mask.require_grid(encoder.grid)
        notes = [mask.note(encoder.grid), guide.note() if isinstance(guide, Guide) else ""]
        if any(notes):
            plan.reasons["mask"] = "; ".join(filter(None, (plan.reasons.get("mask", ASKED), *notes)))


def note_teachers(plan: Plan, objective: Objective) -> None:
    """Says which frozen weights the method learns from, how they see images, and their licence."""
    teachers = teachers_of(objective)
    plan.teachers = [teacher.facts for teacher in teachers]
    for number, teacher in enumerate(teachers):
        name = teacher.word if len(teachers) == 1 else f"{teacher.word} {number + 1}"
        plan.settings[name], plan.reasons[name] = str(teacher.facts["source"]), teacher.note
    plan.remarks = [f"{teacher.word} {line}" for teacher in teachers for line in teacher.lines]


WEIGHTS = ("of", "attention_of", "teacher", "tokenizer")  # options of parts and methods that say where weights lie


def with_absolute_paths(text: str) -> str:
    """The same part with paths of weights named from the root, so that they are the same from any folder."""
    name, options = parse(text)
    changed = {key: _absolute(key, value) for key, value in options.items()}
    if changed == options:
        return text
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in changed.items())})"


def _absolute(key: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    if key in WEIGHTS:
        path = Path(value).expanduser()
        if (
            value != RANDOM
            and path.exists()
            and path.suffix != ".py"
            and not (key == "tokenizer" and value in names("tokenizer"))
        ):
            return str(path.resolve())
    with suppress(UserError):  # a path with brackets
        return with_absolute_paths(value) if "(" in value else value
    return value


def check_views(settings: Json, objective: Objective, size: tuple[int, ...], patch: int) -> Transform:
    """What makes the views that the method is going to see. Raises UserError where `--views` makes other than it needs,
    or where they have no use for an option."""
    name, needed, texts = parse(settings["method"])[0], tuple(objective.views), settings.get("views")
    shown = tuple(texts or needed)
    shared = {"size": size, "channels": settings["channels"] or 3, "patch": patch}
    shared |= {"modality": make_modality(settings.get("modality") or IMAGE)}
    shared |= {} if settings.get("crop") is None else {"crop": settings["crop"]}
    transform = make_transform(shown, **shared)
    if texts is not None and len(transform.sizes) != (count := len(make_transform(needed, **shared).sizes)):
        raise UserError(
            f"{name} needs {many(count, 'view')} of each image, as {' '.join(needed)} makes;"
            f" --views {' '.join(texts)} makes {len(transform.sizes)}"
        )
    taken = {key for text in shown for key in inspect.signature(find("transform", parse(text)[0])).parameters}
    if settings["crop_kind"] != "random" and "crop_kind" not in taken:
        raise UserError(f"--crop-kind {settings['crop_kind']} belongs to the view crops; {name} sees {' '.join(shown)}")
    return transform


def refuse_batch(settings: Json, method: type[Objective], images: int | None = None) -> None:
    """Raises UserError for a batch that the method's loss says nothing about, or that is to be worked off in parts
    where the loss compares all of its samples. images: that there are; None: not known yet."""
    name, batch, crops = parse(settings["method"])[0], settings["batch"], settings.get("views_per_image") or 1
    comparing = issubclass(method, Comparing)
    if settings["grad_cache"] and not comparing:
        raise UserError(f"--grad-cache is for methods that compare the samples of a batch, which {name} does not")
    if not method.divisible and settings["accumulate"] not in (None, 1) and not settings["grad_cache"]:
        remedy = ", or --grad-cache gives the gradient of the whole batch, in two passes" if comparing else ""
        raise UserError(
            f"{name} compares the samples of a batch, so parts of it are not the same: give a smaller --batch instead"
            f" of --accumulate {settings['accumulate']}{remedy}"
        )
    parts = settings["accumulate"] or 1
    if batch is not None and method.divisible and batch // parts < method.least:
        raise UserError(
            f"{name} needs {method.least} images or more at a time, for batch normalisation: --batch {batch} in {parts}"
            f" parts (--accumulate) leaves {batch // parts}"
        )
    if batch is not None and batch < method.least:
        raise UserError(f"{name} compares the images of a batch: --batch is {method.least} or more, got {batch}")
    if images is not None and images < method.least:
        raise UserError(f"{name} compares images with each other, and there is only {many(images, 'image')}")
    if comparing and crops > 1:
        raise UserError(
            f"{name} compares the images of a batch, and --views-per-image {crops} puts each in it {crops} times"
        )
    if comparing and images is not None and batch is not None and batch > images:
        raise UserError(
            f"{name} compares the images of a batch, and one of {batch} holds some of the {images} images twice: give"
            f" --batch {images} or less"
        )
