"""Other kinds of data, brought to the vectors that a frozen encoder gives of images. Girdhar et al. 2023 (ImageBind),
https://arxiv.org/abs/2305.05665.

Of a sample that has an image and a sound, the encoder sees the sound alone, and is to give the vector of the image:
InfoNCE over the batch of all processes. So it does with every part, the image itself too, so that the one encoder
compares any two of them, also two that never came together. Where the teacher learnt words from captions (`siglip`),
its space is theirs, and words find sounds. InfoNCE alone leaves open how far a sound goes along what all images have in
common, and there lies most of what a word's vector holds: so the distance to the image's vector counts there too, and a
sound fits words as its image does. Of images alone, another encoder learns to tell them apart as the teacher
does (Tian et al. 2020, https://arxiv.org/abs/1910.10699).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.modalities.joint.packing import Layout
from unmask.data.modalities.multimodal import Multimodal
from unmask.data.modality import IMAGE, make_modality
from unmask.data.sheet import Sheet
from unmask.errors import UserError, closest
from unmask.masking.grid import Part
from unmask.methods.families.pooled_teacher import PooledTeacher
from unmask.methods.families.views import joint_defaults
from unmask.methods.families.word_space import open_word_space
from unmask.methods.losses.pairs import (
    distance_of_pairs,
    find_partners,
    guessing_of_pairs,
    info_nce_of_pairs,
)
from unmask.methods.losses.spread import deviation
from unmask.models.encoder import Encoder
from unmask.plain import PositiveFloat
from unmask.runtime.machine import Machine
from unmask.training.objective import Comparing, Symptom

__all__ = ["Align"]
LARGEST_SCALE = 100.0  # of the cosines, as in CLIP
LOOKED_AT = 8  # batches of which mean and deviation of the teacher's vectors are taken
TO_WORDS = 5.0  # weight of the distance to the image's vector, where words are compared
LEAST = 1e-3  # deviation of one of their values, as a share of the mean one


class Align(Comparing):
    symptoms: Sequence[Symptom] = (
        Symptom(
            "spread",
            below=0.03,
            says="all samples get the same vector: none can be told from another",
            remedy="a lower --lr, or more --warmup",
        ),
        Symptom(
            "guessing",
            above=0.99,
            says="no part finds its image better than by guessing",
            remedy="a lower --lr or more --warmup; and see whether image and other parts belong together: unmask show",
        ),
    )

    def __init__(
        self,
        encoder: Encoder,
        of: str | None = None,
        image: str | None = None,
        temperature: PositiveFloat = 0.07,
        model: str | None = None,
        size: int | Sequence[int] | None = None,
    ):
        """of: the frozen encoder of images, a run folder, a file or folder of weights, or a timm name; image: the part
        that it sees, by default the first that is an image; temperature: of the cosines, at first; it is learnt. model:
        a timm name, where a file does not tell; size: at which it sees images, pixels."""
        super().__init__()
        if not isinstance(of, str) or not of:
            raise UserError("align needs an encoder of images, in quotes: align(of='run')")
        self.encoder = encoder
        self.layout, self.place = _image_in(encoder, image)
        self.parts: tuple[Part | None, ...] = encoder.grid.parts or (None,)  # None: the whole
        seen = encoder if self.layout is None else self.layout.alone(self.place)
        self.teacher = PooledTeacher(of, seen, model, size)
        if (kind := make_modality(self.teacher.encoder.modality)).word != make_modality(IMAGE).word:
            raise UserError(f"align(of={of!r}): it needs an encoder of images; that is one of {kind.word}s")
        self.space = open_word_space(of)
        width = self.space.shape["out"] if self.space else self.teacher.dim
        self.head = nn.Linear(encoder.dim, width)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.words = {
            "loss": "InfoNCE to the images' vectors, mean over the parts"
            + (f", and {TO_WORDS:g} times the distance to them (1 - cosine)" if self.space else ""),
            "accuracy": f"{self._others} that find their image",
            "guessing": "the loss as a share of that of guessing",
            "spread": f"spread of the vectors of {self._others}",
        }

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """As for captions: a large batch, and crops that show what a sample is of."""
        shared = joint_defaults(encoder, sheet, crop=0.5, weight_decay=0.1, blr=1.5e-4, name="SigLIP")
        return {**shared, "crop": Choice(0.5, "what image and other parts have in common is to be seen in the crop")}

    @property
    def scale(self) -> Float[Tensor, ""]:
        """Of the cosines."""
        return self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()

    @property
    def _others(self) -> str:
        names = [part.name for part in self.parts if part is not None]
        return " and ".join(name for number, name in enumerate(names) if number != self.place) or "images"

    @torch.no_grad()
    def prepare(self, batches: Iterator[Batch]) -> None:
        """Mean and deviation of each value of the teacher's vectors, by which it is normalised: what all images have in
        common would make their cosines alike. Not where it compares them with words: there it is as trained."""
        if self.space is not None:
            return
        seen = [self._vectors_there(batch["views"][0]) for batch in islice(batches, LOOKED_AT)]
        vectors = torch.cat(seen)
        std = vectors.std(dim=0, unbiased=False)
        self.get_buffer("mean").copy_(vectors.mean(dim=0))
        self.get_buffer("std").copy_(std.clamp(min=LEAST * float(std.mean()) + 1e-12))

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """image: b d, the teacher's; parts: b p d, each seen alone; there: b p, whether part and image are there."""
        (x,) = batch["views"]
        holds = self.holds(x)
        own = torch.stack([self.of_part(x, number) for number in range(len(self.parts))], dim=1)
        return {"image": self.of_images(x), "parts": own, "there": (holds & holds[:, [self.place]]).int()}

    def compare(self, embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
        image, there = embeddings["image"], embeddings["there"].bool()
        parts = embeddings["parts"].unbind(dim=1)
        losses = [info_nce_of_pairs(own, image, self.scale, there[:, n]) for n, own in enumerate(parts)]
        loss = told_apart = torch.stack(losses).mean()
        if self.space is not None:
            apart = [distance_of_pairs(own, image, there[:, n]) for n, own in enumerate(parts)]
            loss = told_apart + TO_WORDS * torch.stack(apart).mean()
        costs = torch.stack([guessing_of_pairs(there[:, n]) for n in range(len(parts))])
        others = [n for n in range(len(parts)) if n != self.place] or [self.place]
        found = torch.stack([find_partners(parts[n], image, there[:, n]) for n in others]).mean()
        spread = torch.stack([deviation(parts[n]) for n in others]).mean()
        return {"loss": loss, "accuracy": found, "guessing": told_apart.detach() / costs.mean(), "spread": spread}

    @torch.no_grad()
    def of_images(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b d"]:
        """The teacher's vectors of the images in raw samples; of no meaning where one has none."""
        vectors = self.teacher.vectors(self._images(x).nan_to_num(0.0))
        vectors = vectors if self.space is None else self.space.of_images(vectors)
        return (vectors - self.get_buffer("mean")) / self.get_buffer("std")

    def of_part(self, x: Shaped[Tensor, "b c *size"], number: int) -> Float[Tensor, "b d"]:
        """The encoder's vectors of raw samples of which it sees one part; of no meaning where one lacks it."""
        return self.head(self.encoder(self.alone(x, number)).units.mean(dim=1))

    def alone(self, x: Shaped[Tensor, "b c *size"], number: int) -> Shaped[Tensor, "b c *size"]:
        """Raw samples as if they had this part only; those that lack it stay as they are, so that all are finite."""
        if self.parts[number] is None:
            return x
        first, end = self.encoder.grid.spans[number]
        places, width = torch.arange(x.shape[2], device=x.device), self.encoder.grid.unit[0]
        inside = (places >= first * width) & (places < end * width)
        return torch.where(inside | ~self.holds(x)[:, number, None, None], x, torch.nan)

    def holds(self, x: Shaped[Tensor, "b c *size"]) -> Bool[Tensor, "b p"]:
        """Which parts each sample has."""
        if self.layout is None:
            return torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
        missing = self.encoder.grid.cut(x.isnan()).all(dim=2)
        return torch.stack([~missing[:, first:end].all(dim=1) for first, end in self.encoder.grid.spans], dim=1)

    def _images(self, x: Shaped[Tensor, "b c *size"]) -> Shaped[Tensor, "b k h w"]:
        """The images in raw samples, in raw values."""
        if self.layout is None:
            return x
        part, (first, end) = self.parts[self.place], self.encoder.grid.spans[self.place]
        assert part is not None  # there is a layout
        units = self.encoder.grid.cut(x)[:, first:end, : part.num_values]
        return torch.stack([self.layout.raw(self.place, view) for view in part.grid.join(units)])

    def _vectors_there(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "n d"]:
        """The teacher's vectors of those that have an image."""
        return self.of_images(x)[self.holds(x)[:, self.place]]


def _image_in(encoder: Encoder, image: str | None) -> tuple[Layout | None, int]:
    """The layout of samples of several parts and the number of the part that is the image; None and 0 for images.
    Raises UserError where there is none."""
    modality = make_modality(encoder.modality)
    if not isinstance(modality, Multimodal):
        if encoder.modality.split("(")[0] != IMAGE or image is not None:
            raise UserError(
                f"align learns from samples that have an image and something else, and these are {modality.word}s"
                " alone: give folders of equal names, such as rgb/0001.jpg and sound/0001.wav (docs/modalities.md)"
            )
        return None, 0
    names = list(modality.kinds)
    images = [name for name, kind in modality.kinds.items() if kind.text.split("(")[0] == IMAGE]
    if not images:
        raise UserError(f"align needs a part that is an image; the parts are {', '.join(_in_words(modality))}")
    if image is not None and image not in images:
        raise UserError(f"align(image={image!r}){closest(image, images)} Parts that are images: {', '.join(images)}")
    if (own := image or images[0]) not in modality.seen or len(modality.seen) < 2:
        raise UserError(f"align needs {own} and another part to be seen; seen={list(modality.seen)!r} lets it see less")
    return modality.layout, names.index(own)


def _in_words(modality: Multimodal) -> list[str]:
    """Name and kind of each part."""
    return [f"{name}={kind.text.split('(')[0]}" for name, kind in modality.kinds.items()]
