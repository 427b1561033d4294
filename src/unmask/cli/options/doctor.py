"""`unmask doctor RUN|WEIGHTS|DATA`: what is wrong, and what to do about it."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from tyro.conf import Positional

from unmask.cli.shared_options import ConfigOption
from unmask.plain import ImagePlaces, Place, Weights, settle, texts

__all__ = ["Doctor"]


@dataclass(frozen=True)
class Doctor(ConfigOption):
    """Look for known faults in a run, in weights of any origin or in data; each with a remedy."""

    place: Positional[
        Annotated[Place, Weights(or_images=True)]
    ]  # folder of a run, weights (a file, a folder, a timm name), or data
    _: KW_ONLY
    on: ImagePlaces = ()  # images to try weights on and compare with; by default a run's own, if they are there
    json: bool = False  # print JSON instead of a table

    def __post_init__(self):
        settle(self, "on", texts(self.on))
