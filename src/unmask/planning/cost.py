"""What a step of a method computes, beside MAE on the same encoder: counted, so that no machine plays a part in it."""

import copy
from collections.abc import Sequence

import torch

from unmask.data.transform import make_transform
from unmask.errors import UserError
from unmask.methods.mae import MAE
from unmask.planning.plan import Plan
from unmask.training.objective import Objective
from unmask.training.speed.step_cost import step_flops

IMAGES = 2  # that are counted: batch norms need two


def note_cost(plan: Plan, objective: Objective, decoder: str) -> None:
    """Adds the row "cost": FLOPs of an image in a step, and how many times MAE's. Nothing is noted of MAE itself,
    unless it has a teacher.

    objective: to be thrown away; decoder: the one that MAE would have with this encoder.
    """
    if isinstance(objective, MAE) and not plan.teachers:
        return
    flops, why = _flops(plan, objective, plan.settings["views"]), "of an image, forward and backward, counted"
    try:
        mae = MAE(copy.deepcopy(objective.encoder), decoder=decoder)
    except UserError:
        why += "; mae cannot train this encoder"
    else:
        why += f"; {flops / _flops(plan, mae, ['crops']):.2g} times what mae takes with this encoder"
    plan.settings["cost"], plan.reasons["cost"] = f"{flops / 1e9:.3g} GFLOPs", why


def _flops(plan: Plan, objective: Objective, views: Sequence[str]) -> float:
    settings, channels = plan.settings, objective.encoder.channels
    size = tuple(settings["image_size"])
    transform = make_transform(tuple(views), size=size, channels=channels, patch=settings["patch_size"])
    chance = torch.Generator().manual_seed(0)
    shapes = [(IMAGES, channels, *size) for size in transform.sizes]
    images = [torch.randint(0, 256, shape, generator=chance, dtype=torch.uint8) for shape in shapes]
    objective.scheduled = objective.schedules(0.0)
    with torch.random.fork_rng():
        return step_flops(objective.train(), {"views": images})
