"""What the advice costs on this machine: a plan of `pretrain` with a few measured steps, and the time of features."""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from unmask.choice import Choice
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.planning.initial_weights import Start
from unmask.planning.length import HOURS
from unmask.planning.plan import Plan
from unmask.planning.pretrain import Draft, Given, choose_length, choose_parts, measure_stages
from unmask.runtime.distributed.ranks import Ranks
from unmask.runtime.machine import Machine, choices
from unmask.runtime.progress import doing
from unmask.studies.advice.appearance import lost_detail
from unmask.studies.advice.facts import Facts, LabelCounts
from unmask.studies.advice.look import Look
from unmask.tasks.classification.plan import usual_epochs

TRIED = 4  # images whose features are computed to measure the time of one
BACKWARD = 3  # cost of a training step in forward passes
FINE = 256  # images by which lost detail is measured


@dataclass(frozen=True)
class Cost:
    """Of the advised step, and how it is known."""

    seconds: float
    memory_mb: int
    text: str


def draft_plan(look: Look, options: Json, here: Machine, start: Start) -> Draft:
    """The parts that `pretrain` would choose with these options, without a measurement."""
    options = dict(options)
    if look.sheet.count > look.sheet.checked and options["in_memory"] == "auto":
        options["in_memory"] = "off"  # keeping all images would read them all
    if options["compile"] == "auto":
        options["compile"] = "off"  # compiling takes a minute, for a measurement of seconds
    samples = look.samples
    given = Given(options, options, {}, look.sheet, samples, here, choices(here.device))
    return choose_parts(Plan(dict(options)), given, start)


def with_plan(facts: Facts, draft: Draft, look: Look) -> Facts:
    """The facts, with what the plan's image size means for these images."""
    settings = draft.plan.settings
    height, width = settings["image_size"]
    patch = settings["patch_size"]
    some = list(look.pixels.values())[:FINE]
    return replace(
        facts,
        image_size=min(height, width),
        patches=(height // patch) * (width // patch),
        lost=lost_detail(some, min(height, width)),
    )


def forecast(draft: Draft, start: Start) -> Cost:
    """Measures a few steps and chooses the length, as `pretrain` does."""
    doing("measuring a few steps")
    config = choose_length(draft, measure_stages(draft, start, Ranks()), 0.0)
    expected, training = config.record.expected, config.training
    hours = HOURS[draft.given.machine.device]
    compiled = ", without compiling" if draft.given.machine.device == "cuda" else ""
    text = (
        f"{training.steps:,} steps of {training.batch} images, {draft.plan.settings['epochs'] or 0:g} passes, at"
        f" {expected.images_per_second:,.0f} images/s measured here{compiled}; the plan takes about {hours:g} hours at"
        " the most, and more helps"
    )
    return Cost(expected.seconds, expected.memory_mb, text)


def with_length(facts: Facts, draft: Draft, cost: Cost) -> Facts:
    """The facts, with the length of the plan."""
    epochs = float(draft.plan.settings["epochs"])
    return replace(facts, epochs=epochs, hours_for_100=cost.seconds / epochs * 100 / 3600)


def features_cost(encoder: Encoder, count: int, device: str) -> Cost:
    """Of computing features of `count` images once; time does not depend on the values of the weights."""
    doing("measuring features")
    encoder = encoder.to(device)
    size: Any = encoder.grid.size
    images = torch.rand(TRIED, encoder.channels, *size, device=device) * 255
    with torch.no_grad():
        float(encoder(images[:1]).units.sum())  # waits for the device, as below
        began = time.perf_counter()
        float(encoder(images).units.sum())
        each = (time.perf_counter() - began) / TRIED
    tokens = encoder.grid.num_units
    text = (
        f"{count:,} images at {size[0]} x {size[1]} pixels ({tokens:,} patches), at {1 / each:,.1f} images/s measured"
        " here with a network of this shape"
    )
    return Cost(each * count, 0, text)


def classifier_cost(features: Cost, facts: Facts, labels: LabelCounts) -> Cost:
    """Of `transfer` on the labelled images. features: of all images, once."""
    count = sum(labels.counts.values())
    epochs, tuned = usual_epochs(count, facts.device), facts.judge == "full"
    how = f"{epochs} passes over {count:,} labelled images" + (", forward and backward" if tuned else "")
    seconds = features.seconds / facts.images * count * epochs * (BACKWARD if tuned else 1)
    return Cost(seconds, 0, f"{how}, estimated from the speed of features")


def plan_choices(draft: Draft) -> dict[str, Choice]:
    """What the plan chose and why, of the settings that advice names."""
    names = ("model", "image_size", "patch_size", "crop", "flip", "batch", "lr", "epochs")
    plan = draft.plan
    return {name: Choice(plan.settings[name], plan.reasons.get(name, "")) for name in names if name in plan.settings}
