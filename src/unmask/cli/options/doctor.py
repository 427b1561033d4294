"""`unmask doctor RUN|WEIGHTS|DATA`: what is wrong, and what to do about it."""

from dataclasses import KW_ONLY, dataclass
from typing import Annotated

from tyro.conf import Positional

from unmask.cli.shared_options import EncoderOptions
from unmask.plain import ImagePlaces, Place, Weights, settle, texts

__all__ = ["Doctor"]


@dataclass(frozen=True)
class Doctor(EncoderOptions):
    """Look for known faults in a run, in weights or in data.

    Each fault comes with a remedy.
    """

    # folder of a run, weights (a file, a folder or a timm model), or data
    place: Positional[Annotated[Place, Weights(or_images=True)]]
    _: KW_ONLY
    on: ImagePlaces = ()  # images to try weights on and compare with; by default a run's own, if they are still there
    json: bool = False  # print JSON instead of a table

    def __post_init__(self):
        settle(self, "on", texts(self.on))
