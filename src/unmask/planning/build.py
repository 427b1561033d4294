"""Builds the objective from the configuration of a run."""

from pathlib import Path

import torch

from unmask.models.decoder import Decoder
from unmask.planning.initial_weights import Start
from unmask.planning.loaders import transform_of
from unmask.runs.config import Config
from unmask.runs.run import make_objective
from unmask.runtime.distributed.launcher import launch
from unmask.seeds import mix
from unmask.training.objective import Objective
from unmask.training.resolution import parse as parse_resolutions
from unmask.weights.frozen_teacher import FrozenTeacher, teachers_of
from unmask.weights.teacher_cache import FOLDER, no_room


def build(config: Config, start: Start) -> Objective:
    """The objective with its initial weights: from the seed, or from `--init`."""
    torch.manual_seed(mix(config.training.seed, 0x1217))
    objective = make_objective(config)
    start.load(objective, config.method.decoder, config.data.bands)
    decoder = getattr(objective, "decoder", None)
    for stage in parse_resolutions(config.training.resolutions):
        if isinstance(decoder, Decoder):
            decoder.require_grid(objective.encoder.grid.covering(stage.size))
    return objective


def keep_features(config: Config, objective: Objective, images: int, folder: Path) -> str | None:
    """Lets frozen teachers keep their features in the folder of a run, where its views are the same in every epoch.

    Returns a sentence for the user: that they are kept, or why they are not although views may be the same; nothing
    where there is no teacher, or where views change.
    """
    teachers = [teacher for teacher in teachers_of(objective) if isinstance(teacher, FrozenTeacher)]
    views = transform_of(config.data, config.model.patch_size).variants
    if not teachers or views is None:
        return None
    if launch().world > 1 or parse_resolutions(config.training.resolutions):
        why = "several processes" if launch().world > 1 else "--resolutions"
        return f"The teacher's features are computed in every step: they are kept for whole images, but not with {why}."
    need = views * images * sum(teacher.bytes_per_view for teacher in teachers)
    if (why := no_room(need, folder)) is not None:
        return f"The teacher's features are computed in every step: {why}."
    for number, teacher in enumerate(teachers):
        teacher.keep_in(folder / FOLDER / str(number))
    return (
        "The views are the same in every epoch: the teacher's features are computed once and kept in"
        f" {folder / FOLDER}, {need / 2**20:,.0f} MB at the most, until the run is finished."
    )
