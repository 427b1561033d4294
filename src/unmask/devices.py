"""How training spreads over devices: Lightning Fabric, set up from the settings."""

import logging
from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.plugins.precision import MixedPrecision, Precision

from unmask.runtime import autocast_dtype


def make_fabric(settings: dict[str, Any]) -> Fabric:
    """Lightning Fabric for one device; it prints nothing."""
    for name in ("lightning.fabric", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Fabric(accelerator=settings["device"], devices=1, plugins=[precision_plugin(settings)])


def precision_plugin(settings: dict[str, Any]) -> Precision:
    """How Fabric computes in the precision of the settings."""
    if autocast_dtype(settings["precision"]) is None:
        return Precision()
    return Autocast("bf16-mixed", settings["device"])


class Autocast(MixedPrecision):
    """Lightning's mixed precision, but it leaves pictures alone: Lightning rounds all input to bf16, and targets with
    it, which for pictures deeper than 8 bits are numbers that bf16 does not have."""

    def convert_input(self, data: Any) -> Any:
        return data
