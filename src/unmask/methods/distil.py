"""A frozen teacher's features and feature maps, learnt by a network of any kind. Romero et al. 2015 (FitNets),
https://arxiv.org/abs/1412.6550; normalised as by Wei et al. 2022, https://arxiv.org/abs/2205.14141.

The teacher is any encoder that `weights/` opens, such as a run of one's own. Teacher and student see the same crop
(Beyer et al. 2022, https://arxiv.org/abs/2106.05237). What the teacher shows is freed of what all images have in
common, a mean and a deviation for each channel, and then normalised for each patch: else a constant would be half
right.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity, layer_norm, smooth_l1_loss

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.errors import UserError, closest
from unmask.methods.families.whole_teacher import Level, WholeTeacher, levels_of
from unmask.methods.losses.spread import deviation
from unmask.models.encoder import Encoder
from unmask.plain import NonNegativeFloat
from unmask.runtime.machine import Machine
from unmask.training.objective import Objective, Symptom

__all__ = ["Distil"]
LOSSES = {"cosine": "1 - cosine", "smooth_l1": "smooth L1 distance"}
LOOKED_AT = 8  # batches of which mean and deviation are taken
RATES = {64: 4e-3, 256: 2e-3}  # batch -> learning rate per 256 images: 1e-3 and 2e-3, by the root of the batch
LEAST = 1e-3  # deviation of a channel, as a share of the mean one: less is the same for all images


class Distil(Objective):
    least = 2  # batch normalisation says nothing of one
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.02,
            says="the student answers all images alike",
            remedy="a lower --lr if it is high, else a longer run",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        of: str | None = None,
        loss: str = "cosine",
        features: NonNegativeFloat = 1.0,
        maps: NonNegativeFloat = 1.0,
        strides: Sequence[int] | None = None,
        pooling: str = "mean",
        model: str | None = None,
        size: int | Sequence[int] | None = None,
    ):
        """of: the teacher, a run folder, a file or folder of weights, or a timm name; loss: cosine or smooth_l1;
        features, maps: weights of the two losses; strides: of the student's maps that learn, by default the teacher's
        and all larger ones; pooling: the teacher's vector, mean or cls; model: a timm name, where a file does not tell;
        size: at which the teacher sees images, pixels."""
        super().__init__()
        if not isinstance(of, str) or not of:
            raise UserError("distil needs a teacher, in quotes: distil(of='run'); or: unmask distil RUN --into STUDENT")
        if loss not in LOSSES:
            raise UserError(f"distil(loss={loss!r}){closest(str(loss), LOSSES)} There are: {', '.join(LOSSES)}")
        if not features and not maps:
            raise UserError("with features=0 and maps=0 there is nothing to learn; make one of them larger")
        self.encoder, self.loss, self.weights = encoder, loss, (features, maps)
        self.teacher = WholeTeacher(of, encoder, model, size, pooling)
        own = levels_of(encoder)
        self.taught = _matched(own, self.teacher.levels, strides) if maps else []  # number of own map, of teacher's
        dims = [self.teacher.dim, *(self.teacher.levels[theirs].dim for _, theirs in self.taught)]
        self.to_features = nn.Linear(encoder.dim, dims[0]) if features else None
        pairs = zip(self.taught, dims[1:])
        self.to_maps = nn.ModuleList(nn.Conv2d(own[mine].dim, dim, 1) for (mine, _), dim in pairs)
        for number, dim in enumerate(dims):  # of the vector, then of each map
            self.register_buffer(f"mean_{number}", torch.zeros(dim))
            self.register_buffer(f"std_{number}", torch.ones(dim))
        self.words = {"loss": f"{LOSSES[loss]} to the teacher's features and maps"}
        self.words |= {"spread": "spread of the student's answers"}
        self.words |= {"features": f"{LOSSES[loss]} to its features"} if features else {}
        self.words |= {"maps": f"{LOSSES[loss]} to its maps"} if self.taught else {}

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """Batches in which batch normalisation works, and a rate for AdamW that suits convolutions."""
        most = 2 ** int(math.log2(max(sheet.count / 4, 16)))  # four or more steps per epoch
        usual = 256 if machine.device == "cuda" else 64
        return {
            "batch": Choice(min(usual, most), "enough for batch normalisation, few enough for many steps"),
            "blr": Choice(RATES[usual], f"as AdamW on convolutions at a batch of {usual}"),
            "crop": Choice(0.25, "teacher and student see the same crop, which has to show what the image is of"),
        }

    @torch.no_grad()
    def prepare(self, batches: Iterator[Batch]) -> None:
        """Mean and deviation of each channel of what the teacher shows."""
        values: list[list[Tensor]] = []
        for batch in islice(batches, LOOKED_AT):
            shown = self.teacher.shown(batch["views"][0])
            maps = [shown.maps[theirs].transpose(0, 1).flatten(1).T for _, theirs in self.taught]
            values.append([shown.pooled, *maps])
        for number, parts in enumerate(zip(*values)):
            all_of_them = torch.cat(parts)
            std = all_of_them.std(dim=0, unbiased=False)
            self.get_buffer(f"mean_{number}").copy_(all_of_them.mean(dim=0))
            self.get_buffer(f"std_{number}").copy_(std.clamp(min=LEAST * float(std.mean()) + 1e-12))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Distances of the projected features and maps, each averaged, and their weighted sum."""
        (x,) = batch["views"]
        shown, (pooled, own) = self.teacher.shown(x), self.encoder.seen(x)
        outputs, loss = {"spread": deviation(pooled)}, torch.zeros((), device=x.device)
        if self.to_features is not None:
            outputs["features"] = self._distance(self.to_features(pooled), shown.pooled, 0)
            loss = loss + self.weights[0] * outputs["features"]
        if self.taught:
            pairs = zip(self.to_maps, self.taught)
            apart = [self._map_distance(project, own[mine], shown.maps[theirs], number)
                     for number, (project, (mine, theirs)) in enumerate(pairs, start=1)]  # fmt: skip
            outputs["maps"] = torch.stack(apart).mean()
            loss = loss + self.weights[1] * outputs["maps"]
        return {"loss": loss, **{name: value.detach() for name, value in outputs.items()}}

    def _map_distance(
        self, project: nn.Module, own: Float[Tensor, "b _ _ _"], theirs: Float[Tensor, "b d _ _"], number: int
    ) -> Float[Tensor, ""]:
        """Of a map from the teacher's; the finer of the two is averaged over the places of the coarser."""
        shape = min(own.shape[2], theirs.shape[2]), min(own.shape[3], theirs.shape[3])
        projected = project(adaptive_avg_pool2d(own, shape))
        places = [m.flatten(2).transpose(1, 2) for m in (projected, adaptive_avg_pool2d(theirs, shape))]
        return self._distance(places[0], places[1], number)

    def _distance(self, own: Float[Tensor, "*n d"], theirs: Float[Tensor, "*n d"], number: int) -> Float[Tensor, ""]:
        """number: 0 for the vector, from 1 on for maps."""
        mean, std = self.get_buffer(f"mean_{number}"), self.get_buffer(f"std_{number}")
        wanted = layer_norm((theirs - mean) / std, (theirs.shape[-1],))
        if self.loss == "cosine":
            return (1 - cosine_similarity(own.float(), wanted, dim=-1)).mean()
        return smooth_l1_loss(own.float(), wanted)


def _matched(own: list[Level], theirs: list[Level], strides: Sequence[int] | None) -> list[tuple[int, int]]:
    """Numbers of the student's maps that learn, each with that of the teacher's of the nearest stride. Raises UserError
    for a stride that the student does not have."""

    def apart(a: Level, b: Level) -> float:
        return abs(math.log2(a.stride / b.stride))

    own_strides = [round(level.stride) for level in own]
    for stride in strides or ():
        if stride not in own_strides:
            raise UserError(f"the student has no map of stride {stride}; it has {', '.join(map(str, own_strides))}")
    finest = min(theirs, key=lambda level: level.stride)
    first = min(range(len(own)), key=lambda number: (apart(own[number], finest), number))
    chosen = [
        n for n in range(len(own)) if (own_strides[n] in strides if strides else own[n].stride >= own[first].stride)
    ]
    return [(n, min(range(len(theirs)), key=lambda their: apart(own[n], theirs[their]))) for n in chosen]
