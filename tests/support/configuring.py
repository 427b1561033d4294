"""The configuration of a small run that was never planned, with other values of some settings."""

from typing import Any

from unmask.data.settings import DataSettings
from unmask.methods.settings import MethodSettings
from unmask.models.settings import ModelSettings
from unmask.runs.config import Config, Expected, Record
from unmask.runtime.distributed.launcher import Launch
from unmask.runtime.machine import Machine
from unmask.runtime.settings import RuntimeSettings
from unmask.training.settings import TrainingSettings


def config_of(**changes: Any) -> Config:
    """changes: by the names of options."""
    facts: dict[str, Any] = {"paths": ("photos",), "count": 24, "fingerprint": "", "split": None, "packed": None}
    facts |= {"mean": (128.0,) * 3, "std": (64.0,) * 3, "max_side": 128, "channels": 3, "image_size": (32, 32)}
    record: dict[str, Any] = {
        "asked": {},
        "reasons": {},
        "context": {},
        "words": {},
        "expected": Expected(),
        "weights": None,
    }
    record |= {"licence": None, "machine": Machine("cpu", "a CPU", 1, 2**30, "32", ""), "launch": Launch()}
    record |= {"command": "", "versions": {}, "teachers": []}
    config = Config(
        data=DataSettings(crop=0.2, flip="on", **facts),
        model=ModelSettings(name="vit_tiny_patch16_224(depth=1, embed_dim=48, num_heads=3)", patch_size=8, timm={}),
        method=MethodSettings(name="mae", mask="random", target="pixels", decoder="full(dim=32, depth=1, heads=2)"),
        training=TrainingSettings(steps=4, batch=8, lr=1e-3),
        runtime=RuntimeSettings(),
        record=Record(**record),
    )
    return config.with_options(changes)
