"""What methods share that train a tokenizer, and those that predict the ids of a frozen one."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.errors import UserError, closest
from unmask.masking.grid import Grid
from unmask.models.encoder import Encoder
from unmask.models.tokenizer import Autoencoder, Rebuilt, Tokenizer
from unmask.registry import build, names, parse
from unmask.runtime.machine import Machine
from unmask.training.objective import Objective, Symptom
from unmask.weights.frozen_tokenizer import FrozenTokenizer

FEW = 0.03  # of the codes that could be in use


class Tokenizing(Objective):
    """A method that trains a tokenizer around its encoder. What it keeps is the encoder; its run has the tokenizer
    beside it."""

    tokenizer: Autoencoder
    commitment: float  # weight of the distance of vectors from their codes
    symptoms = (
        Symptom(
            "codes_in_use",
            below=FEW,
            says="hardly any codes are in use: ids say little",
            remedy="a lower --lr or more --warmup; fewer codes (codes=); a shorter memory of them (decay=0.9)",
        ),
    )

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """Little weight decay, since there is little to overfit to: the codes are few."""
        return {
            "weight_decay": Choice(1e-4, "as the tokenizer of BEiT v2"),
            "betas": Choice((0.9, 0.99), "as the tokenizer of BEiT v2"),
            "crop": Choice(0.5, "ids are wanted of whole images more than of small parts"),
        }

    def prepare(self, batches: Iterator[Batch]) -> None:
        """Puts the codes at the centres of k-means of one batch."""
        for batch in islice(batches, 1):
            training = self.training
            with torch.no_grad():
                self.tokenizer.codebook.start(self.eval().tokenizer.vectors(batch["views"][0]).flatten(0, 1))
            self.train(training)

    def scalars(self, rebuilt: Rebuilt) -> dict[str, Tensor]:
        """The health of the codebook."""
        ids, perplexity = rebuilt.quantised.ids, rebuilt.quantised.perplexity
        possible = min(ids.numel(), self.tokenizer.num_codes)
        commitment = rebuilt.quantised.commitment.detach()
        return {"perplexity": perplexity, "codes_in_use": perplexity / possible, "commitment": commitment}

    def before_step(self, step: int) -> None:
        self.tokenizer.codebook.forget()

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.tokenizer.codebook.move(good)


class Untrained(nn.Module):
    """Stands for a tokenizer whose training comes first, so that a method can be planned and measured: its ids are
    those of the student itself."""

    def __init__(self, method: str, student: Encoder):
        """method: the text of the method that trains it."""
        super().__init__()
        tokenizing: Tokenizing = build("method", method, encoder=student)
        self._objective = [tokenizing]  # in a list: no child of this module
        self.method, self.num_codes = method, tokenizing.tokenizer.num_codes

    @torch.no_grad()
    def forward(self, x: Shaped[Tensor, "b c h w"], grid: Grid) -> Int[Tensor, "b n"]:
        return self._objective[0].tokenizer.to(x.device).ids(x)

    def size_for(self, grid: Grid) -> tuple[int, ...]:
        """It sees images as its student does."""
        return grid.size


def is_learned(text: str) -> bool:
    """Whether a text is that of a tokenizer that a method trains, with its options: `vqvae`, "vqkd(of='clip.pth')".
    A folder of that name is `./vqvae`."""
    try:
        name = parse(text)[0]
    except UserError:
        return False
    return name in names("tokenizer") and name in names("method")


def tokenizer_of(text: object, student: Encoder) -> FrozenTokenizer | Untrained:
    """The tokenizer that an option names: a run, a file, a part from outside of the package or a network that is ready;
    or one that is learned first. Raises UserError for what is none of these."""
    if isinstance(text, Tokenizer):
        return FrozenTokenizer(text, student)
    if not isinstance(text, str) or not text:
        raise UserError(f"a tokenizer is a run's folder, a file, or {' or '.join(_learned())}; got {text!r}")
    if is_learned(text):
        return Untrained(text, student)
    if text.split("(")[0].strip().endswith(".py"):
        with torch.device("cpu"):  # plans are made on the meta device, where weights have no values
            return FrozenTokenizer(build("tokenizer", text, encoder=student), student)
    if not Path(text).expanduser().exists() and "/" not in text:
        near = closest(text, [*_learned()])
        raise UserError(
            f"no tokenizer {text!r}{near} Give the folder of a run that trained one, a file of one, or"
            f" {' or '.join(_learned())}, which are trained first"
        )
    return FrozenTokenizer(text, student)


def _learned() -> list[str]:
    return [name for name in names("tokenizer") if name in names("method")]
