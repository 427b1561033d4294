"""The command `demo`: writes scikit-image's photographs as files, then runs the main commands on that folder."""

from pathlib import Path

from PIL import Image

from unmask.cli.commands.evaluate import evaluate
from unmask.cli.commands.pretrain import pretrain
from unmask.cli.commands.show import show
from unmask.cli.options.demo import Demo
from unmask.cli.verb import verb
from unmask.data.sources.demo import Demo as Photographs
from unmask.runs.run import Run
from unmask.runtime.progress import make_console

__all__ = ["demo"]
RECIPE = {  # a network small enough to learn something in 100 seconds on two cores; everything else is planned as usual
    "model": "vit_tiny_patch16_224(embed_dim=128, depth=4, num_heads=4)",
    "decoder": "full(dim=64, depth=1, heads=2)",
    "batch": 64,
    "lr": 2e-3,
    "crop": 0.2,
    "hours": 100 / 3600,
}

WHOLE = ("astronaut", "camera", "chelsea", "coffee", "coins", "retina")  # what one recognises at a glance
DRAWN = 256  # pixels of the shorter side, in tiles of 32


@verb(Demo)
def demo(options: Demo) -> Run:
    """Writes the photographs as a folder of files, then runs pretrain, show, evaluate and report on it."""
    console, out = make_console(), Path(options.out)
    data = out.with_name(out.name + "-images")
    photographs = out.with_name(out.name + "-photographs")
    write_images(data, photographs)
    console.print(f"12 photographs as crops: left halves in {data}/train, right halves in {data}/test", soft_wrap=True)
    run = pretrain(data, out=out, device=options.device, **RECIPE)
    assert run is not None  # only a dry run gives none
    panel = {"out": out / "panel.png", "size": DRAWN, "true_statistics": False, "device": options.device}
    show(run.path, photographs, **panel)
    console.print("The photographs in the panel are whole: it has learned from crops of their left halves only.")
    evaluate(run.path, on=data, evaluators=("knn", "linear"), device=options.device)
    console.print(f"Open {(out / 'report.html').resolve()}", soft_wrap=True)
    return run


def write_images(folder: Path, photographs: Path) -> None:
    """The crops as PNG files in train/<photograph>/ and test/<photograph>/, and some whole photographs beside them;
    files that exist are kept."""
    source = Photographs()
    photographs.mkdir(parents=True, exist_ok=True)
    for name in WHOLE:
        if not (path := photographs / f"{name}.png").exists():
            source.photograph(name).save(path)
    for row, item in enumerate(source.items):
        path = folder / item.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(source.read(row)).save(path)
