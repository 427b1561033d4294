"""Search across kinds of data, by a run that was aligned with images: sounds by an image, images by a sound."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from unmask.data.datasets.images import Samples
from unmask.data.labels import some
from unmask.data.loaders.map_style import each_once
from unmask.data.modality import make_modality
from unmask.data.source import open_source
from unmask.errors import UserError, closest
from unmask.evaluation.intervals import wilson
from unmask.files import Json
from unmask.methods.align import Align
from unmask.plain import call_text
from unmask.registry import parse
from unmask.report.words import percent
from unmask.runs.run import CONFIG, Run
from unmask.tasks.retrieval.index import Index
from unmask.tasks.retrieval.queries import Query

RANKS = (1, 5, 10)  # among which a partner counts as found
ROWS = 1024  # of similarities at a time
LEARN = "make one: unmask pretrain PAIRS --method \"align(of='IMAGE_RUN')\" (docs/modalities.md)"


def open_aligned(run: Path) -> Align | None:
    """The whole objective of a run that was aligned with images, and that has samples of several parts; None for any
    other."""
    if not (run / CONFIG).exists() or Run(run).task is not None or parse(Run(run).config.method.text)[0] != "align":
        return None
    objective = Run(run).objective()
    return objective if isinstance(objective, Align) and objective.layout is not None else None


def names_of(objective: Align) -> list[str]:
    """Of its parts."""
    return [part.name for part in objective.parts if part is not None]


def parts_among(objective: Align, among: Sequence[str]) -> tuple[list[str], list[str]]:
    """The parts that are searched, by default all but the image; and those that a query shows. Raises UserError for
    unknown ones."""
    names = names_of(objective)
    for name in among:
        if name not in names:
            raise UserError(f"--among {name}{closest(name, names)} The parts are: {', '.join(names)}")
    searched = list(among) or [name for number, name in enumerate(names) if number != objective.place]
    shown = [name for name in names if name not in searched]
    if not shown:
        raise UserError(f"--among {' '.join(among)} names all parts, so that none is left to search by; name fewer")
    return searched, shown


def _seeing(modality: str, parts: Sequence[str]) -> str:
    """The text of a modality of several parts that reads these only."""
    name, options = parse(modality)
    return call_text(name, options | {"seen": list(parts)})


@dataclass(frozen=True)
class Across:
    """What is searched, and by what."""

    objective: Align
    searched: list[str]  # parts
    shown: list[str]  # parts of a query

    @classmethod
    def of(cls, run: Path, among: Sequence[str]) -> "Across | None":
        """None for a run that was not aligned. Raises UserError for parts that it does not have."""
        objective = open_aligned(run)
        if objective is None:
            if among:
                raise UserError(f"--among is for encoders that were aligned with images, and {run} was not; {LEARN}")
            return None
        return cls(objective, *parts_among(objective, among))

    @property
    def data(self) -> str:
        """What the samples are read as that are searched: the text of a modality."""
        return _seeing(self.objective.encoder.modality, self.searched)

    @property
    def query(self) -> str:
        """What queries are read as."""
        return _seeing(self.objective.encoder.modality, self.shown)

    @property
    def sentence(self) -> str:
        searched, shown = (" and ".join(names) for names in (self.searched, self.shown))
        return f"{searched} by {shown}, in the space of {self.objective.teacher.source}, cosine."

    def unseen(self, places: Sequence[str]) -> list[str]:
        """A line for each part whose files are given as queries and are not looked at themselves, since that part is
        what is searched among. places: of the queries."""
        modality, names = make_modality(self.objective.encoder.modality), names_of(self.objective)
        by_part: dict[str, list[str]] = {}
        for place in places:
            file = os.path.abspath(os.path.expanduser(place))
            sample = modality.around(file) if os.path.isfile(file) else ()
            part = dict(zip(sample, names)).get(file) if len(sample) == len(names) else None
            if part in self.searched:
                by_part.setdefault(part, []).append(place)
        shown = " and ".join(self.shown)
        return [
            f"{some(files, 3)}: {part} is searched among, so {shown} of the same sample is what is searched by; by the"
            f" {part} itself: --among {' '.join(name for name in names if name != part)}"
            for part, files in by_part.items()
        ]

    @torch.no_grad()
    def of_index(self, index: Index) -> Float[np.ndarray, "n d"]:
        """Vectors of unit length of what is searched, of an index that holds the mean of the units."""
        features = torch.from_numpy(np.asarray(index.features, np.float32))
        return normalize(self.objective.cpu().head(features), dim=1).numpy()

    @torch.no_grad()
    def of_queries(self, queries: Sequence[Query], device: str) -> Float[np.ndarray, "q d"]:
        """Vectors of unit length: of queries that have an image by the frozen encoder of images, else by what they
        have."""
        objective, vectors = self.objective.to(device), []
        for query in queries:
            x = query.view[None].to(device)
            has_image = bool(objective.holds(x)[0, objective.place])
            own = objective.of_images(x) if has_image else objective.head(objective.encoder(x).units.mean(dim=1))
            vectors.append(normalize(own.float(), dim=1).cpu())
        return torch.cat(vectors).numpy()

    def samples(self, places: Sequence[str], numbers: Sequence[int]) -> Samples:
        """The same samples with all their parts. numbers: in their source."""
        encoder = self.objective.encoder
        source = open_source(places, encoder.modality)
        return Samples(source, numbers, channels=encoder.channels, max_side=4 * max(encoder.grid.size))


@dataclass(frozen=True)
class Recall:
    """How often a sample finds its partner among the first few of all."""

    query: str  # the part that is searched by
    found: str  # the part that is searched among
    count: int  # of pairs
    right: dict[int, int]  # rank -> how many find their own among so many

    def share(self, rank: int) -> tuple[float, float, float]:
        """With its 95 % interval over the pairs."""
        return self.right[rank] / self.count, *wilson(self.right[rank], self.count)

    def sentence(self) -> str:
        shares = ", ".join(f"{percent(*self.share(rank))} at {rank}" for rank in self.right)
        chance = ", ".join(percent(min(1.0, rank / self.count)) for rank in self.right)
        return (
            f"Recall (by its {self.query}, a sample finds its own {self.found} among the first of {self.count:,}):"
            f" {shares}; chance is {chance}"
        )

    def to_json(self) -> Json:
        shares = {str(rank): dict(zip(("share", "low", "high"), self.share(rank))) for rank in self.right}
        return {"query": self.query, "found": self.found, "pairs": self.count, "recall": shares}


@torch.no_grad()
def recalls(
    objective: Align,
    samples: Samples,
    batch: int,
    device: str,
    progress: Callable[[int], object] = lambda done: None,  # told the number of samples looked at
) -> list[Recall]:
    """Of each part and the image, in both directions; of parts that come in fewer than two pairs, nothing. As
    in a search, images
    that are queries are seen by the frozen encoder, and those that are found by the one that was aligned."""
    objective, names = objective.to(device), names_of(objective)
    view = samples.source.modality.whole(objective.encoder.grid.size)
    rows: list[dict[str, Tensor]] = []
    for number, each in enumerate(each_once(samples, view, batch), 1):
        embedded = objective.embed({"views": [each["views"][0].to(device)]})
        rows.append({name: value.cpu() for name, value in embedded.items()})
        progress(min(number * batch, len(samples)))
    whole = {name: torch.cat([each[name] for each in rows]) for name in rows[0]}
    parts, image = (normalize(whole[name].float(), dim=-1) for name in ("parts", "image"))
    judged = []
    for number, name in enumerate(names):
        paired = whole["there"][:, number].bool()
        if number == objective.place or paired.sum() < 2:  # one pair alone is always found
            continue
        own = parts[paired, number]
        judged.append(_recall(names[objective.place], name, image[paired], own))
        judged.append(_recall(name, names[objective.place], own, parts[paired, objective.place]))
    return judged


def _recall(query: str, searched: str, first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Recall:
    """Of vectors of unit length. Others that are as near as the partner count as nearer."""
    ranks = []
    for start in range(0, len(first), ROWS):
        likeness = first[start : start + ROWS] @ second.T
        own = likeness.gather(1, torch.arange(start, start + len(likeness))[:, None])
        ranks.append((likeness >= own).sum(dim=1))
    rank = torch.cat(ranks)
    return Recall(query, searched, len(first), {most: int((rank <= most).sum()) for most in RANKS})
