"""The commands that advice ends with, as words: the last one runs on this machine as it stands."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.choice import Choice
from unmask.data.shards.stream import is_stream
from unmask.studies.advice.answer import AtHand, Command
from unmask.studies.advice.facts import Facts

USUAL_BAD = 0.05  # share of bad images that `pretrain` accepts by itself
ALL_GREY = 0.99  # share of images, as in the table's remark


@dataclass(frozen=True)
class Places:
    """What the commands name, as the person named it."""

    data: tuple[str, ...]
    on: tuple[str, ...]  # labelled data; empty where there are no labels
    device: str  # "auto" for none
    free: Callable[[str], Path]  # a name for a new folder or file -> one that is free


Options = Mapping[str, "str | int | float | Sequence[int]"]  # of `pretrain`, by name


def pretraining_options(facts: Facts, places: Places, several_labels: bool, init: str) -> Options:
    """Options of `pretrain` that follow from the decisions; what is left out is planned. init: weights, or ""."""
    options: dict[str, str | int | float | Sequence[int]] = {"method": facts.method}
    if facts.method == "mae" and facts.mask != "unknown":
        options["mask"] = facts.mask
    if init:
        options["init"] = init
    if facts.channels == 3 and facts.grey_as_colour >= ALL_GREY and not init:
        options["channels"] = 1
    if facts.bad_share > USUAL_BAD:
        options["max_bad"] = min(1.0, math.ceil(20 * (facts.bad_share + 0.05)) / 20)
    if len(places.on) == 1 and facts.classes > 1 and not several_labels and not is_stream(places.on):
        options["probe"] = places.on[0]
    if places.device != "auto":
        options["device"] = places.device
    return options


def make_commands(
    facts: Facts,
    places: Places,
    weights: AtHand,
    options: Options,
    planned: Mapping[str, Choice],
) -> list[Command]:
    """options: of `pretrain`; planned: what its plan chose, of which size and length are named."""
    lengths = {} if "init" in options else {name: planned[name].value for name in ("image_size", "patch_size")}
    lengths |= {"epochs": planned["epochs"].value, "out": str(places.free("run"))}
    pretraining = ("unmask", *pretraining_words(places, {**options, **lengths}))
    if facts.start == "published":
        using, first = _using(facts, places, weights.name), _judging(facts, places, weights)
        if weights.here:
            return [Command("to pretrain on these images instead", pretraining), *first, using]
        needs = Command(f"{using.purpose}; fetches the weights, so it needs a network", using.words)
        return [*first, needs, Command("without a network: pretrain here, with nothing to fetch", pretraining)]
    if facts.start == "continue" and not weights.here:
        size = ("image_size", "patch_size", "channels", "epochs")  # of another network
        same = {name: value for name, value in {**options, **lengths}.items() if name not in size}
        words = ("unmask", *pretraining_words(places, {"init": weights.name, **same}))
        return [
            Command("continue from the weights; fetches them, so it needs a network", words),
            Command("without a network: pretrain from scratch here", pretraining),
        ]
    return [Command("pretrain; the same command goes on where it stopped", pretraining)]


def _using(facts: Facts, places: Places, weights: str) -> Command:
    """What published weights are good for with these labels."""
    device = () if places.device == "auto" else ("--device", places.device)
    if facts.annotated != "none":
        task, what = {"boxes": ("detect", "detector"), "masks": ("segment", "segmenter")}[facts.annotated]
        rest = ("--to", task, "--on", *places.on, "--out", str(places.free(what)), *device)
        return Command(f"a {what} on the weights", ("unmask", "transfer", weights, *rest))
    if facts.classes < 2:
        rest = (*places.data, "--out", str(places.free("features.npz")), *device)
        return Command("features of all images", ("unmask", "embed", weights, *rest))
    protocol = ("--protocol", facts.judge) if facts.judge in ("linear", "full") else ()
    rest = ("--to", "classify", "--on", *places.on, *protocol, "--out", str(places.free("classifier")), *device)
    return Command("a classifier on the weights", ("unmask", "transfer", weights, *rest))


def _judging(facts: Facts, places: Places, weights: AtHand) -> list[Command]:
    """kNN and linear classifiers on the weights' features, which are computed once."""
    if facts.start != "published" or facts.classes < 2:
        return []
    device = () if places.device == "auto" else ("--device", places.device)
    words = ("unmask", "evaluate", weights.name, "--on", *places.on, "--out", str(places.free("evaluation")), *device)
    needs = "" if weights.here else "; fetches the weights, so it needs a network"
    return [Command(f"kNN and linear classifiers on its features, in one pass{needs}", words)]


def pretraining_words(places: Places, options: Options) -> list[str]:
    """Words of a command line of `pretrain`."""
    words = ["pretrain", *places.data]
    for name, value in options.items():
        several = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *(f"{v:g}" if isinstance(v, float) else str(v) for v in several)]
    return words
