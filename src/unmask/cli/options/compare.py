"""`unmask compare DATA --on LABELLED --methods mae dino`: which way of learning suits these images?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Gt
from tyro.conf import arg

from unmask import registry
from unmask.cli.shared_options import JUDGES, StudyOptions, require_judges
from unmask.errors import UserError
from unmask.plain import (
    Batch,
    Few,
    ModelName,
    Names,
    NonNegativeInt,
    Place,
    PositiveFloat,
    PositiveInt,
    WeightsPlaces,
    settle,
    texts,
)

__all__ = ["Compare"]

BUDGETS = ("hours", "images", "flops")
Counts = Annotated[int | Sequence[int], arg(constructor=tuple[int, ...])]


@dataclass(frozen=True, kw_only=True)
class Compare(StudyOptions):
    """Compare MAE with its rivals on your data: one encoder, one budget, one judge.

    Says which method is ahead, by how much, and where that cannot be said.
    """

    out: Place = Path("comparison")  # folder for the study; repeat the command to continue it
    # methods to compare, with options if you like: mae simclr "dino(momentum=0.99)"; the first is the one that tables
    # compare with
    methods: Names = ("mae", "simclr", "dino")
    # budget of each training, required: time, at the speed that is measured before; or --images, or --flops
    hours: PositiveFloat | None = None
    images: PositiveFloat | None = None  # in place of --hours: images drawn, however many views are made of each
    flops: PositiveFloat | None = None  # in place of --hours: counted FLOPs, forward and backward, such as 1e15
    seeds: PositiveInt = 1  # trainings of every method, each with its own seed
    # published or own weights to compare with, frozen and fine-tuned: timm models, runs, files; by default none
    against: WeightsPlaces = ()
    evaluators: Names = JUDGES  # judges of frozen features: knn, linear, attentive, or parts of your own
    labels_per_class: Annotated[Counts, Gt(0)] = (10, 50)  # for fine-tuning; 0 for none
    draws: Few = 1  # choices of these labels for each seed, the same for every method
    points: Few = 3  # of a training at which frozen features are judged: 3 are a quarter, half, and all of it
    finetune_epochs: PositiveFloat | None = None  # passes of fine-tuning; by default more, the fewer the labels
    test: NonNegativeInt | None = 2000  # number of test images, 0 for all
    model: ModelName = None  # timm model that all methods train; by default chosen as by pretrain
    batch: Batch | None = None  # images per optimizer step, for all methods; by default what each chooses
    jobs: PositiveInt = 1  # trainings and fits side by side, each in a process of its own
    compile: str = "off"  # compile trainings: off, on, graphs or auto; compiling takes a minute or two for each

    def __post_init__(self):
        for name in ("methods", "against"):
            settle(self, name, texts(getattr(self, name)))
        settle(self, "evaluators", tuple(dict.fromkeys(texts(self.evaluators))))
        numbers = (self.labels_per_class,) if isinstance(self.labels_per_class, int) else tuple(self.labels_per_class)
        settle(self, "labels_per_class", () if numbers == (0,) else tuple(dict.fromkeys(numbers)))
        super().__post_init__()
        self._check_methods()
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"got --{' and --'.join(given)}" if given else "none is given"
            raise UserError(f"give each training a budget: one of --hours, --images and --flops; {said}")
        if self.images is not None and self.images < 1:
            raise UserError(f"--images {self.images:g} is less than one image")
        if not self.evaluators and not self.labels_per_class:
            raise UserError("nothing would be judged: give --evaluators or --labels-per-class")

    def _check_methods(self) -> None:
        if not self.methods:
            raise UserError("say which --methods to compare, such as mae simclr dino")
        refuse_twins(texts(self.methods))
        for text in texts(self.methods):
            registry.require("method", text)
        require_judges(texts(self.evaluators))


def refuse_twins(methods: Sequence[str]) -> None:
    """Raises UserError for a method that is named twice, also in other words: "mae" and "mae()"."""
    earlier: list[str] = []
    for text in methods:
        twin = next((other for other in earlier if registry.parse(other) == registry.parse(text)), None)
        if twin is not None:
            named = f"{text} twice" if twin == text else f"{twin} and {text}"
            raise UserError(
                f"--methods names {named}: both would be the same training. Tell them apart by options, such as"
                f' "{registry.parse(text)[0]}(...)", or repeat the study with --seeds'
            )
        earlier.append(text)
