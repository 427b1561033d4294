"""What a sampler is told of the images whose masks it draws: a teacher's attention or features, pixels, the progress.

The teacher is the one that the sampler names (`of`), or the method's own; a method without one gets a moving average of
its encoder, made because the sampler says that it needs it.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Sampler
from unmask.models.ema import Teacher, cosine
from unmask.models.encoder import Encoder
from unmask.models.layers.attention_maps import received, require_maps
from unmask.weights.frozen_teacher import FrozenTeacher

TOLD = ("teacher_attention", "features", "pixels", "progress")
MOMENTUM = 0.996  # of a teacher that the sampler alone needs, at first; 1 at the end, as for the target ema


class Guide(nn.Module):
    """Part of an objective; holds the teacher where it was made for the sampler."""

    own: Teacher | None
    frozen: FrozenTeacher | None

    def __init__(
        self,
        sampler: Sampler,
        encoder: Encoder,
        method: str,
        teacher: Encoder | FrozenTeacher | None = None,
        errors: bool = False,
        whole: bool = False,
        masks: int = 1,
    ):
        """teacher: the method's own; errors: it tells the sampler how well hidden units were predicted; whole: see
        `Sampler.require`; masks: of each image in a step. Raises UserError where the method cannot tell what the
        sampler needs, or several masks of an image would be equal."""
        super().__init__()
        self.own = self.frozen = None
        sampler.require(method, {*TOLD, "errors"} if errors else TOLD, whole)
        if masks > 1 and sampler.settled:
            raise UserError(
                f"the mask {sampler.name} hides the same patches of an image each time, so that {masks} masks of it are"
                f" equal: --masks-per-image 1, or let chance have a part in it: {sampler.name}(hint=0.1)"
            )
        self.needs, self.block, self.changes = sampler.needs, sampler.block, sampler.changes
        self._encoder, self._teacher = [encoder], [teacher]  # in lists: no children of this module
        if not self.taught:
            return
        if sampler.of is not None:
            self.frozen = FrozenTeacher(sampler.of, encoder, sampler.model)
        elif teacher is None:
            self.own = Teacher(encoder)
        if "teacher_attention" in self.needs:
            seeing = self._asked()
            looks = seeing.encoder if isinstance(seeing, FrozenTeacher) else seeing
            require_maps(looks, self.block, "the mask parts works for it, or another teacher: attention(of=...)")

    @property
    def taught(self) -> bool:
        """Whether the sampler needs a teacher."""
        return bool(self.needs & {"teacher_attention", "features"})

    @property
    def teacher(self) -> Encoder | FrozenTeacher | None:
        """The one that the sampler looks at, or would; None where neither it nor the method has one."""
        return self.frozen or self._teacher[0] or (None if self.own is None else self.own.module)

    def _asked(self) -> Encoder | FrozenTeacher:
        assert self.teacher is not None  # where a sampler needs one
        return self.teacher

    @property
    def words(self) -> Mapping[str, str]:
        """What the method's report calls the numbers that it has because of the sampler."""
        words = {"mask_ratio": "share of patches hidden"} if self.changes else {}
        return words | ({"sampler": "loss of the mask that learns"} if "errors" in self.needs else {})

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c *size"], progress: float) -> Context:
        """Of raw samples, at a progress of the training from 0 to 1."""
        told, grid = Context(progress=progress), self._encoder[0].grid_of(x)
        if "teacher_attention" in self.needs:
            told["teacher_attention"] = self._attention(x, grid)
        if "features" in self.needs:
            told["features"] = self._features(x, grid)
        if "pixels" in self.needs:
            told["pixels"] = self._encoder[0].normalize_units(grid.cut(x))
        return told

    def _attention(self, x: Shaped[Tensor, "b c *size"], grid: Grid) -> Float[Tensor, "b n"]:
        teacher = self._asked()
        if isinstance(teacher, FrozenTeacher):
            return teacher.attention(x, grid, self.block)
        return received(teacher, x, self.block).mean(dim=1)

    def _features(self, x: Shaped[Tensor, "b c *size"], grid: Grid) -> Float[Tensor, "b n d"]:
        teacher = self._asked()
        return teacher(x, grid) if isinstance(teacher, FrozenTeacher) else teacher(x).units.float()

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        """As `Objective.after_step`: moves the teacher, if it was made here."""
        if self.own is not None:
            self.own.update(cosine(MOMENTUM, 1.0, progress), good)

    def note(self) -> str:
        """What a plan says: which teacher the sampler looks at."""
        if not self.taught or self.frozen is not None:
            return ""  # frozen ones have a row of their own
        return "its teacher: a moving average of the encoder, made for it" if self.own else "its teacher: the method's"
