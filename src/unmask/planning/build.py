"""Builds the objective from the configuration of a run."""

import torch

from unmask.models.decoder import Decoder
from unmask.planning.initial_weights import Start
from unmask.runs.config import Config
from unmask.runs.run import make_objective
from unmask.seeds import mix
from unmask.training.objective import Objective
from unmask.training.resolution import parse as parse_resolutions


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
