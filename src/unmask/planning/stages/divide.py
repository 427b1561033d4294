"""Divides a run into its stages and the training of the method itself: the options of each, and its budget."""

from collections.abc import Mapping, Sequence
from typing import Any

from unmask.choice import Choice
from unmask.errors import UserError, many
from unmask.files import Json
from unmask.methods.settings import START
from unmask.planning.method import PARTS
from unmask.registry import find, parse
from unmask.training.objective import Objective, Stage

BUDGETS = ("steps", "epochs", "hours")
# What a user may say of the method, which says nothing of its stages unless they are alike
OF_THE_METHOD = (*PARTS, "views", "lr", "blr", "weight_decay", "warmup", "clip", "accumulate", "probe", "probe_every")
SWITCHES: Json = {"grad_cache": False, "resolutions": None, "recipe": None, "crop_kind": "random"}
OF_THE_WEIGHTS: Json = {START: "none", "bands": None, "ema": False, "student": False, "weights_size": None}


def stages_of(method: str) -> tuple[Stage, ...]:
    """The stages of a method's text, in order. Raises UserError where they leave nothing of the budget."""
    name, options = parse(method)
    kind: type[Objective] = find("method", name)
    stages = tuple(kind.stages(options))
    if any(stage.share <= 0 for stage in stages) or sum(stage.share for stage in stages) >= 1:
        shares = ", ".join(f"{stage.share:g}" for stage in stages)
        raise UserError(f"{method}: the shares of its stages ({shares}) must be above 0 and leave some of the budget")
    return stages


def own_share(stages: Sequence[Stage]) -> float:
    """What the stages leave of the budget to the method itself."""
    return 1.0 - sum(stage.share for stage in stages)


def budgets(options: Mapping[str, Any], stages: Sequence[Stage]) -> list[dict[str, Choice]]:
    """The budget of each stage and, last, of the method itself, where one was given: steps, epochs or hours.

    Raises UserError for steps that leave none for one of them.
    """
    given = next((name for name in BUDGETS if options.get(name) is not None), None)
    if given is None or not stages:
        return [{}] * len(stages) + [{}]
    total: float = options[given]
    parts = [total * share for share in (*(stage.share for stage in stages), own_share(stages))]
    if given == "steps":
        parts = [float(max(1, round(part))) for part in parts[:-1]]
        parts.append(total - sum(parts))
        if parts[-1] < 1:
            raise UserError(
                f"--steps {total:g} is too small for {many(len(stages) + 1, 'training')} in a row"
                f" ({', '.join(stage.method for stage in stages)} come first): give {len(stages) + 1} or more"
            )
    why = [f"{part / total:.0%} of the {total:g} asked for" for part in parts]
    return [{given: Choice(int(part) if given == "steps" else part, text)} for part, text in zip(parts, why)]


def stage_options(options: Json, stage: Stage, chosen: Json) -> Json:
    """The options of a stage. options: as the user gave them, for the method; chosen: of the method's plan, which are
    the stage's too: the same model sees the same images."""
    own = OF_THE_WEIGHTS if stage.alike else dict.fromkeys(OF_THE_METHOD) | SWITCHES | OF_THE_WEIGHTS
    shared = (*SHARED, "mask", "decoder") if stage.alike else SHARED
    return options | own | {name: chosen[name] for name in shared if name in chosen} | {"method": stage.method}


SHARED = ("model", "image_size", "patch_size", "channels", "batch", "seed", "flip", "views_per_image")


def reasons_of(reasons: Mapping[str, str], method: str, options: Json) -> dict[str, str]:
    """Why a stage has its options: those of a recipe that are still there, and those that the method's plan chose."""
    kept = {name: why for name, why in reasons.items() if options.get(name) is not None}
    shared = {name: f"as for {method}" for name in SHARED if name not in ("seed", "views_per_image")}
    return kept | shared | {"method": f"comes before {method}"}
