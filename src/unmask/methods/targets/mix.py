"""Two targets at once, each predicted by its share of the decoder's outputs and with its own loss; these are added with
weights. As MaskFeat's and EVA's ablations do, pixels and features for instance."""

from collections.abc import Iterable
from itertools import tee
from pathlib import Path

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Mask
from unmask.methods.target import Target
from unmask.models.encoder import Encoder
from unmask.plain import PositiveFloat
from unmask.registry import build, parse

__all__ = ["Mix"]


class Mix(Target):
    per_pixel = False

    def __init__(
        self,
        grid: Grid,
        encoder: Encoder,
        channels: int = 3,
        a: object = None,
        b: object = None,
        weights: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0),
    ):
        """a, b: targets, as `name(option=value)` or objects; weights: of their losses. Where one of them can be drawn,
        it is: the first that can."""
        super().__init__()
        if a is None or b is None:
            raise UserError("mix needs two targets, such as mix(a=pixels, b=hog, weights=(1, 0.5))")
        built = [build("target", part, grid=grid, channels=channels, encoder=encoder) for part in (a, b)]
        for part, target in zip((a, b), built):
            if not isinstance(target, Target):
                raise UserError(f"mix takes targets that are a `Target`; {part} is a {type(target).__name__}")
        self.parts, self.weights, self.grid = nn.ModuleList(built), weights, grid
        self.dims = [part.dim for part in self.targets]
        self.dim, self.raw = sum(self.dims), any(part.raw for part in self.targets)
        self._encoder = [encoder]  # in a list: no child of this module, yet copied and moved along with the objective
        names = [_name(part) for part in (a, b)]
        self.names = names if names[0] != names[1] else [f"{name}_{place}" for name, place in zip(names, "ab")]
        words = [part.loss_words or "mean squared error" for part in self.targets]
        told = [f"{weight:g} x {text} ({name})" for weight, text, name in zip(weights, words, self.names)]
        self.loss_words, scalars = " + ".join(told), dict(zip(self.names, words))
        for name, part in zip(self.names, self.targets):
            scalars |= {f"{name}_{key}": text for key, text in part.scalars.items()}
        self.scalars = scalars
        drawable = [place for place, part in enumerate(self.targets) if part.drawable]
        self.drawn, self.drawable = (drawable[0] if drawable else None), bool(drawable)
        self.undrawn = " and ".join(dict.fromkeys(part.undrawn for part in self.targets))

    @property
    def targets(self) -> list[Target]:
        return list(self.parts)  # pyright: ignore[reportReturnType]

    @property
    def normalize(self) -> bool:
        """Whether what is drawn lacks each unit's mean and deviation."""
        return self.drawn is not None and getattr(self.targets[self.drawn], "normalize", False)

    def _own(self, part: Target, x: Shaped[Tensor, "b c *size"]) -> Shaped[Tensor, "b c *size"]:
        """The input as a part takes it."""
        return self._encoder[0].normalize(x) if self.raw and not part.raw else x

    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b n p"]:
        """The parts' targets side by side. Ids are written as floats, which are exact up to 2 ** 24."""
        return torch.cat([part(self._own(part, x)).float() for part in self.targets], dim=-1)

    def compare(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m q"]) -> Float[Tensor, ""]:
        return self.losses(prediction, wanted)["loss"]

    def losses(self, prediction: Float[Tensor, "b m p"], wanted: Float[Tensor, "b m q"]) -> dict[str, Tensor]:
        widths = [part.dim if part.ids is None else part.ids for part in self.targets]
        predictions, wants = prediction.split(self.dims, dim=-1), wanted.split(widths, dim=-1)
        summands, said = [], {}
        for name, part, weight, guess, truth in zip(self.names, self.targets, self.weights, predictions, wants):
            own = part.losses(guess, truth if part.ids is None else truth.long())
            loss = own.pop("loss")
            summands.append(weight * loss)
            said |= {name: loss.detach()} | {f"{name}_{key}": value for key, value in own.items()}
        return {"loss": summands[0] + summands[1], **said}

    def to_pixels(
        self, prediction: Float[Tensor, "b h p"], x: Float[Tensor, "b c *size"], mask: Mask, leak: bool = False
    ) -> Float[Tensor, "b h q"]:
        """By the part that can be drawn."""
        if self.drawn is None:
            return super().to_pixels(prediction, x, mask, leak)
        own = prediction.split(self.dims, dim=-1)[self.drawn]
        return self.targets[self.drawn].to_pixels(own, x, mask, leak)

    def fit(self, inputs: Iterable[Shaped[Tensor, "b c *size"]]) -> None:
        """Fits the parts that need it, each to the same inputs."""
        fitted = [part for part in self.targets if isinstance(part, Mix) or type(part).fit is not Target.fit]
        for part, own in zip(fitted, tee(inputs, len(fitted))):
            part.fit(self._own(part, x) for x in own)

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        for part in self.targets:
            part.after_step(progress, good)


def _name(part: object) -> str:
    """What a part is called in records: its name without folder and ending, or its class in small letters."""
    name = parse(part)[0] if isinstance(part, str) else type(part).__name__.lower()
    return Path(name).stem if name.endswith(".py") else name.rpartition(".")[2]
