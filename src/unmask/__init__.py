"""Masked autoencoders from a folder of pictures to a judged encoder.

    run = unmask.pretrain("photos/", out="run")
    encoder = unmask.load("run")            # encoder(x) takes raw pixels; encoder.net is the timm model
    unmask.show("run", "a.jpg", out="panel.png")
    unmask.evaluate("run", on="labelled/")
    unmask.transfer("run", on="labelled/")  # a classifier in run/classify
    unmask.predict("run/classify", "new/")
    unmask.labels("run", on="labelled/")    # accuracy against labels per class
    unmask.stress("run/classify", on="labelled/")
    unmask.embed("run", "photos/", out="features.npz")
    unmask.search("run", "photos/", query="a.jpg")
    unmask.map("run", "photos/")            # all pictures on one page
    unmask.export("run", to="onnx")
    unmask.anomaly("fit", "run", "normal/", out="anomaly")
    unmask.anomaly("apply", "anomaly", "new/", out="results")

Every verb of the command line is here under its name, with the same options. Nothing heavy is imported before use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Run",
    "anomaly",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "labels",
    "load",
    "map",
    "predict",
    "pretrain",
    "search",
    "show",
    "stress",
    "transfer",
]

if TYPE_CHECKING:
    from unmask.run import Run, load
    from unmask.verbs.anomaly import anomaly
    from unmask.verbs.demo import demo
    from unmask.verbs.doctor import doctor
    from unmask.verbs.embed import embed
    from unmask.verbs.evaluate import evaluate
    from unmask.verbs.export import export
    from unmask.verbs.labels import labels
    from unmask.verbs.map import map
    from unmask.verbs.predict import predict
    from unmask.verbs.pretrain import pretrain
    from unmask.verbs.search import search
    from unmask.verbs.show import show
    from unmask.verbs.stress import stress
    from unmask.verbs.transfer import transfer


def __getattr__(name: str) -> Any:
    if name in ("Run", "load"):
        return getattr(import_module("unmask.run"), name)
    try:
        return getattr(import_module(f"unmask.verbs.{name}"), name)
    except ModuleNotFoundError:
        raise AttributeError(f"module 'unmask' has no attribute {name!r}; its verbs: {', '.join(__all__)}") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
