"""`unmask demo`: the main job on photographs that come with the dependencies."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from unmask.cli.shared_options import ConfigOption
from unmask.plain import Place, settle

__all__ = ["Demo"]


@dataclass(frozen=True)
class Demo(ConfigOption):
    """Try it all on built-in photographs: pretrain, show, evaluate.

    Works offline; the photographs come with the dependencies.
    """

    _: KW_ONLY
    out: Place = Path("demo-run")  # folder for the run; the images are written beside it
    device: str = "auto"  # cuda, mps or cpu; by default the first of these that this machine has

    def __post_init__(self):
        settle(self, "out", Path(self.out))
