"""Masks drawn on images: any sampler on the patches of a trained model, told what it needs by that model."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Shaped
from torch import Generator, Tensor

from unmask.data.modality import IMAGE, Modality, make_modality
from unmask.errors import UserError
from unmask.masking.grid import Grid
from unmask.masking.mask import Context, Mask, Sampler, as_bool
from unmask.methods.families.guide import Guide
from unmask.models.encoder import Encoder
from unmask.models.state import load_strictly
from unmask.registry import build, parse
from unmask.report.panel import Row
from unmask.report.reconstruction import GREY, picture
from unmask.training.objective import Objective
from unmask.weights.frozen_teacher import FrozenTeacher


def named(masks: Sequence[str], ratios: Sequence[float]) -> list[str]:
    """The texts of every mask with every ratio, or with its own where there is none."""
    texts = []
    for mask, ratio in product(masks, ratios or (None,)):
        name, given = parse(mask)
        given |= {} if ratio is None else {"ratio": ratio}
        texts.append(f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" if given else name)
    return texts


class MaskMaker:
    """Draws the masks of a text, on raw images of the model's size."""

    def __init__(
        self,
        text: str,
        model: Objective | Encoder | None,
        progress: float = 1.0,
        size: Sequence[int] = (),
        patch: int = 1,
    ):
        """model: a trained method, whose teacher is asked and whose mask may have learned; an encoder, which is asked
        itself; or none, of images of this size and patch. progress: of the training, from 0 to 1. Raises UserError for
        masks that need what is not there."""
        self.progress, self.guide, self.gaps, self.planes = progress, None, False, 0
        if model is None:
            self.grid = Grid(tuple(side // patch for side in size), (patch, patch))
            self.sampler: Sampler = build("mask", text)
            if self.sampler.needs - {"progress"}:
                raise UserError(
                    f"the mask {text} looks at images with a network: name a run, weights or a timm model before the"
                    " images, as in unmask show RUN IMAGE... --what masks"
                )
        else:
            encoder = model if isinstance(model, Encoder) else model.encoder
            self.grid, self.gaps, self.planes = encoder.grid, encoder.gaps, encoder.planes
            self.sampler = build("mask", text, grid=encoder.grid, channels=encoder.grid.width(encoder.channels))
            _learned(self.sampler, getattr(model, "mask", None))
            self.guide = Guide(self.sampler, encoder, "a drawing", _teacher_of(model), errors=True)
            self.guide.eval()
        self.sampler.require_grid(self.grid)

    @torch.no_grad()
    def __call__(self, x: Shaped[Tensor, "b c *size"], generator: Generator) -> Mask:
        """generator: on the CPU, so that all devices draw the same."""
        sampler = self.sampler.to(x.device).eval()
        told = Context(progress=self.progress) if self.guide is None else self.guide(x, self.progress)
        if self.gaps:
            told["empty"] = self.grid.cut(x[:, : x.shape[1] - self.planes].isnan()).all(dim=2)
        return sampler(len(x), self.grid.of(x), x.device, generator, context=told)

    def hidden_pixels(self, mask: Mask) -> Shaped[Tensor, "b _ *size"]:
        """True where a pixel belongs to a hidden unit; of one channel, or of each where units differ by channel."""
        return self.grid.spread(as_bool(mask.hidden, self.grid.num_units))


def _learned(sampler: Sampler, own: Sampler | None) -> None:
    """Fills a sampler that learns with what that of the run has learned."""
    if not list(sampler.parameters()):
        return
    if own is None or type(own) is not type(sampler):
        raise UserError(
            f"the mask {sampler.name} is learned in a training, and this model was trained without it: name a run that"
            f" was made with --mask {sampler.name}"
        )
    load_strictly(sampler, own.state_dict(), "the run's mask")


def _teacher_of(model: Objective | Encoder) -> Encoder | FrozenTeacher:
    """The one that the run's own mask or target is told by, else the encoder that was trained."""
    if isinstance(model, Encoder):
        return model
    guide: Guide | None = getattr(model, "guide", None)
    teacher = None if guide is None else guide.teacher
    return teacher or model.kept


def mask_rows(
    names: Sequence[str],
    images: Sequence[Shaped[Tensor, "c *size"]],
    makers: Mapping[str, MaskMaker],
    seed: int,
    modality: str = IMAGE,
) -> tuple[list[Row], str]:
    """Each sample beside what each mask leaves of it, and a note for all."""
    rows, shares, kind = [], {}, make_modality(modality)
    for place, (name, image) in enumerate(zip(names, images)):
        shown = picture(kind, image.cpu(), image.cpu())
        columns = {"input": shown}
        for text, maker in makers.items():
            mask = maker(image[None], Generator().manual_seed(seed + place))
            hidden = maker.hidden_pixels(mask)[0].cpu()
            columns[text] = without(kind, image.cpu(), hidden, shown)
            shares[text] = mask.hidden.shape[1] / maker.grid.num_units
        rows.append(Row(name, columns))
    rounded = ", ".join(f"{share:.0%}" for share in shares.values())
    return rows, f"hidden patches left out ({rounded})" if kind.pictured else f"grey: hidden patches ({rounded})"


def without(
    modality: Modality, image: Shaped[Tensor, "c *size"], hidden: Bool[Tensor, "_ *size"], shown: np.ndarray
) -> np.ndarray:
    """What a mask leaves of a sample that is drawn as `shown`."""
    if modality.pictured or modality.lines:
        return picture(modality, image.masked_fill(hidden, torch.nan), image, hidden[0])
    told = hidden[:1].expand(len(image) - len(hidden), *hidden.shape[1:])  # of what is no value, or of each channel
    hidden_flat = modality.flat(torch.cat([hidden, told]))[0].numpy()
    (height, width), drawing = hidden_flat.shape, shown.copy()
    drawing[:height, :width] = np.where(hidden_flat[..., None], GREY, shown[:height, :width])
    return drawing
