"""One training of a comparison, in a run folder of its own: as `pretrain` plans and trains it, without pictures."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from unmask.data.datasets.images import Samples
from unmask.data.sheet import Sheet
from unmask.files import STAGES, Json, read_json, write_json
from unmask.models.encoder import Encoder
from unmask.models.state import load_strictly
from unmask.planning.build import a_few, build, prepare
from unmask.planning.initial_weights import Start, start_of
from unmask.planning.loaders import make_loader
from unmask.planning.stages.divide import stages_of
from unmask.planning.stages.run import fit_in_stages
from unmask.planning.stages.trainings import Training, trainings_of
from unmask.registry import keep_sources
from unmask.runs.config import Config
from unmask.runs.run import CONFIG, SUMMARY, make_encoder, write_kept
from unmask.runtime.distributed.data_parallel import make_devices
from unmask.studies.comparison.settings import Contestant, shares
from unmask.studies.quiet_log import QuietLog
from unmask.training import checkpoint
from unmask.training.log import METRICS, read
from unmask.training.loop import fit
from unmask.training.settings import Fit
from unmask.training.speed.compile import ready
from unmask.training.speed.step_cost import step_bytes
from unmask.weights.files import ENCODER, read_state

EVERY = 60.0  # seconds between checkpoints, which a kill can lose
RUNS = "runs"
RECORDED = ("seconds", "steps", "loss", "images", "flops")


def run_folder(out: str, contestant: Contestant, seed: int) -> Path:
    """Of one training: a name that people can read, and that no other contestant has."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", contestant.name).strip("-")[:40]
    if name != contestant.name:
        name += "-" + hashlib.sha256(contestant.name.encode()).hexdigest()[:6]
    return Path(out) / RUNS / f"{name}-{seed}"


def of_seed(config: Config, seed: int) -> Config:
    return config.with_options({"seed": seed})


def train(
    contestant: Contestant,
    seed: int,
    out: str,
    sheet: Sheet,
    samples: Samples,
    points: int,
    tell: Callable[[float], object],
) -> Json:
    """Trains from where the run's folder left off; returns what is recorded. Encoders are kept at each point.

    Raises Diverged where no rollback helped.
    """
    assert contestant.config is not None
    config, folder = of_seed(contestant.config, seed), run_folder(out, contestant, seed)
    if (folder / SUMMARY).exists() and (folder / ENCODER).exists():  # killed before this was recorded
        return {name: value for name, value in read_json(folder / SUMMARY).items() if name in RECORDED}
    folder.mkdir(parents=True, exist_ok=True)
    config.to_json(folder / CONFIG)
    keep_sources(folder)
    devices = make_devices(config.runtime)
    total, done = config.training.steps, 0
    if stages_of(config.method.name):
        *stages, own = trainings_of(config, sheet, samples, folder)
        for stage in stages:
            log = partial(_log_of_stage, len(samples), lambda step, before=done: tell((before + step) / total))
            done += fit_in_stages([stage], samples, devices, log)[0].steps
        config = own.config
        config.to_json(folder / CONFIG)
    begun = checkpoint.begun(folder)
    objective = build(config, Start() if begun else start_of(config))
    if not begun:
        prepare(objective, partial(make_loader, config, samples))
    objective.to(devices.device)
    steps = config.training.steps
    marks = [(max(1, round(share * steps)), share) for share in shares(points)[:-1]]  # in short runs steps coincide

    def watch(step: int, steps: int) -> dict[str, float]:
        for share in (share for mark, share in marks if mark == step):
            write_kept(config, objective, folder, encoder_file(share))
        return {}

    log = QuietLog(folder, config, len(samples), lambda step: tell((done + step) / total))
    trained = ready(objective, config.runtime)
    try:
        fit(trained, make_loader(config, samples), loop_of(config), folder, devices, log, watch)
    finally:
        log.close()
    write_kept(config, objective, folder)
    last = [record for record in read(folder / METRICS) if "loss" in record][-1]
    seconds = last["seconds"] + sum(read_json(path)["seconds"] for path in folder.glob(f"{STAGES}/*/{SUMMARY}"))
    facts = {"seconds": round(seconds, 1), "steps": total, "loss": last["loss"]}
    facts |= {"images": contestant.images, "flops": contestant.total_flops}
    write_json(folder / SUMMARY, {"finished": True, "waiting": 0.0} | facts)
    for path in folder.glob("*.ckpt"):  # the encoders are what is judged
        path.unlink()
    return facts


def _log_of_stage(count: int, tell: Callable[[int], object], stage: Training) -> QuietLog:
    return QuietLog(stage.folder, stage.config, count, tell)


def loop_of(config: Config) -> Fit:
    """The loop's settings, with checkpoints as often as a study that may be stopped at any moment wants them."""
    per_step = config.training.batch / max(config.record.expected.images_per_second, 1e-9)
    every = max(1, min(config.training.save_every, int(EVERY / per_step)))
    return replace(config.training, save_every=every, keep_every=0, lasting_copies=0, tidy=True)


def encoder_file(share: float) -> str:
    return ENCODER if share == 1 else f"encoder-{100 * share:g}.safetensors"


def trained_encoder(contestant: Contestant, seed: int, out: str, share: float = 1.0) -> Encoder:
    """The encoder of a training after a share of its steps."""
    assert contestant.config is not None
    config, path = of_seed(contestant.config, seed), run_folder(out, contestant, seed) / encoder_file(share)
    encoder = make_encoder(config)
    load_strictly(encoder.net, read_state(path), str(path))
    return encoder.eval()


def count_bytes(config: Config, samples: Samples) -> int:
    """Memory of a training step on a CPU: weights, gradients, moments, activations. What a process has taken at its
    peak tells nothing here: it has trained other methods before."""
    with torch.random.fork_rng():
        objective, batch = a_few(config, samples)
        micro = config.training.batch // config.training.accumulate
        weights = sum(p.numel() * p.element_size() for p in objective.parameters())
        return weights + step_bytes(objective, batch, micro, make_devices(config.runtime).autocast)
