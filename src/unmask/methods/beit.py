"""BEiT, Bao et al. 2021: a token in the place of hidden patches, and the ids that a tokenizer gives to them are
predicted by one layer. https://arxiv.org/abs/2106.08254; its tokenizer is DALL-E's, that of BEiT v2 `vqkd`."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unmask.choice import Choice
from unmask.data.batch import Batch
from unmask.data.sheet import Sheet
from unmask.errors import UserError
from unmask.masking.grid import take
from unmask.masking.mask import Mask
from unmask.methods.families.guide import Guide
from unmask.methods.families.tokens import Untrained, is_learned, tokenizer_of
from unmask.models.encoder import Encoder
from unmask.registry import build
from unmask.runtime.machine import Machine
from unmask.training.objective import Objective, Stage, Symptom

__all__ = ["BEiT"]

TOKENIZER = "vqvae"


class BEiT(Objective):
    words: Mapping[str, str] = {
        "loss": "cross-entropy of the ids of hidden patches",
        "accuracy": "share of hidden patches whose id is the first guess",
    }
    symptoms = (
        Symptom(
            "accuracy",
            above=0.9,
            says="nearly all ids are guessed: they say little of what is in a patch",
            remedy="look at the tokenizer (unmask doctor RUN/stages/1-...): few of its codes may be in use; train it"
            " longer, or hide more with --mask",
        ),
    )

    def __init__(self, encoder: Encoder, mask: object = "block(ratio=0.3826)", tokenizer: object = TOKENIZER):
        """mask: the paper hides 75 of 196 patches in blocks.

        tokenizer: vqvae or vqkd with options, trained first on the same images; the folder of a run that trained one;
        a file of one, or of DALL-E's encoder.
        """
        super().__init__()
        encoder.require_blanks("beit")
        self.encoder, self.mask = encoder, build("mask", mask)
        self.guide = Guide(self.mask, encoder, "beit")
        self.tokenizer = tokenizer_of(tokenizer, encoder)
        self.views = views_for(self.tokenizer.size_for(encoder.grid), encoder.grid.size)
        self.mask_token = nn.Parameter(torch.zeros(encoder.dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.predict_ids = nn.Linear(encoder.dim, self.tokenizer.num_codes)
        nn.init.trunc_normal_(self.predict_ids.weight, std=0.02)
        nn.init.zeros_(self.predict_ids.bias)

    @classmethod
    def stages(cls, options: Mapping[str, object]) -> Sequence[Stage]:
        """The training of the tokenizer, unless there is one."""
        tokenizer = options.get("tokenizer", TOKENIZER)
        if not isinstance(tokenizer, str) or not is_learned(tokenizer):
            return ()
        return (Stage(tokenizer, 0.2, "a tokenizer, whose ids are predicted then", option="tokenizer"),)

    @classmethod
    def defaults(cls, encoder: Encoder, sheet: Sheet, machine: Machine) -> Mapping[str, Choice]:
        """BEiT's crop, gradient norm and second moment."""
        return {
            "crop": Choice(0.08, "as in BEiT"),
            "clip": Choice(3.0, "as in BEiT"),
            "betas": Choice((0.9, 0.999), "as in BEiT"),
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over hidden patches. batch["mask"] overrules the sampler, batch["ids"], b n, the tokenizer."""
        x, grid = batch["views"][0], self.encoder.grid_of(batch["views"][0])
        mask = batch["mask"] if "mask" in batch else self._draw(x, batch)
        ids = batch["ids"] if "ids" in batch else self.tokenizer(batch["views"][-1], grid)
        wanted, logits = take(ids[..., None], mask.hidden).flatten(), self.logits(x, mask).float().flatten(0, 1)
        accuracy = (logits.detach().argmax(dim=1) == wanted).float().mean()
        return {"loss": cross_entropy(logits, wanted), "accuracy": accuracy}

    def logits(self, x: Shaped[Tensor, "b c *size"], mask: Mask) -> Float[Tensor, "b h k"]:
        """Of the ids of hidden patches, in the order of `mask.hidden`."""
        return self.predict_ids(take(self.encoder(x, mask, self.mask_token).units, mask.hidden))

    def _draw(self, x: Shaped[Tensor, "b c *size"], batch: Batch) -> Mask:
        told = self.guide(x, self.progress)
        return self.mask(len(x), self.encoder.grid_of(x), x.device, rows=batch.get("rows"), context=told)

    def after_step(self, progress: float, good: Tensor | None = None) -> None:
        self.guide.after_step(progress, good)

    def before_step(self, step: int) -> None:
        """Raises UserError where the tokenizer was not trained first."""
        if isinstance(self.tokenizer, Untrained):
            raise UserError(
                f"beit's tokenizer, {self.tokenizer.method}, has to be trained before: unmask pretrain does it, and"
                " fit_in_stages in Python; or give the run of one: beit(tokenizer='RUN')"
            )


def views_for(own: Sequence[int], size: Sequence[int]) -> tuple[str, ...]:
    """One view where the tokenizer sees an image as the encoder does, or larger; else the crop at two sizes.

    own: height and width for the tokenizer; size: for the encoder.
    """
    share = own[0] / size[0]
    return ("crops(jitter=0.4)",) if share >= 1 else (f"beit(second={round(share, 4)!r})",)
