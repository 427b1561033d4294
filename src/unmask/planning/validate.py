"""What cannot work whatever the data is: refused before the data is looked at, which may take long.

A model is built from the options as the run will build it, but on torch's meta device, where tensors have shapes and no
memory: a ViT-H in 0.2 s. What only the data decides has a stand-in, and nothing is refused because of a stand-in.
"""

import torch

from unmask.data.transforms.colour import check_colours
from unmask.errors import UserError
from unmask.files import Json
from unmask.masking.grid import Grid
from unmask.models.encoder import Encoder, create_encoder, known_name
from unmask.planning.initial_weights import Start
from unmask.planning.length import refuse_warmup
from unmask.planning.loaders import divide
from unmask.planning.model import patch_of, plan_resolutions, usual_model
from unmask.planning.plan import Plan
from unmask.registry import build, find, is_foreign, parse
from unmask.runtime.machine import Machine

UNITS, PATCH = 8, 8  # along a side, and pixels of one, where the data decides: any decoder can have these
LARGE = Grid((UNITS, UNITS), (1024, 1024))  # a unit of more values than any data gives


def refuse_early(asked: Json, start: Start, machine: Machine) -> None:
    """Raises UserError for options that cannot work. start: the weights that `--init` names, opened."""
    refuse_typos(asked)
    plan = Plan(dict(asked))
    channels = asked["channels"]
    start.guide(plan, channels or 3)
    settings = plan.settings
    if settings["batch"]:
        divide(settings["batch"], settings["accumulate"] or 1, settings["views_per_image"])
    if settings["steps"]:
        refuse_warmup(settings["decoder_warmup"] or 0, settings["steps"])
    if settings["jitter"] and channels:
        check_colours(channels)
    settings["model"] = model = settings["model"] or usual_model(0, machine.device)
    if _foreign(model) and not known_name(model):
        return  # what somebody else's encoder takes, and whether it can be built without memory, is not known
    size, unit = settings["image_size"], settings["image_size"] or settings["patch_size"]
    settings["patch_size"] = patch = settings["patch_size"] or patch_of(model, size or (UNITS * PATCH,) * 2, machine)
    if size:
        plan_resolutions(plan)
    encoder = _encoder(model, tuple(size or (UNITS * patch,) * 2), patch, channels or 3)
    _refuse_parts(settings, encoder, bool(size), bool(unit and channels))


def refuse_typos(asked: Json) -> None:
    """Names that are wrong are said first, before what is said of models."""
    build("mask", asked["mask"])
    for kind in ("target", "decoder", "method"):
        if asked[kind]:
            find(kind, parse(asked[kind])[0])


def _encoder(model: str, size: tuple[int, ...], patch: int, channels: int) -> Encoder:
    try:
        with torch.device("meta"):
            return create_encoder(model, image_size=size, patch_size=patch, channels=channels)
    except UserError:  # maybe only of the meta device, if a model looks at values when it is made
        return create_encoder(model, image_size=size, patch_size=patch, channels=channels)


def _refuse_parts(settings: Json, encoder: Encoder, grid_known: bool, values_known: bool) -> None:
    """values_known: how many values a unit has. Parts of other packages may refuse a grid that is a stand-in."""
    names = {
        name: settings[name]
        for name in ("mask", "target", "decoder")
        if settings[name] and (grid_known or not _foreign(settings[name])) and (name != "target" or values_known)
    }
    with torch.device("meta"):
        if settings["target"] and "target" not in names and not _foreign(settings["target"]):
            build("target", settings["target"], grid=LARGE, channels=encoder.channels)
        more = {name: settings[name] for name in ("decoder_warmup", "masks_per_image")}
        objective = build("method", settings["method"], encoder=encoder, **names, **more)
    if grid_known and hasattr(objective, "mask"):
        objective.mask(1, encoder.grid, "cpu", torch.Generator())  # refuses a grid that leaves nothing to hide


def _foreign(text: str) -> bool:
    return is_foreign(parse(text)[0])
