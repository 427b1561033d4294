"""What cannot work whatever the data is: refused before the data is looked at, which may take long.

A model is built from the options as the run will build it, but on torch's meta device, where tensors have shapes and no
memory: a ViT-H in 0.2 s. What only the data decides has a stand-in, and nothing is refused because of a stand-in.
"""

from dataclasses import dataclass, fields, replace

import torch

from unmask.data.modality import IMAGE, make_modality
from unmask.errors import UserError
from unmask.files import Json
from unmask.masking.grid import Grid
from unmask.masking.mask import Sampler
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.names import known_name
from unmask.planning.initial_weights import Start
from unmask.planning.length import refuse_warmup
from unmask.planning.loaders import divide
from unmask.planning.method import check_views, refuse_batch, refuse_strange_options, split_text
from unmask.planning.model import patch_of, plan_resolutions, usual_model
from unmask.planning.plan import Plan
from unmask.planning.stages.divide import budgets, stage_options, stages_of
from unmask.registry import build, find, is_foreign, parse
from unmask.runtime.machine import Machine
from unmask.training.objective import Objective

UNITS, PATCH = 8, 8  # along a side, and pixels of one, where the data decides: any decoder can have these
LARGE = Grid((UNITS, UNITS), (720_720,) * 2)  # units of more values than any data gives, which 1 to 16 divide


@dataclass(frozen=True)
class Parts:
    """Texts of the parts of a run, and the method's numbers; None where they are left open."""

    method: str
    mask: str | None
    target: str | None
    decoder: str | None
    decoder_warmup: int | None
    masks_per_image: int | None

    @classmethod
    def of(cls, options: Json) -> "Parts":
        return cls(**{field.name: options[field.name] for field in fields(cls)})


def refuse_early(asked: Json, start: Start, machine: Machine) -> None:
    """Raises UserError for options that cannot work. start: the weights that `--init` names, opened."""
    asked = dict(asked)
    refuse_typos(asked)
    budgets(asked, stages_of(asked["method"]))
    plan = Plan(asked)
    channels = asked["channels"]
    start.guide(plan, channels or 3)
    settings = plan.settings
    refuse_batch(settings, find("method", parse(settings["method"])[0]))
    if settings["batch"]:
        divide(settings["batch"], settings["accumulate"] or 1, settings["views_per_image"])
    if settings["steps"]:
        refuse_warmup(settings["decoder_warmup"] or 0, settings["steps"])
    settings["model"] = model = settings["model"] or usual_model(0, machine.device)
    kind, options = settings.get("modality"), parse(model)[1]
    if (_foreign(model) and not known_name(model)) or "groups" in options or ("rotary_order" in options and not kind):
        return  # what somebody else's encoder takes, and whether it can be built without memory, is not known; nor how
        # many bands or axes there are
    size, unit = settings["image_size"], settings["image_size"] or settings["patch_size"]
    if size and len(size) > 2 and kind is None:
        return  # what kind of data it is, and so what its axes are, is known once it is looked at
    modality = make_modality(kind or IMAGE)
    settings["patch_size"] = patch = settings["patch_size"] or patch_of(model, size or (UNITS * PATCH,) * 2, machine)
    full = modality.full_size(size or (UNITS * patch,) * 2)
    if size:
        settings["image_size"] = list(full)
        plan_resolutions(plan)
    encoder = _encoder(model, full, modality.unit(patch, full), channels or 3)
    objective = _refuse_parts(Parts.of(settings), encoder, bool(size), bool(unit and channels))
    if size or not any(_foreign(text) for text in settings["views"] or objective.views):
        check_views(settings, objective, full, patch)
    for stage in stages_of(settings["method"]):
        own = stage_options(asked, stage, {})
        refuse_typos(own)
        _refuse_parts(Parts.of(own), encoder, bool(size), bool(unit and channels))


def refuse_typos(asked: Json) -> None:
    """Names that are wrong are said first, before what is said of models."""
    split_text(asked)
    parts = Parts.of(asked)
    if parts.mask:
        build("mask", parts.mask)
    for kind, text in (("target", parts.target), ("decoder", parts.decoder), ("method", parts.method)):
        if text:
            find(kind, parse(text)[0])
    for text in asked.get("views") or ():
        find("transform", parse(text)[0])
    refuse_strange_options(asked)


def _encoder(model: str, size: tuple[int, ...], patch: int | tuple[int, ...], channels: int) -> Encoder:
    try:
        with torch.device("meta"):
            return create_encoder(model, image_size=size, patch_size=patch, channels=channels)
    except UserError:  # maybe only of the meta device, if a model looks at values when it is made
        return create_encoder(model, image_size=size, patch_size=patch, channels=channels)


def _refuse_parts(parts: Parts, encoder: Encoder, grid_known: bool, values_known: bool) -> Objective:
    """values_known: how many values a unit has. Parts of other packages may refuse a grid that is a stand-in."""
    texts = {"mask": parts.mask, "decoder": parts.decoder, "target": parts.target if values_known else None}
    built = {kind: text for kind, text in texts.items() if text and (grid_known or not _foreign(text))}
    if parts.target and getattr(find("target", parse(parts.target)[0]), "only", ""):
        parts = replace(parts, target=None)  # it is built once it is known what the data are
        built.pop("target", None)
    with torch.device("meta"):
        if parts.target and "target" not in built and not _foreign(parts.target):
            build("target", parts.target, grid=LARGE, channels=encoder.channels, encoder=encoder)
        more = {"decoder_warmup": parts.decoder_warmup, "masks_per_image": parts.masks_per_image}
        more = {name: value for name, value in more.items() if value is not None}
        objective = build("method", parts.method, encoder=encoder, **built, **more)
    mask = getattr(objective, "mask", None)
    if grid_known and isinstance(mask, Sampler):
        mask.require_grid(encoder.grid)
    return objective


def _foreign(text: str) -> bool:
    return is_foreign(parse(text)[0])
