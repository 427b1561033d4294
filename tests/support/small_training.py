"""A linear map that the loop learns in no time: its loader, its training, its records."""

import json
import os
import signal

import torch
from rich.console import Console
from torch import nn

from unmask.runtime.distributed.data_parallel import make_devices
from unmask.runtime.settings import RuntimeSettings
from unmask.training.log import Log
from unmask.training.loop import fit
from unmask.training.objective import Objective
from unmask.training.settings import Fit


class Crash(Exception):
    pass


class Line(Objective):
    """Learns a linear map, with noise from torch's generator as masks have."""

    def __init__(self, bad_steps=()):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.calls, self.bad_steps = nn.Linear(3, 1), 0, bad_steps
        self.told = []

    def forward(self, batch):
        (x,) = batch["views"]
        self.calls += 1
        loss = (self.net(x + 0.1 * torch.rand_like(x)) - x.sum(dim=1, keepdim=True)).square().mean()
        return {"loss": loss * (float("nan") if self.calls in self.bad_steps else 1.0)}

    def after_step(self, progress, good):
        self.told.append((progress, good))


def loader(batch=8):
    def start(first):
        while True:
            yield {"views": [torch.randn(batch, 3, generator=torch.Generator().manual_seed(first))]}
            first += 1

    return start


def train(out, objective=None, watch=lambda step, steps: {}, micro=8, batches=None, **options):
    out.mkdir(exist_ok=True)
    config = Fit(**{"steps": 20, "batch": 8, "lr": 0.05, "warmup": 4, "log_every": 2, "save_every": 5} | options)
    log = Log(out, Console(quiet=True), 8, 100, {"data_mean": 3.0, "nearest": 2.0})
    objective = objective or Line()
    fit(objective, batches or loader(micro), config, out, make_devices(RuntimeSettings()), log, watch)
    return objective


def die_while_saving(out):
    """For another process: training is killed in the middle of writing the second checkpoint."""

    def fail(content, file):
        if content["step"] == 10:
            file.write(b"PK half a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return torch_save(content, file)

    torch_save, torch.save = torch.save, fail
    train(out)


def losses(out):
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {r["step"]: r["loss"] for r in records if "loss" in r}


def records(out, event=None):
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [r for r in found if event is None or r.get("event") == event]
