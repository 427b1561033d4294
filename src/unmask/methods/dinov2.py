"""DINOv2's objective, Oquab et al. 2023: DINO for images, iBOT for patches, heads of their own, balanced assignments,
and features spread over the sphere. https://arxiv.org/abs/2304.07193"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.masking.grid import take
from unmask.methods.families.distillation import LARGE, Distillation, uniform
from unmask.methods.families.guide import Guide
from unmask.methods.families.views import distillation_defaults, of_views
from unmask.methods.losses.clustering import sharpness, sinkhorn, swapped, usage
from unmask.methods.losses.patches import encode_half_masked, patch_loss
from unmask.methods.losses.spread import koleo
from unmask.models.ema import Teacher
from unmask.models.encoder import Encoder
from unmask.plain import NonNegativeFloat, NonNegativeInt, PositiveFloat, SeveralInt, Share
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Symptom

__all__ = ["DINOv2"]
LAYER_DECAY, PATCH_RATE = 0.9, 0.2  # factors on the learning rate, per layer and of the patch embedding


class DINOv2(Distillation):
    divisible = False  # assignments are balanced over the batch
    least = 2
    words: Mapping[str, str] = {
        "loss": "cross-entropy with the teacher, of images and of masked patches, and the spread of features",
        "patches": "cross-entropy of masked patches",
        "spread": "nearness of features, minus the logarithm of the distance",
        "entropy": "share of prototypes in use",
        "sharpness": "sharpness of assignments, 0 if uniform",
    }
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            above=8.0,
            says="all images get nearly the same features: they have collapsed",
            remedy="more weight on their spread, dinov2(spread=0.3), a lower --lr, or a larger --batch",
        ),
        uniform("a lower teacher temperature, dinov2(teacher_temperature=0.04), or a lower --lr"),
    )

    def __init__(
        self,
        encoder: Encoder,
        mask: object = "block(ratio=0.5)",
        local: NonNegativeInt = 8,
        prototypes: SeveralInt = 4096,
        momentum: Share = 0.992,
        temperature: PositiveFloat = 0.1,
        teacher_temperature: PositiveFloat = 0.07,
        spread: NonNegativeFloat = 0.1,
        freeze_last: Share = 0.01,
        head: object = None,
        patch_head: object = None,
    ):
        """As in iBOT; spread: weight of KoLeo; prototypes: 65,536 in the paper, for 142 million images."""
        super().__init__(encoder, momentum, temperature, teacher_temperature, freeze_last)
        encoder.require_blanks("dinov2")
        self.spread = spread
        self.mask = build("mask", mask)
        self.views = (f"dino(local={local}, smallest=0.05)",)
        usual = f"prototypes(prototypes={prototypes})"
        self.head = build("projection", head or usual, in_dim=encoder.dim)
        self.patch_head = build("projection", patch_head or usual, in_dim=encoder.dim)
        self.mask_token = nn.Parameter(torch.zeros(encoder.dim))
        student = {"encoder": encoder, "head": self.head, "patch_head": self.patch_head}
        self.teacher = Teacher(nn.ModuleDict(student))
        self.guide = Guide(self.mask, encoder, "dinov2", self.kept, whole=True)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """DINO's, with crops from 32 % on."""
        return distillation_defaults(encoder, crop=0.32, name="DINOv2", blr=2e-3)

    def treatment(self, name: str, parameter: nn.Parameter) -> tuple[float, bool]:
        """Earlier layers learn more slowly, and the patch embedding slower still."""
        scale, decays = super().treatment(name, parameter)
        if not name.startswith("encoder."):
            return scale, decays
        inside = name.removeprefix("encoder.")
        scale *= LAYER_DECAY ** (self.encoder.num_blocks + 1 - self.encoder.depth_of(inside))
        return scale * (PATCH_RATE if "patch_embed" in inside else 1.0), decays

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        temperature = self.sharpening
        large, small = batch["views"][:LARGE], batch["views"][LARGE:]
        teacher = self.teacher.module
        tell = partial(self.guide, progress=self.progress)
        half = encode_half_masked(self.encoder, large, self.mask, self.mask_token, batch.get("rows"), tell)
        index, counts = half.hidden
        with torch.no_grad():
            seen = of_views(teacher["encoder"], large)
            targets = [sinkhorn(teacher["head"](view.pooled).float(), temperature) for view in seen]
            clean = torch.cat([view.units for view in seen])[half.masked]
            patches = teacher["patch_head"](take(clean, index)).float()
            balanced = sinkhorn(patches.flatten(0, 1), temperature, weights=counts.flatten().float())
            patch_targets = balanced.unflatten(0, counts.shape)
        pooled = half.tokens.pooled.chunk(LARGE)
        student = [self.head(view) / self.temperature for view in pooled]
        student += [self.head(view.pooled) / self.temperature for view in of_views(self.encoder, small)]
        guesses = self.patch_head(take(half.tokens.units[half.masked], index)) / self.temperature
        images, patch = swapped(student, targets), patch_loss(guesses, patch_targets, counts)
        spread = torch.stack([koleo(view) for view in pooled]).sum()
        loss = images + patch + self.spread * spread
        said = {"patches": patch.detach(), "spread": spread.detach()}
        return {"loss": loss, **said, "entropy": usage(targets[0]), "sharpness": sharpness(targets[0])}
