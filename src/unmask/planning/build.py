"""Builds the objective and the loop settings from the configuration of a run."""

from typing import Any

import torch

from unmask.models.decoder import Decoder
from unmask.planning.initial_weights import Start
from unmask.runs.config import Config
from unmask.runs.run import make_objective
from unmask.seeds import mix
from unmask.training.objective import Objective
from unmask.training.resolution import parse as parse_resolutions
from unmask.training.settings import Fit

FIT = ("batch", "lr", "weight_decay", "clip", "accumulate", "seed", "optimizer", "floor")


def make_fit(settings: dict[str, Any], count: int, **more: Any) -> Fit:
    """The loop's configuration of a task, for `count` training images."""
    steps = max(1, round(settings["epochs"] * count / settings["batch"]))
    warmup = min(round(settings["warmup"] * count / settings["batch"]), steps // 2)
    more = {"fused": settings.get("fused") != "off"} | more
    named: dict[str, Any] = {name: settings[name] for name in FIT} | {"betas": tuple(settings["betas"])} | more
    return Fit(steps=steps, warmup=warmup, **named)


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
