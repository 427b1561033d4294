"""From the configuration of a run to its objective and its loop settings."""

from typing import Any

import torch

from unmask.errors import UserError
from unmask.planning.initial_weights import Start
from unmask.runs.config import Config
from unmask.runs.run import make_objective
from unmask.seeds import mix
from unmask.training.multi_size import answer_by_size
from unmask.training.objective import Objective
from unmask.training.resolution import parse as parse_resolutions
from unmask.training.settings import Fit
from unmask.training.speed.activation_checkpoint import recompute

FIT = ("batch", "lr", "weight_decay", "clip", "accumulate", "seed", "optimizer", "floor")


def make_fit(settings: dict[str, Any], count: int, **more: Any) -> Fit:
    """The loop's configuration of a task, for `count` training images."""
    steps = max(1, round(settings["epochs"] * count / settings["batch"]))
    warmup = min(round(settings["warmup"] * count / settings["batch"]), steps // 2)
    more = {"fused": settings.get("fused") != "off"} | more
    named: dict[str, Any] = {name: settings[name] for name in FIT} | {"betas": tuple(settings["betas"])} | more
    return Fit(steps=steps, warmup=warmup, **named)


def build(config: Config, start: Start) -> Objective:
    """The objective with its first weights: from the seed, or from `--init`."""
    torch.manual_seed(mix(config.training.seed, 0x1217))
    objective = make_objective(config)
    start.load(objective, config.method.decoder, config.data.bands)
    sizes = [stage.size for stage in parse_resolutions(config.training.resolutions)[:-1]]
    twins = {size: make_objective(config.at_size(size)) for size in sizes}
    if twins and config.runtime.strategy == "fsdp2":
        raise UserError("--resolutions and --strategy fsdp2 do not go together: shards belong to a model of one size")
    if twins:
        answer_by_size(objective, dict(twins), make_objective(config) if start.facts else None)
    if config.runtime.checkpoint_activations == "on":
        for part in (objective, *twins.values()):
            recompute(part)
    return objective
