"""A run folder, opened: its settings, its encoder, its whole objective."""

import dataclasses
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from unmask import registry
from unmask.data.modality import IMAGE, make_modality
from unmask.errors import UserError, closest_place
from unmask.files import Json, parse_json, read_json
from unmask.methods.align import Align
from unmask.methods.families.tokens import Tokenizing
from unmask.methods.siglip import SigLIP
from unmask.models.encoder import Encoder, create_encoder
from unmask.models.state import load_strictly
from unmask.plain import settle, texts
from unmask.runs.config import Config
from unmask.runs.text import hand_on_text, save_text
from unmask.training import checkpoint
from unmask.training.objective import Objective
from unmask.weights.files import ENCODER, read_state, require_finite, save_encoder
from unmask.weights.frozen_teacher import require_same
from unmask.weights.licence import handed_on
from unmask.weights.tokenizers import TOKENIZER, save_tokenizer

CONFIG, SUMMARY = "config.json", "summary.json"


@dataclass(frozen=True)
class Run:
    """Returned by `unmask.pretrain`, opened by `unmask.load`."""

    path: Path
    parts: tuple[str, ...] = field(default_factory=registry.parts_given)  # from outside of the package, to be run

    def __post_init__(self):
        settle(self, "path", Path(self.path))
        settle(self, "parts", texts(self.parts))
        if not self.path.exists():
            raise UserError(f"{self.path} is no run folder: there is no such folder{closest_place(self.path)}")
        if not (self.path / CONFIG).exists():
            raise UserError(
                f"{self.path} is no run folder: it has no {CONFIG}. Make one: unmask pretrain DATA --out RUN"
            )

    @cached_property
    def config(self) -> Config:
        """The configuration of a pretraining run. Raises UserError for a folder that a task wrote."""
        if "task" in read_json(self.path / CONFIG):
            raise UserError(
                f"{self.path} is no pretraining run: it was made by {read_json(self.path / CONFIG)['task']}"
            )
        return Config.from_json(self.path / CONFIG)

    @cached_property
    def record(self) -> Json:
        """The contents of config.json in the form that tasks and pretraining share: see `Config.flat`."""
        content = read_json(self.path / CONFIG)
        if "task" not in content:
            return self.config.flat()
        if missing := {"asked", "settings", "mean", "std", "timm", "fit", "data"} - content.keys():
            listed = ", ".join(sorted(missing))
            raise UserError(f"{self.path / CONFIG} is damaged, or from another version of unmask: it lacks {listed}")
        return content

    @property
    def task(self) -> str | None:
        """The task that `transfer` or `anomaly fit` trained for; None for a pretraining run."""
        return read_json(self.path / CONFIG).get("task")

    def read(self, name: str) -> Json:
        """One of the JSON files of the folder."""
        return parse_json((self.path / name).read_text(encoding="utf-8"))

    @property
    def finished(self) -> bool:
        return (self.path / SUMMARY).exists()

    def objective(self) -> Objective:
        """The whole objective, decoder included, with the weights of the last checkpoint, in eval mode on the CPU."""
        newest = checkpoint.read_newest(self.path)
        if newest is None:
            if not (self.path / ENCODER).exists():
                raise UserError(
                    f"{self.path} has neither {checkpoint.LAST} nor {ENCODER}: nothing was saved there yet, or it was"
                    " taken away. The same pretrain command begins it anew"
                )
            raise UserError(
                f"{self.path} has no {checkpoint.LAST}, so there is no decoder to rebuild with. It has {ENCODER}, but"
                " an encoder alone cannot rebuild."
            )
        with registry.given(self.parts):
            objective = make_objective(self.config)
            registry.remark_on_parts(self.path)
        require_finite(newest[1]["objective"], newest[0])
        load_strictly(objective, newest[1]["objective"], str(newest[0]))
        return objective.eval()

    def encoder(self) -> Encoder:
        """The encoder with the weights of the last checkpoint, in eval mode on the CPU; takes raw pixels."""
        path = self.path / ENCODER
        if not path.exists():
            return self.objective().kept  # interrupted before the first export
        with registry.given(self.parts):
            encoder = make_encoder(self.config)
            registry.remark_on_parts(self.path)
        state = read_state(path)
        require_finite(state, path)
        load_strictly(encoder.net, state, str(path))
        return encoder.eval()


def write_kept(config: Config, objective: Objective, out: Path, name: str = ENCODER) -> None:
    """Writes the encoder that a method keeps, with what is needed to build it in the header of its file; and the
    tokenizer of a method that trains one."""
    timm, data = config.model.timm, config.data
    licence = handed_on(config.record.licence, config.record.teachers)
    facts = {"model": str(timm["model_name"]), "mean": str(list(data.mean)), "std": str(list(data.std))}
    facts |= {"timm": json.dumps(timm)} | ({"licence": json.dumps(licence)} if licence else {})
    facts |= {"modality": data.modality} if data.modality != IMAGE else {}
    save_encoder(objective.kept.net, out / name, facts)
    if isinstance(objective, SigLIP) and name == ENCODER:
        save_text(objective, out)
    if isinstance(objective, Align) and name == ENCODER:
        hand_on_text(objective, out)
    if isinstance(objective, Tokenizing) and name == ENCODER:
        save_tokenizer(objective.tokenizer, out / TOKENIZER, licence)


def make_encoder(config: Config) -> Encoder:
    """A new encoder as a configuration describes it, with the data's mean and deviation."""
    model, data = config.model, config.data
    modality = make_modality(data.modality)
    return create_encoder(
        model.name,
        image_size=data.image_size,
        patch_size=modality.unit(model.patch_size, data.image_size),
        channels=data.channels,
        mean=data.mean,
        std=data.std,
        **modality.for_encoder,
    )


def make_objective(config: Config) -> Objective:
    """A new objective as a configuration describes it, with random weights from torch's global generator. Raises
    UserError where frozen weights that it learns from are gone, or are others now."""
    own = {"name", "handed"}  # in the method's text
    parts = {k: v for k, v in dataclasses.asdict(config.method).items() if k not in own and v is not None}
    objective = registry.build("method", config.method.text, encoder=make_encoder(config), **parts)
    require_same(objective, config.record.teachers)
    return objective


def encoder_of_task(record: Json) -> Encoder:
    """A new encoder as the record of a task's folder describes it."""
    settings, mean, std = record["settings"], tuple(record["mean"]), tuple(record["std"])
    size, text = tuple(settings["image_size"]), record.get("modality", IMAGE)
    patch = settings["patch_size"]
    shape = {"patch_size": tuple(patch) if isinstance(patch, list) else patch, "channels": settings["channels"]}
    shape |= make_modality(text).for_encoder
    return create_encoder(settings["model"], image_size=size, mean=mean, std=std, **shape)
