"""What a comparison is made of: the contestants, what each may spend, and how they are judged."""

from dataclasses import dataclass

from unmask.runs.config import Config
from unmask.runtime.machine import Machine
from unmask.studies.opening import Opening

METHOD, RANDOM, PIXELS, WEIGHTS = "method", "random init", "raw pixels", "weights"  # kinds of contestants
FROZEN = ("knn", "linear", "attentive")  # judges of features that stay as they are
FINETUNE = "finetune"


@dataclass(frozen=True)
class Budget:
    """What every method may spend on each of its trainings: one of the three."""

    hours: float | None = None  # at the speed measured before
    images: float | None = None  # drawn from the loader; an image counts once, however many views are made of it
    flops: float | None = None  # counted, forward and backward

    def text(self, word: str) -> str:
        """In words. word: what a sample is called."""
        if self.hours is not None:
            return f"{self.hours:g} hours of training for each, at the measured speed"
        if self.images is not None:
            return f"{self.images:,.0f} {word}s for each"
        return f"{self.flops:.3g} FLOPs of training for each"

    @property
    def option(self) -> str:
        name, value = next((n, v) for n, v in vars(self).items() if v is not None)
        return f"--{name} {value:.12g}"

    def steps(self, batch: int, seconds: float, flops: float) -> float:
        """Optimizer steps that it pays for. batch: images of a step; seconds: of a step; flops: for an image."""
        if self.hours is not None:
            return 3600 * self.hours / seconds
        if self.images is not None:
            return self.images / batch
        assert self.flops is not None
        return self.flops / (flops * batch)


@dataclass(frozen=True)
class Contestant:
    """One that is judged."""

    name: str  # a method as the user wrote it, weights by their place, or what the baseline is called
    kind: str
    config: Config | None = None  # of a method's training
    flops: float = 0.0  # of a training's forward and backward, for an image; the mean over its stages
    before: float = 0.0  # share of the FLOPs that its stages spend, before the method itself is trained
    seconds: float = 0.0  # of a training, as forecast
    memory_mb: int = 0  # of a training step

    @property
    def trained(self) -> bool:
        return self.kind == METHOD

    @property
    def total_flops(self) -> float:
        """Of a whole training."""
        return 0.0 if self.config is None else self.flops * self.images

    def spent(self, share: float) -> float:
        """FLOPs until a share of the method's own training is done."""
        return self.total_flops * (self.before + (1 - self.before) * share)

    @property
    def images(self) -> int:
        """That a training draws, its stages included."""
        return 0 if self.config is None else self.config.training.steps * self.config.training.batch


@dataclass(frozen=True)
class Judging:
    """How contestants are judged."""

    evaluators: tuple[str, ...]  # parts of evaluation/frozen, "attentive"
    labels_per_class: tuple[int, ...]  # for fine-tuning; none: it is left out
    draws: int  # choices of these labels, for each seed
    epochs: float | None  # of fine-tuning; None: chosen for the number of labels
    points: int  # of a training at which frozen features are judged: all of it, half, a quarter, ...

    def of(self, contestant: Contestant) -> tuple[str, ...]:
        """The evaluators of its frozen features: raw pixels have no tokens to attend to."""
        return tuple(name for name in self.evaluators if contestant.kind != PIXELS or name != "attentive")


@dataclass(frozen=True)
class Setting:
    """All that a process needs to do any piece of a comparison."""

    opening: Opening
    contestants: tuple[Contestant, ...]
    reference: Config  # of the encoder that all share
    judging: Judging
    machine: Machine
    out: str  # folder of the study
    seed: int  # the first of the seeds

    def contestant(self, name: str) -> Contestant:
        return next(contestant for contestant in self.contestants if contestant.name == name)


def shares(points: int) -> list[float]:
    """Of a training, from early to the whole: 0.25, 0.5, 1.0."""
    return [0.5**power for power in reversed(range(points))]
