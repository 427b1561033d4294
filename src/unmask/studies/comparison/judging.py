"""Judges what a comparison trained: frozen features, and fine-tuning with few labels, all on the same test images."""

import base64
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from unmask import registry
from unmask.data.datasets.classification import Labelled
from unmask.data.datasets.draws import draw_rows
from unmask.evaluation.attentive import attentive_probe
from unmask.evaluation.compare import choose
from unmask.evaluation.features import Features, split_features, split_pixels
from unmask.files import Json
from unmask.models.encoder import Encoder
from unmask.models.state import at_random
from unmask.planning.plan import Plan
from unmask.runs.run import make_encoder
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.machine import autocast_dtype
from unmask.studies.comparison.settings import PIXELS, RANDOM, WEIGHTS, Contestant, Setting
from unmask.studies.comparison.training import trained_encoder
from unmask.tasks.classification.finetune import answers, finetune
from unmask.tasks.classification.plan import plan_transfer
from unmask.tasks.classification.settings import ClassifySettings
from unmask.tasks.open import load_encoder

SPLITS = ("train", "val", "test")
DRAWS = 1000  # for each seed, at most


def encoder_of(setting: Setting, contestant: Contestant, seed: int, share: float = 1.0) -> Encoder:
    """What is judged; of a method, the encoder after a share of its training."""
    if contestant.trained:
        return trained_encoder(contestant, seed, setting.out, share)
    if contestant.kind == WEIGHTS:
        return load_encoder(contestant.name)
    return at_random(make_encoder(setting.reference), seed)


def judge_frozen(
    setting: Setting,
    labelled: Labelled,
    contestant: Contestant,
    seed: int,
    share: float,
    evaluators: tuple[str, ...],
    tell: Callable[[str, float], object],
) -> list[Json]:
    """Each evaluator's result on frozen features: pooling and strength are chosen on the validation split."""
    tell("features", 0.0)
    began, lines = time.monotonic(), []
    splits: dict[str, Features] | None = None
    encoder = None if contestant.kind == PIXELS else encoder_of(setting, contestant, seed, share)
    device, autocast = setting.machine.device, autocast_dtype(setting.machine.precision)
    for number, evaluator in enumerate(evaluators):
        tell(evaluator, number / len(evaluators))
        if evaluator == "attentive":
            assert encoder is not None
            probed = attentive_probe(encoder.to(device), labelled, device, autocast, seed)
            line = {"setting": probed.setting, "pooling": "attentive", "correct": packed(probed.correct)}
        else:
            splits = splits or _features(setting, labelled, encoder)
            part = registry.build("evaluator", evaluator)
            _, pooling, chosen = choose(part, splits["train"], splits["val"])
            train, test = splits["train"], splits["test"]
            predicted = chosen.fit_predict(train.pools[pooling], train.labels, test.pools[pooling])
            line = {"setting": str(chosen), "pooling": pooling, "correct": packed(predicted == test.labels)}
        ended = time.monotonic()
        lines.append({"judge": evaluator, "seconds": round(ended - began, 2), **line})
        began = ended
    return lines


def _features(setting: Setting, labelled: Labelled, encoder: Encoder | None) -> dict[str, Features]:
    """Of all splits; raw pixels where there is no encoder."""
    if encoder is None:
        data = setting.reference.data
        return {split: split_pixels(labelled, split, data.channels, data.image_size) for split in SPLITS}
    device, autocast = setting.machine.device, autocast_dtype(setting.machine.precision)
    encoder.to(device).eval()
    return {split: split_features(labelled, encoder, split, device, autocast) for split in SPLITS}


def judge_finetuned(
    setting: Setting, labelled: Labelled, contestant: Contestant, seed: int, number: int, draw: int
) -> Json:
    """The result of training everything with `number` labels per class: the same ones for all contestants."""
    began = time.monotonic()
    scratch = contestant.kind == RANDOM
    encoder = encoder_of(setting, contestant, seed)
    rows = rows_of(setting, labelled, number, seed, draw)
    settings = tuning_of(setting, len(rows), encoder, labelled, _place(setting.seed, seed, draw), scratch=scratch)
    samples = labelled.samples("train", encoder.channels, rows)
    task = finetune(encoder, samples, settings, make_devices(settings), scratch=scratch)
    size = encoder.grid.size
    loader = labelled.loader("test", encoder.channels, labelled.source.modality.whole(size))
    classifier = task.result.to(setting.machine.device)
    predicted = answers(classifier, loader, setting.machine.device, autocast_dtype(setting.machine.precision))
    correct = predicted.argmax(axis=1) == labelled.labels("test")
    return {"correct": packed(correct), "labels": len(rows), "seconds": round(time.monotonic() - began, 2)}


def rows_of(setting: Setting, labelled: Labelled, number: int, seed: int, draw: int) -> list[int]:
    """Training images with the labels of one draw; every seed of the study has draws of its own."""
    place = _place(setting.seed, seed, draw) - setting.seed
    return [int(row) for row in draw_rows(labelled.labels("train"), number, place, setting.seed)]


def _place(first: int, seed: int, draw: int) -> int:
    """A number of its own for every seed and draw, whatever their number. first: of the seeds."""
    return first + DRAWS * (seed - first) + draw


def tuning_of(
    setting: Setting, count: int, encoder: Encoder, labelled: Labelled, seed: int, *, scratch: bool
) -> ClassifySettings:
    """What `transfer` would choose for so many labels; from scratch, its longer recipe."""
    chosen = {"protocol": "full", "seed": seed, "epochs": setting.judging.epochs, "compile": "off"}
    return plan_transfer(Plan(chosen), count, encoder, scratch, labelled.sheet, setting.machine)


def packed(correct: Bool[np.ndarray, "n"]) -> str:
    """One bit for each test image, as text."""
    return f"{len(correct)}:{base64.b64encode(np.packbits(correct).tobytes()).decode()}"


def unpacked(text: str) -> Bool[np.ndarray, "n"]:
    count, bits = text.split(":")
    return np.unpackbits(np.frombuffer(base64.b64decode(bits), dtype=np.uint8), count=int(count)).astype(bool)


def accuracy(line: Json) -> float:
    """Of a recorded result."""
    return float(unpacked(line["correct"]).mean())


def open_weights_of(places: tuple[str, ...]) -> None:
    """Opens weights once, so that wrong ones are told of before anything is trained."""
    for place in places:
        load_encoder(place)
