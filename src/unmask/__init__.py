"""Masked autoencoders from a folder of images to a judged encoder.

    unmask.advise("photos/")                # published weights or pretraining? with grounds, cost and a command
    run = unmask.pretrain("photos/", out="run")
    encoder = unmask.load("run")            # encoder(x) takes raw pixels; encoder.net is the timm model
    unmask.distil("run", into="resnet18", on="photos/", out="student")  # the same knowledge in another network
    unmask.show("run", "a.jpg", out="panel.png")
    unmask.evaluate("run", on="labelled/")
    unmask.transfer("run", on="labelled/")  # a classifier in run/classify
    unmask.predict("run/classify", "new/")
    unmask.labels("run", on="labelled/")    # accuracy against labels per class
    unmask.stress("run/classify", on="labelled/")
    unmask.audit("run", on="labelled/", groups="labels.csv")  # are groups of images treated alike?
    unmask.embed("run", "photos/", out="features.npz")
    unmask.search("run", "photos/", query="a.jpg")
    unmask.map("run", "photos/")            # all images on one page
    unmask.select("run", "photos/", on="labelled/")  # which images to label next
    unmask.export("run", to="onnx")
    unmask.anomaly("fit", "run", "normal/", out="anomaly")
    unmask.anomaly("apply", "anomaly", "new/", out="results")

Every command is a function here under its name, with the same options: `help(unmask.pretrain)` explains them. Nothing
heavy is imported before use. Import unmask before torch, which settles for good how idle threads wait for work.

Editors and type checkers read the signatures in `__init__.pyi`, which `make signatures` writes.
"""

# pyright: reportUnsupportedDunderAll=false
import sys
from importlib import import_module
from time import monotonic
from types import ModuleType
from typing import Any

from unmask.runtime.openmp import settle_waiting
from unmask.runtime.stopwatch import imported
from unmask.version import __version__

__all__ = [
    "Run",
    "__version__",
    "ablate",
    "advise",
    "anomaly",
    "audit",
    "compare",
    "completion",
    "demo",
    "distil",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "labels",
    "load",
    "map",
    "pack",
    "predict",
    "pretrain",
    "search",
    "select",
    "show",
    "stress",
    "transfer",
    "tune",
]


class _Package(ModuleType):
    """Keeps `unmask.export` the command: importing the room of the same name would hide it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "export" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
settle_waiting()


def __getattr__(name: str) -> Any:
    if name in ("Run", "load"):
        return getattr(import_module("unmask.runs.run" if name == "Run" else "unmask.tasks.open"), name)
    start = monotonic()
    try:
        command = getattr(import_module(f"unmask.cli.commands.{name}"), name)
    except ModuleNotFoundError as error:
        if error.name != f"unmask.cli.commands.{name}":  # a package that a command needs
            raise
        raise AttributeError(f"module 'unmask' has no attribute {name!r}; its commands: {', '.join(__all__)}") from None
    imported(monotonic() - start)
    return command


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
