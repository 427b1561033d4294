"""Makes the trainings of a run one after the other; finished ones are not made again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from unmask.data.datasets.images import Samples
from unmask.data.datasets.stream_preview import StreamSamples
from unmask.files import STAGE, read_json, write_json
from unmask.planning.build import build, flops_per_image, keep_features, prepare
from unmask.planning.initial_weights import Start, start_of
from unmask.planning.loaders import make_loader
from unmask.planning.stages.same import reuse
from unmask.planning.stages.trainings import Training, write_plans
from unmask.runs.run import CONFIG, SUMMARY, write_kept
from unmask.runtime.distributed.data_parallel import Devices
from unmask.runtime.distributed.ranks import Ranks
from unmask.training import checkpoint
from unmask.training.log import Log, Silent
from unmask.training.loop import fit
from unmask.training.speed.compile import ready
from unmask.weights.teacher_cache import forget


@dataclass(frozen=True)
class Spent:
    """What one of several trainings in a row took."""

    method: str
    steps: int
    images: int
    flops: float  # forward and backward, of all images
    seconds: float  # of training; of a stage that was reused, those that it took then
    reused: str | None = None  # the folder that it was copied from


def in_turn(
    trainings: Sequence[Training],
    train: Callable[[Training], None],
    ranks: Ranks,
    say: Callable[[str], object] = lambda text: None,
) -> None:
    """Calls `train(training)` for each that is not finished, in order; copies what a run beside has made.

    Their plans lie in their folders (`write_plans`). Stopped at any moment, the same call goes on from there.
    """
    last = trainings[-1]
    out = last.folder if last.stage is None else last.folder.parent.parent
    for training in trainings:
        stage, folder = training.stage, training.folder
        if stage is not None and not ranks.from_first((folder / SUMMARY).exists):
            made = ranks.only_first(partial(reuse, folder, out))
            if made is not None:
                say(f"{stage.method}: {made} was made of the same images with the same settings and is used again")
        if stage is None or not ranks.from_first((folder / SUMMARY).exists):
            if len(trainings) > 1:
                say(f"\n{training.title(len(trainings))}")
            train(training)


def fit_in_stages(
    trainings: Sequence[Training],
    samples: Samples | StreamSamples,
    devices: Devices,
    log: Callable[[Training], Log] = lambda training: Silent(),
) -> list[Spent]:
    """Trains all in turn, without pictures and pages: for studies. Returns what each took.

    trainings: as `trainings_of` plans them. In their folders a call that was stopped goes on to the same bits, and
    `Run` opens them afterwards. log: makes the log of each.
    """

    def train(training: Training) -> None:
        config, folder = training.config, training.folder
        folder.mkdir(parents=True, exist_ok=True)
        config.to_json(folder / CONFIG)
        begun = checkpoint.begun(folder)
        objective = build(config, Start() if begun else start_of(config))
        keep_features(config, objective, len(samples), folder)
        if not begun:
            prepare(objective, partial(make_loader, config, samples))
        ready(objective, config.runtime)
        told = log(training)
        try:
            steps = fit(objective, make_loader(config, samples), config.training, folder, devices, told)
        finally:
            told.close()
        if ranks.first:
            write_kept(config, objective, folder)
            forget(folder)
            write_json(folder / SUMMARY, {"finished": True, "steps": steps, "seconds": round(told.last[1], 3)})
        ranks.wait()

    ranks = Ranks()
    ranks.only_first(lambda: write_plans(trainings))
    if not (trainings[-1].folder / SUMMARY).exists():
        in_turn(trainings, train, ranks)
    return [spent(training, samples) for training in trainings]


def spent(training: Training, samples: Samples | StreamSamples) -> Spent:
    """What a finished training took."""
    folder, config = training.folder, training.config
    summary = read_json(folder / SUMMARY)
    steps, images = summary["steps"], summary["steps"] * config.training.batch
    flops, reused = flops_per_image(config, samples) * images, read_json(folder / STAGE).get("reused")
    return Spent(config.method.name, steps, images, flops, summary["seconds"], reused)
