"""The training of `pretrain`, in every process that takes part: a few steps to measure, then all of them.

One of several processes is the first: it looks at the model, writes and speaks; the others compute with it.
"""

import contextlib
import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from unmask import checkpoint, keeping
from unmask.caution import caution, determinism, short_of_room
from unmask.devices import make_fabric
from unmask.errors import Diverged, Interrupted, UserError
from unmask.feeding import make_loader, to_send
from unmask.init import Start, initial
from unmask.log import METRICS, Log, Silent, clock, memory_mb, read
from unmask.looking import Looking
from unmask.objective import Objective
from unmask.plan import Plan
from unmask.probing import Probe
from unmask.ranks import Ranks
from unmask.ready import ready
from unmask.recompute import recompute
from unmask.report import write_report
from unmask.resized import answer_by_size
from unmask.resolution import NONE, at_size
from unmask.resolution import parse as parse_resolutions
from unmask.run import SUMMARY, make_objective
from unmask.runtime import tune
from unmask.samples import Samples
from unmask.seeds import mix
from unmask.streamed import StreamSamples
from unmask.supply import waiting_advice, waiting_share
from unmask.train import Fit, fit
from unmask.trial import Measured, prepare, slowest, trial
from unmask.watch import Watch


def duties(ranks: Ranks) -> dict[str, Any]:
    """What every process but the first can be told to do."""
    return {"tune": tune, "measure": partial(measure, ranks), "train": partial(train, ranks)}


def measure(
    ranks: Ranks,
    config: dict[str, Any],
    samples: Samples | StreamSamples,
    plan: Plan,
    retry: bool,
    start: Start | None = None,
) -> Measured:
    """A few steps in every process at once; what the slowest one needs, and the most parts.

    With DDP each measures by itself, so that one may run out of memory and try again; the time to exchange gradients is
    not in it. Shards are of no use without the others: with FSDP2 they step together, and there is no second try.
    """
    if ranks.first:
        ranks.tell("measure", config=config, samples=to_send(samples), plan=plan, retry=retry)
    else:
        plan.settings = config["settings"]  # one and the same, as in the first process
    settings = config["settings"]
    begin = start or initial(settings["init"], model=settings["model"])
    shards = settings.get("strategy") == "fsdp2"
    fabric = make_fabric(settings, alone=not shards)
    of_size = partial(make_loader, config, samples, workers=0)
    found = trial(lambda: ready(build(config, begin), plan.settings), of_size, plan, fabric, retry and not shards)
    return slowest(found, plan, ranks)


def build(config: dict[str, Any], start: Start) -> Objective:
    """The objective with its first weights: from the seed, or from `--init`."""
    torch.manual_seed(mix(config["settings"]["seed"], 0x1217))
    objective = make_objective(config)
    start.load(objective, config["settings"])
    sizes = [stage.size for stage in parse_resolutions(config["settings"].get("resolutions", NONE))[:-1]]
    twins = {size: make_objective(at_size(config, size)) for size in sizes}
    if twins and config["settings"].get("strategy") == "fsdp2":
        raise UserError("--resolutions and --strategy fsdp2 do not go together: shards belong to a model of one size")
    if twins:
        answer_by_size(objective, dict(twins), make_objective(config) if start.facts else None)
    if config["settings"].get("checkpoint_activations") == "on":
        for part in (objective, *twins.values()):
            recompute(part)
    return objective


def train(
    ranks: Ranks,
    config: dict[str, Any],
    samples: Samples | StreamSamples,
    out: Path,
    probe: Probe | None = None,
    console: Console | None = None,
) -> None:
    """Runs the loop; the first process then writes encoder, panel, summary and report."""
    settings, fabric = config["settings"], make_fabric(config["settings"])
    begun = ranks.share(keeping.begun(out))  # then the weights come from there
    objective = build(config, Start() if begun else initial(settings["init"], model=settings["model"]))
    names = ("batch", "lr", "weight_decay", "clip", "accumulate", "seed", "log_every", "save_every", "keep_every")
    warmup = round(settings["warmup"] * len(samples) / settings["batch"])
    fused = settings.get("fused") != "off"
    fitting = Fit(**{n: settings[n] for n in names}, fused=fused, warmup=warmup, **caution(settings), **config["fit"])
    if console and (said := short_of_room(objective, settings, fitting.steps, out)) is not None:
        console.print(said, style="yellow", soft_wrap=True)
    samples.report_bad_to(out / "bad_files.txt")
    log = Log(out, console, settings["batch"], len(samples), config["context"]) if console else Silent()
    shown = copy.deepcopy(objective) if settings.get("strategy") == "fsdp2" else objective  # shards cannot be drawn
    watch = Watch(config, shown, samples, out, fabric.device, probe)
    look = Looking(watch, watch.due, objective, shown, ranks)
    if not begun:
        prepare(objective, partial(make_loader, config, samples))
        objective.to(fabric.device)
        look.refresh()
        look.first(watch.begin)
    ready(objective, settings)
    try:
        with determinism(settings.get("deterministic", False)):
            fit(objective, make_loader(config, samples), fitting, out, fabric, log, look)
    except Exception as error:
        if isinstance(error, Interrupted | Diverged):  # all processes are at the same place
            look.refresh()
        with contextlib.suppress(OSError):  # a full disk must not hide why training ended
            alone = ranks.world == 1 or isinstance(error, Interrupted | Diverged)  # else every second counts
            if alone and ranks.first and keeping.begun(out):
                watch.export()
                write_report(out)
        raise
    finally:
        log.close()
    if console is not None:
        watch.export()
        watch.panel()
        summary = {"finished": True, "seconds": round(log.last[1], 1), "steps": log.last[0], "memory_mb": memory_mb()}
        summary["waiting"] = waited = waiting_share(read(out / METRICS))
        checkpoint.write_json(out / SUMMARY, summary)
        if advice := waiting_advice(waited, settings, config["data"].get("packed"), config["machine"]["cores"]):
            console.print(advice, soft_wrap=True, style="yellow", highlight=False)
        write_report(out)
        where = f"Encoder, pictures and report: {out / 'report.html'}"
        console.print(f"Done in {clock(log.last[1])}. {where}", soft_wrap=True)
    ranks.wait()
