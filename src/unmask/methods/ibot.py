"""iBOT, Zhou et al. 2021: DINO, and the same for masked patches: the teacher sees what the student must guess.
https://arxiv.org/abs/2111.07832"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.masking.grid import take
from unmask.methods.families.distillation import LARGE, Distillation, collapsed, uniform
from unmask.methods.families.guide import Guide
from unmask.methods.families.views import distillation_defaults, of_views
from unmask.methods.losses.clustering import Centre, entropy, sharpness, swapped
from unmask.methods.losses.patches import encode_half_masked, patch_loss
from unmask.models.ema import Teacher
from unmask.models.encoder import Encoder
from unmask.plain import NonNegativeInt, PositiveFloat, SeveralInt, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Symptom

__all__ = ["IBOT"]


class IBOT(Distillation):
    words: Mapping[str, str] = {
        "loss": "cross-entropy with the teacher, of images and of masked patches",
        "patches": "cross-entropy of masked patches",
        "entropy": "share of prototypes in use",
        "sharpness": "sharpness of assignments, 0 if uniform",
    }
    symptoms: Sequence[Symptom] = (
        collapsed("a lower teacher temperature, ibot(teacher_temperature=0.04), or a lower --lr"),
        uniform("a lower teacher temperature, ibot(teacher_temperature=0.04), or a lower --lr"),
    )

    def __init__(
        self,
        encoder: Encoder,
        mask: object = "block(ratio=0.5)",
        local: NonNegativeInt = 8,
        prototypes: SeveralInt = 4096,
        momentum: Share = 0.996,
        temperature: PositiveFloat = 0.1,
        teacher_temperature: PositiveFloat = 0.07,
        freeze_last: Share = 0.01,
        head: object = None,
    ):
        """mask: which patches of the masked half of the images are hidden first; how many is 10 to 50 %, by chance.

        local: small views; prototypes: of the head that images and patches share (8,192 in the paper); the rest as in
        DINO.
        """
        super().__init__(encoder, momentum, temperature, teacher_temperature, freeze_last)
        encoder.require_blanks("ibot")
        self.mask = build("mask", mask)
        self.views = (f"dino(local={local})",)
        self.head = build("projection", head or f"prototypes(prototypes={prototypes})", in_dim=encoder.dim)
        self.mask_token = nn.Parameter(torch.zeros(encoder.dim))
        self.teacher = Teacher(nn.ModuleDict({"encoder": encoder, "head": self.head}))
        self.guide = Guide(self.mask, encoder, "ibot", self.kept, whole=True)
        self.centre, self.patch_centre = Centre(self.head.out_dim), Centre(self.head.out_dim)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """DINO's."""
        return distillation_defaults(encoder, crop=0.25, name="iBOT")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        temperature = self.sharpening
        large, small = batch["views"][:LARGE], batch["views"][LARGE:]
        with torch.no_grad():
            seen = of_views(self.teacher.module["encoder"], large)
            outputs = [self.teacher.module["head"](tokens.pooled).float() for tokens in seen]
            targets = [((view - self.centre.centre) / temperature).softmax(dim=1) for view in outputs]
        tell = partial(self.guide, progress=self.progress)
        half = encode_half_masked(self.encoder, large, self.mask, self.mask_token, batch.get("rows"), tell)
        index, counts = half.hidden
        with torch.no_grad():
            clean = torch.cat([view.units for view in seen])[half.masked]
            patches = self.teacher.module["head"](take(clean, index)).float()
            patch_targets = ((patches - self.patch_centre.centre) / temperature).softmax(dim=2)
            if self.training:
                self.centre.note(torch.cat(outputs))
                self.patch_centre.note(patches.flatten(0, 1), counts.flatten())
        student = [self.head(part) / self.temperature for part in half.tokens.pooled.chunk(LARGE)]
        student += [self.head(view.pooled) / self.temperature for view in of_views(self.encoder, small)]
        guesses = self.head(take(half.tokens.units[half.masked], index)) / self.temperature
        images, patch = swapped(student, targets), patch_loss(guesses, patch_targets, counts)
        said = {"patches": patch.detach(), "entropy": entropy(targets[0]), "sharpness": sharpness(targets[0])}
        return {"loss": images + patch, **said}
