"""`unmask demo`: the main job on photographs that come with the dependencies."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from unmask.cli.shared_options import ConfigOption
from unmask.plain import Place, settle

__all__ = ["Demo"]


@dataclass(frozen=True)
class Demo(ConfigOption):
    """The main job on photographs that come with the dependencies: pretrain, look, evaluate, report. Offline."""

    _: KW_ONLY
    out: Place = Path("demo-run")  # folder of the run; the images are written beside it
    device: str = "auto"  # cuda, mps, cpu, or auto

    def __post_init__(self):
        settle(self, "out", Path(self.out))
