"""A run folder, opened: its settings, its encoder, its whole objective."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unmask import registry
from unmask.errors import UserError, closest_place
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.state import load_strictly
from unmask.training import checkpoint
from unmask.training.objective import Objective
from unmask.weights.files import ENCODER, read_state

CONFIG, SUMMARY = "config.json", "summary.json"


@dataclass(frozen=True)
class Run:
    """What `unmask.pretrain` returns and `unmask.load` opens."""

    path: Path

    def __post_init__(self):
        object.__setattr__(self, "path", Path(self.path))
        if not self.path.exists():
            raise UserError(f"{self.path} is no run folder: there is no such folder{closest_place(self.path)}")
        if not (self.path / CONFIG).exists():
            raise UserError(
                f"{self.path} is no run folder: it has no {CONFIG}. Make one: unmask pretrain DATA --out RUN"
            )

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as `config.json` holds it."""
        try:
            config = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
            missing = {"asked", "settings", "mean", "std", "timm", "fit", "data"} - set(config)
            if "settings" not in missing:
                shape = {"model", "image_size", "patch_size", "channels"} - set(config["settings"])
                missing |= {f"settings.{name}" for name in shape}
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self.path / CONFIG} cannot be read ({error}); the run cannot be opened without it"
            ) from error
        if missing:
            raise UserError(f"{self.path / CONFIG} is damaged: it lacks {', '.join(sorted(missing))}")
        return config

    def read(self, name: str) -> dict[str, Any]:
        """One of the JSON files of the folder."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    @property
    def finished(self) -> bool:
        return (self.path / SUMMARY).exists()

    def objective(self) -> Objective:
        """The whole objective, decoder included, with the weights of the last checkpoint, in eval mode on the CPU."""
        found = checkpoint.read_newest(self.path)
        if found is None:
            have = f" It has {ENCODER}, but an encoder alone cannot rebuild." if (self.path / ENCODER).exists() else ""
            raise UserError(f"{self.path} has no {checkpoint.LAST}, so there is no decoder to rebuild with.{have}")
        objective = make_objective(self.config)
        load_strictly(objective, found[1]["objective"], str(found[0]))
        return objective.eval()

    def encoder(self) -> Encoder:
        """The encoder with the weights of the last checkpoint, in eval mode on the CPU; takes raw pixels."""
        path = self.path / ENCODER
        if not path.exists():
            return self.objective().encoder  # interrupted before the first export
        encoder = make_encoder(self.config)
        load_strictly(encoder.net, read_state(path), str(path))
        return encoder.eval()


def make_encoder(config: dict[str, Any]) -> Encoder:
    """A fresh encoder as a configuration describes it, with the data's statistics."""
    settings = config["settings"]
    return create_encoder(
        settings["model"],
        image_size=tuple(settings["image_size"]),
        patch_size=settings["patch_size"],
        channels=settings["channels"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def make_objective(config: dict[str, Any]) -> Objective:
    """A fresh objective as a configuration describes it; weights are random, from torch's global generator."""
    settings = config["settings"]
    names = ("mask", "target", "decoder", "decoder_warmup", "masks_per_image")
    parts = {name: settings.get(name) for name in names}
    return registry.build("method", settings["method"], encoder=make_encoder(config), **parts)
