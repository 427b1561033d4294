"""Opens and inspects the data of a run, and feeds it to the loop as the settings say."""

from typing import Any

from rich.console import Console
from rich.progress import Progress

from unmask.errors import UserError
from unmask.loader import Loader
from unmask.runtime import machine
from unmask.samples import Samples
from unmask.sheet import Sheet, check_bad, inspect
from unmask.source import open_source
from unmask.verb import numbers
from unmask.verbs.pretrain import Pretrain
from unmask.views import check_colours, training_view

CACHE_SHARE = 0.2  # of the free memory, for decoded pictures


def look_at(options: Pretrain, saved: dict[str, Any] | None, console: Console) -> tuple[Sheet, Samples]:
    """Opens and inspects the data; the training split where there are splits, else everything."""
    if not options.data:
        raise UserError("say on which pictures: unmask pretrain DATA (a folder, an archive, an .npz, or demo)")
    source = open_source(options.data)
    train = [i for i, item in enumerate(source.items) if item.split in (None, "train")]
    indices = train or list(range(len(source.items)))
    max_side = saved["max_side"] if saved else 4 * max(numbers(options.image_size or 224))
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at the pictures", total=len(indices))
        sheet, cache = inspect(
            source,
            indices=indices,
            max_side=max_side,
            keep_bytes=int(CACHE_SHARE * machine("cpu", "32").memory),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    bad = {index for index, _, _ in sheet.bad}
    good = [i for i in indices if i not in bad]
    console.print(sheet.text(), soft_wrap=True)
    check_bad(sheet, options.max_bad)
    channels = options.channels or (saved["settings"]["channels"] if saved else sheet.channels)
    return sheet, Samples(source, good, channels=channels, max_side=max_side, cache=cache)


def make_loader(config: dict[str, Any], samples: Samples, size: int | None = None) -> Loader:
    """Training batches in the parts that the settings say, or of another size."""
    settings = config["settings"]
    view = training_view(
        tuple(settings["image_size"]),
        settings.get("crop_kind", "random"),  # runs made before there was a choice lack it and the jitter
        settings["crop"],
        settings["flip"] == "on",
        settings.get("jitter", 0.0),
    )
    if settings.get("jitter"):
        check_colours(settings["channels"])
    micro, rest = divmod(settings["batch"], settings["accumulate"])
    if rest:
        raise UserError(f"a batch of {settings['batch']} cannot be worked off in {settings['accumulate']} equal parts")
    pin = settings["device"] == "cuda"
    shared = {"seed": settings["seed"], "workers": settings["workers"], "pin": pin}
    return Loader(samples=samples, view=view, batch=size or micro, **shared)
