"""How training spreads over devices: Lightning Fabric, set up from the settings."""

import logging
from typing import Any

from lightning.fabric import Fabric

from unmask.runtime import PRECISIONS


def make_fabric(settings: dict[str, Any]) -> Fabric:
    """Lightning Fabric for one device; it prints nothing."""
    for name in ("lightning.fabric", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Fabric(accelerator=settings["device"], devices=1, precision=PRECISIONS[settings["precision"]])  # type: ignore[arg-type]
