"""The subject of `unmask doctor`, opened as far as possible: a run, weights of any origin, or data.

A check is a function from a `Subject` to its findings. It reads what it needs from the subject, which raises Unknown
for anything missing: a check that could not run is never reported as passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from unmask.data.datasets.images import Samples
from unmask.data.modality import IMAGE
from unmask.data.sheet import Sheet, inspect
from unmask.data.source import Source, open_source
from unmask.errors import NotGiven, UserError
from unmask.files import Json, read_json
from unmask.models.encoder import Encoder
from unmask.models.names import known_name
from unmask.runs.run import Run
from unmask.training import checkpoint
from unmask.training.log import METRICS, read
from unmask.weights.content import CONFIG
from unmask.weights.files import is_run
from unmask.weights.known import SUFFIXES
from unmask.weights.open import Opened, open_weights
from unmask.weights.reading import PLAIN, Reading

WEIGHTS = set(SUFFIXES) - {".tar"}  # which may hold images
IMAGES = 64  # that features are computed of
MAX_SIDE = 1024  # pixels to which larger images are shrunk while they are inspected


@dataclass(frozen=True)
class Finding:
    """A fault in one line, and its remedy in another."""

    what: str
    remedy: str


class Unknown(Exception):
    """A check cannot run; the text says what is missing."""


class Subject:
    """Everything is opened on first use."""

    def __init__(self, place: str, data: Sequence[str] = (), reading: Reading = PLAIN):
        """place: a run, weights or data; data: images to try weights on, and to compare a run's statistics with;
        reading: how weights are read."""
        self._reading = reading
        self.place, self.path = place, Path(place)
        self.config: Json = read_json(self.path / CONFIG) if self.path.is_dir() else {}
        if "task" in self.config or is_run(self.config):
            self.kind, self.config = "run", Run(self.path).record
            if reading != PLAIN:
                raise UserError(
                    f"{place} is a run, whose own mean, std and weights are looked at: leave out --mean, --std,"
                    " --weights-size, --ema and --student"
                )
        elif self.config or self.path.suffix in WEIGHTS or (not self.path.exists() and known_name(place)):
            self.kind = "weights"
        else:
            self.kind = "data"
        self._data = tuple(data) or ((place,) if self.kind == "data" else ())
        if self.kind != "run":  # a place that leads nowhere is said at once
            _ = self.source if self.kind == "data" else self.opened

    def setting(self, name: str) -> Any:
        """A setting of the run."""
        if self.kind != "run":
            raise Unknown("it is no run")
        if self.config["settings"].get(name) is None:
            raise Unknown(f"the run's config.json says nothing of {name}")
        return self.config["settings"][name]

    def of_pretraining(self) -> Json:
        """The configuration of a run that pretrains."""
        if self.kind != "run" or "task" in self.config:
            raise Unknown("it is no pretraining run")
        return self.config

    @cached_property
    def records(self) -> list[Json]:
        """All lines of metrics.jsonl."""
        if self.kind != "run":
            raise Unknown("it is no run")
        records = list(read(self.path / METRICS))
        if not records:
            raise Unknown(f"there is no {METRICS} yet")
        return records

    @property
    def steps(self) -> list[Json]:
        """The records of training steps."""
        steps = [record for record in self.records if "epoch" in record]
        if not steps:
            raise Unknown("no step is recorded yet")
        return steps

    @cached_property
    def opened(self) -> Opened:
        """The weights, recognised."""
        if self.kind == "data":
            raise Unknown("it is data, without weights")
        if self.kind == "run" and not (checkpoint.begun(self.path) or any(self.path.glob("*.safetensors"))):
            raise Unknown("the run has not saved any weights yet")
        return open_weights(self.place, reading=self._reading, damaged=True)

    @cached_property
    def encoder(self) -> Encoder:
        """The weights as an encoder, in eval mode on the CPU."""
        try:
            return self.opened.encoder()
        except NotGiven:
            raise
        except UserError as error:
            raise Unknown(f"the weights cannot be used as they are: {error}") from error

    @property
    def modality(self) -> str | None:
        """What the data should be, by the weights; None where there are none, for what it is."""
        if self.kind == "data":
            return None
        try:
            return self.encoder.modality
        except Unknown:
            return IMAGE

    @cached_property
    def source(self) -> Source:
        """The data given; for a run without any, its own, if it is still there."""
        options = self.config.get("asked", {})
        own = options.get("data") or options.get("on") or ()
        places = self._data or ((own,) if isinstance(own, str) else tuple(own))
        if not places:
            raise Unknown("no data is given; name some with --on")
        try:
            return open_source(places, self.modality)
        except UserError as error:
            if self._data:
                raise
            raise Unknown(f"the run's data is gone; name some with --on ({error})") from error

    @cached_property
    def sheet(self) -> Sheet:
        """The data sheet: of the data given, else the run's own as it was written when it began."""
        if not self._data and self.kind == "run":
            return _sheet(read_json(self.path / "data_sheet.json"))
        return inspect(self.source, max_side=MAX_SIDE)[0]

    @cached_property
    def images(self) -> Shaped[Tensor, "n c *size"]:
        """A few images spread over the data, raw, of the encoder's size."""
        encoder, source = self.encoder, self.source
        count = min(IMAGES, len(source.items))
        indices = [i * len(source.items) // count for i in range(count)]
        sheet, cache = inspect(source, indices=indices, max_side=MAX_SIDE, keep_bytes=2**30)
        bad = {index for index, _, _ in sheet.bad}
        good = [i for i in indices if i not in bad]
        if len(good) < 4:
            raise Unknown(f"there are fewer than four good {source.modality.word}s to try it on")
        samples = Samples(source, good, channels=encoder.channels, max_side=MAX_SIDE, cache=cache)
        view = source.modality.whole(encoder.grid.size)
        return torch.stack([view(samples.image(i)).float() for i in range(len(good))])


def _sheet(content: Json) -> Sheet:
    """The sheet that a run wrote when it began; lists from JSON become tuples."""
    facts: dict[str, Any] = {**content, "bad": [tuple(entry) for entry in content.get("bad", ())]}
    for name in ("min_size", "median_size", "max_size", "value_range", "axes"):
        facts[name] = tuple(content.get(name, ()))
    try:
        return Sheet(**facts)
    except TypeError as error:
        raise Unknown("the run has no data_sheet.json that this version can read") from error
