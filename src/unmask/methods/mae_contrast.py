"""MAE and contrastive learning together, in two ways.

`joint`, as CMAE (Huang et al. 2022, https://arxiv.org/abs/2207.13532): the encoder rebuilds the hidden patches of one
view, and its features of that view, completed for hidden patches, find a momentum teacher's of another, slightly moved.

`tuned`, as MAE-CT (Lehner et al. 2023, https://arxiv.org/abs/2304.10520): MAE; then a contrastive head on the frozen
encoder (`head`), whose positives are nearest neighbours in a queue (NNCLR, Dwibedi et al. 2021); then the upper half of
the encoder is trained with this head. The first two are stages of the run.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from torch import Generator, Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.masking.mask import Mask, Noise
from unmask.methods.families.guide import Guide
from unmask.methods.families.neighbours import Neighbours
from unmask.methods.families.prediction import Prediction, light_decoder
from unmask.methods.families.views import joint_defaults, of_views
from unmask.methods.losses.contrastive import accuracy, against_guessing, info_nce
from unmask.methods.target import Target
from unmask.models.decoder import require_usable
from unmask.models.ema import Teacher, cosine
from unmask.models.encoder import Encoder
from unmask.plain import NonNegativeFloat, PositiveFloat, PositiveInt, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Stage, Symptom

__all__ = ["MAEContrast"]
LAYER_DECAY = 0.65  # of the rate, from each block of the tuned half to the one before
QUEUE = 65_536  # projections at the most, as in MAE-CT
Queue = Annotated[int, Interval(gt=0, le=2**20)]


class MAEContrast(Comparing, Prediction):
    symptoms: Sequence[Symptom] = (
        Symptom(
            "guessing",
            above=1.5,
            says="views find their partners less well than by guessing",
            remedy="a higher temperature, such as temperature=0.2 in the method's text, or a lower --lr",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        mode: Literal["joint", "head", "tuned"] = "joint",
        mask: object = None,
        target: object = None,
        decoder: object = None,
        predictor: object = "mlp(hidden=4096, out=256)",
        head: object = "mlp(hidden=2048, out=256)",
        contrast: NonNegativeFloat | None = None,
        temperature: PositiveFloat | None = None,
        momentum: Share | None = None,
        queue: Queue | None = None,
        nearest: PositiveInt | None = None,
    ):
        """mode: joint, or tuned, in three trainings of which head is the second. mask, target, decoder: of the joint
        mode, MAE's by default; contrast: weight of the contrastive loss there, 1 by default.

        head and predictor: projections, thrown away afterwards. temperature: of the cosines, 0.07 jointly and 0.15
        otherwise; momentum: of the teacher, from 0.996 to 1 jointly, 0.99 otherwise, where only the head has one.
        queue: projections of earlier images; nearest: neighbours among which a positive is drawn, 1 for the head and 20
        for tuning.
        """
        super().__init__()
        self.encoder, self.mode, self.contrast = encoder, mode, 1.0 if contrast is None else contrast
        joint = mode == "joint"
        self.temperature = temperature or (0.07 if joint else 0.15)
        self.momentum = (0.996 if joint else 0.99) if momentum is None else momentum
        self.head = build("projection", head, in_dim=encoder.dim)
        self.predictor = build("projection", predictor, in_dim=self.head.out_dim)
        if self.predictor.out_dim != self.head.out_dim:
            raise UserError(f"the predictor gives {self.predictor.out_dim} numbers and the head {self.head.out_dim}")
        if joint:
            self._refuse(queue=queue, nearest=nearest)
            self._rebuilding(mask or "random", target or "pixels", decoder or light_decoder(encoder))
            self.views: Sequence[str] = ("shifted",)
            self.words = {"loss": "squared error on hidden patches, and InfoNCE", "rebuilt": "squared error alone"}
            self.teacher = Teacher(nn.ModuleDict({"encoder": encoder, "head": self.head}))
            self.guide = Guide(self.mask, encoder, "mae_contrast", self.teacher.module["encoder"])
        else:
            self._refuse(mask=mask, target=target, decoder=decoder, contrast=contrast)
            self.views, self.words = ("byol",), {"loss": "InfoNCE with nearest neighbours"}
            self.queue, self.nearest = Neighbours(queue or QUEUE, self.head.out_dim), nearest or self._usual_nearest
            self._freeze()
            self.teacher = Teacher(nn.ModuleDict({"head": self.head}))
        self.words = {**self.words, "accuracy": "views that find their partner"}
        self.words |= {"guessing": "InfoNCE as a share of that of guessing"}

    def _refuse(self, **options: object) -> None:
        """Raises UserError for options of another mode."""
        for name, value in options.items():
            if value is not None:
                raise UserError(f"{name} has no meaning in mae_contrast(mode={self.mode!r}); leave it out")

    @property
    def _usual_nearest(self) -> int:
        return 20 if self.mode == "tuned" else 1

    def _rebuilding(self, mask: object, target: object, decoder: object) -> None:
        """The parts of MAE, and a light decoder that completes the features of hidden patches."""
        encoder = self.encoder
        encoder.require_masks()
        self.mask = build("mask", mask)
        width = encoder.grid.width(encoder.channels)
        self.target = build("target", target, grid=encoder.grid, channels=width, encoder=encoder)
        sizes = {"grid": encoder.grid, "in_dim": encoder.dim, "num_layers": encoder.num_layers}
        self.decoder = build("decoder", decoder, out_dim=self.target.dim, **sizes)
        require_usable(self.decoder, decoder, "mae_contrast", covers=self.mask.covers)
        narrow = max(32, encoder.dim // 2 // 32 * 32)
        completing = f"full(dim={narrow}, depth=2, heads={narrow // 32})"
        self.completion = build("decoder", completing, out_dim=encoder.dim, **sizes)

    def _freeze(self) -> None:
        """Freezes the encoder, or its lower half with what comes before its blocks."""
        trained = self.encoder.num_blocks + 2 if self.mode == "head" else self.encoder.num_blocks // 2 + 1
        for name, parameter in self.encoder.net.named_parameters():
            if self.encoder.depth_of(name) < trained:
                parameter.requires_grad_(False)

    @classmethod
    def defaults_of(
        cls, options: Mapping[str, object], encoder: Encoder, sheet: Sheet, machine: Machine
    ) -> Mapping[str, Choice]:
        """CMAE's settings, or MAE-CT's, on a batch that fits the data."""
        mode = options.get("mode", "joint")
        if mode == "joint":
            shared = joint_defaults(encoder, sheet, crop=0.2, weight_decay=0.05, blr=1.5e-4, name="CMAE")
            parts = {"mask": "random(ratio=0.75)", "target": "pixels", "decoder": light_decoder(encoder)}
            return {**shared, **{name: Choice(text, "as in MAE") for name, text in parts.items()}}
        decay = 1e-5 if mode == "head" else 0.05
        shared = joint_defaults(encoder, sheet, crop=0.08, weight_decay=decay, blr=1e-4, name="MAE-CT")
        count = min(QUEUE, 2 ** int(math.log2(max(16, sheet.count / 2))))
        why = f"at most half of {sheet.count:,} images, so that neighbours are others; {QUEUE:,} in MAE-CT"
        return {**shared, "queue": Choice(count, why)}

    @classmethod
    def stages(cls, options: Mapping[str, object]) -> Sequence[Stage]:
        if options.get("mode") != "tuned":
            return ()
        own = {"mode": "head"} | {key: value for key, value in options.items() if key not in ("mode", "nearest")}
        head = f"mae_contrast({', '.join(f'{key}={value!r}' for key, value in own.items())})"
        return Stage("mae", 0.75, "the encoder learns to rebuild"), Stage(head, 0.1, "a head on the frozen encoder")

    def schedules(self, progress: float) -> Mapping[str, float]:
        return {"momentum": cosine(self.momentum, 1.0, progress) if self.mode == "joint" else self.momentum}

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """Layer decay for the tuned half of the encoder; weight decay as in MAE."""
        scale = 1.0
        if self.mode == "tuned" and name.startswith("encoder."):
            depth = self.encoder.depth_of(name.removeprefix("encoder."))
            scale = LAYER_DECAY ** (self.encoder.num_blocks + 1 - depth)
        return scale, parameter.ndim >= 2

    def train(self, mode: bool = True) -> "MAEContrast":
        """A frozen encoder stays in eval mode."""
        super().train(mode)
        if self.mode == "head":
            self.encoder.eval()
        return self

    @property
    def drawable(self) -> bool:
        return self.mode == "joint" and super().drawable

    def prepare(self, batches: Iterator[Batch]) -> None:
        if self.mode == "joint":
            super().prepare(batches)

    def draw(self, batch: Batch, generator: Generator | None = None) -> Mask:
        """The mask of the first view."""
        return super().draw({**batch, "views": batch["views"][:1]}, generator)

    def predict(self, x: Tensor, mask: Mask) -> Tensor:
        """Predicted targets of the hidden units, in the order of `mask.hidden`."""
        return self.decoder(self.encoder(x, mask), mask, self.encoder.grid_of(x))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The loss; of one view alone, as it is drawn and exported, that of the reconstruction."""
        if self.mode == "joint" and len(batch["views"]) == 1 and "embeddings" not in batch:
            (x,), mask = batch["views"], self.draw(batch)
            rebuilt = self._errors(self.predict(x, mask).float(), self.targets(x, mask.hidden)).mean()
            return {"loss": rebuilt, "rebuilt": rebuilt}
        return super().forward(batch)

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        if self.mode != "joint":
            with torch.no_grad() if self.mode == "head" else nullcontext():
                features = [tokens.units.mean(dim=1) for tokens in of_views(self.encoder, batch["views"])]
            chance = Noise(features[0].device, rows=batch.get("rows"))(len(features[0]), 2)
            return {"features": torch.stack(features, dim=1), "chance": chance}
        x, moved = batch["views"]
        mask, grid = self.draw(batch), self.encoder.grid_of(x)
        tokens = self.encoder(x, mask)
        errors = self._errors(self.decoder(tokens, mask, grid).float(), self.targets(x, mask.hidden))
        completed = torch.cat([tokens.units, self.completion(tokens, mask, grid).to(tokens.units.dtype)], dim=1)
        with torch.no_grad():
            keys = self.teacher.module["encoder"](moved).units.mean(dim=1)
        return {"queries": completed.mean(dim=1), "keys": keys, "errors": errors}

    def _errors(self, prediction: Tensor, wanted: Tensor) -> Tensor:
        """The loss of the reconstruction for every sample; the mean, where the target has a loss of its own."""
        if isinstance(self.target, Target) and self.target.loss_words is not None:
            return self.target.compare(prediction, wanted).expand(len(prediction))
        return (prediction - wanted).square().mean(dim=(1, 2))

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.mode != "joint":
            return self._with_neighbours(embeddings)
        queries = self.predictor(self.head(embeddings["queries"]))
        with torch.no_grad():
            keys = self.teacher.module["head"](embeddings["keys"])
        rebuilt = embeddings["errors"].mean()
        contrast = info_nce(queries, keys, self.temperature) / (2 * self.temperature)  # the factor is MoCo v3's
        said = {"accuracy": accuracy(queries, keys), "guessing": against_guessing(contrast, len(keys))}
        return {"loss": rebuilt + self.contrast * contrast, "rebuilt": rebuilt, **said}

    def _with_neighbours(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each view's prediction is to find a neighbour of the other view among those of all images."""
        both = embeddings["features"].transpose(0, 1).flatten(0, 1)  # b 2 d -> (2 b) d
        predictions = self.predictor(self.head(both)).chunk(2)
        with torch.no_grad():
            keys = self.teacher.module["head"](both.detach())
            chance = embeddings["chance"].T.flatten() if self.nearest > 1 else None
            positives = self.queue.nearest(keys, self.nearest, chance).chunk(2)
        if self.training:
            self.queue.note(keys.chunk(2)[0])
        losses = [info_nce(positives[place], predictions[1 - place], self.temperature) for place in (0, 1)]
        loss = torch.stack(losses).mean() / (2 * self.temperature)
        said = {"accuracy": accuracy(positives[0], predictions[1])}
        return {"loss": loss, **said, "guessing": against_guessing(loss, len(predictions[1]))}

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.teacher.update(self.scheduled.get("momentum", self.momentum), good)
        if self.mode == "joint":
            super().after_step(progress, good)
        else:
            self.queue.move(good)
