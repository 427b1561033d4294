"""`unmask demo`: the main job on photographs that come with the dependencies."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.verb import Place, settle, verb

if TYPE_CHECKING:
    from unmask.run import Run

__all__ = ["demo"]


@dataclass(frozen=True)
class Demo:
    """The main job on photographs that come with the dependencies: pretrain, look, evaluate, report. Offline."""

    _: KW_ONLY
    out: Place = Path("demo-run")  # folder of the run; the pictures are written beside it
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "out", Path(self.out))


@verb(Demo)
def demo(options: Demo) -> "Run":
    """Writes the photographs as a folder of files, then does what a user would: pretrain, show, evaluate, report."""
    from unmask.demonstrating import demonstrating

    return demonstrating(options)
