"""An encoder with a pooling and a linear head: raw pixels in, one logit per class out. What `transfer` trains."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from unmask.errors import UserError, closest
from unmask.models.encoder import Encoder, Tokens

POOLINGS = ("mean", "cls", "attentive")
NORMS = ("layer", "batch", "none")  # between pooling and head
EPS = 1e-6


class Classifier(nn.Module):
    """head(norm(pool(encoder(x)))).

    pooling `mean` with norm `layer` averages the patch tokens as they leave the last block and has its own LayerNorm
    instead of the encoder's, as in MAE's fine-tuning (timm: global_pool="avg"). The others follow the encoder's norm:
    `cls` takes the class token (timm: global_pool="token"), `attentive` one learned query that attends to all patches.
    norm `batch` is MAE's for linear evaluation: BatchNorm without parameters of its own (He et al. 2021, appendix A.1).
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: Sequence[str],
        *,
        pooling: str = "mean",
        norm: str = "layer",
        multi_label: bool = False,
        eval_crop: float = 1.0,  # share of an image's short side that is kept at evaluation
    ):
        """Raises UserError for an unknown pooling, or one that the encoder does not support."""
        super().__init__()
        if pooling not in POOLINGS:
            raise UserError(f"no pooling {pooling!r}{closest(pooling, POOLINGS)} There are: {', '.join(POOLINGS)}")
        if norm not in NORMS:
            raise UserError(f"no norm {norm!r}{closest(norm, NORMS)} There are: {', '.join(NORMS)}")
        if pooling == "cls" and getattr(encoder.net, "cls_token", None) is None:
            raise UserError(f"{encoder.arguments['model_name']} has no class token; use --pooling mean or attentive")
        self.encoder, self.classes, self.multi_label = encoder, list(classes), multi_label
        self.pooling, self.norm_kind, self.eval_crop = pooling, norm, eval_crop
        if pooling == "mean" and norm == "layer":
            encoder.take_norm()
        self.attention = AttentivePool(encoder.dim) if pooling == "attentive" else None
        layer, batch = nn.LayerNorm(encoder.dim, eps=EPS), nn.BatchNorm1d(encoder.dim, affine=False, eps=EPS)
        self.norm = {"layer": layer, "batch": batch, "none": nn.Identity()}[norm]
        self.head = nn.Linear(encoder.dim, len(self.classes))
        nn.init.trunc_normal_(self.head.weight, std=0.01 if norm == "batch" else 2e-5)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Shaped[Tensor, "b c *size"]) -> Float[Tensor, "b k"]:
        """Logits of raw pixels."""
        return self.judge(self.encoder(x))

    outputs = "logits", "probabilities"  # of `traced`

    def traced(self, pixels: Shaped[Tensor, "b c *size"]) -> tuple[Tensor, ...]:
        """For exports: logits and probabilities, each b k."""
        logits = self(pixels)
        return logits, logits.sigmoid() if self.multi_label else logits.softmax(dim=1)

    @property
    def input_size(self) -> tuple[int, ...]:
        """The sides of its input along the encoder's axes, of images height and width."""
        return self.encoder.input_size

    def judge(self, tokens: Tokens) -> Float[Tensor, "b k"]:
        """Logits of the encoder's tokens."""
        if self.attention is not None:
            pooled = self.attention(tokens.units)
        else:
            pooled = self.encoder.class_token(tokens) if self.pooling == "cls" else tokens.units.mean(dim=1)
        return self.head(self.norm(pooled)).float()

    def probabilities(self, x: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        """Softmax of the logits, with several labels per image the sigmoid of each; of raw samples b c *size, or
        several views of each, b n c *size, whose logits are averaged."""
        several = x.ndim > len(self.encoder.input_size) + 2
        logits = self(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1) if several else self(x)
        return logits.sigmoid() if self.multi_label else logits.softmax(dim=1)


class AttentivePool(nn.Module):
    """One learned query that attends to all tokens: the probe that suits masked models (Chen et al. 2022, CAE).

    The parameters are those of `nn.MultiheadAttention`, and so is the result. Since the query is the same for all
    images, keys and values of the tokens are never made: the query is brought to their side, and what it gathered is
    projected. That takes d * heads operations for a token instead of 2 * d * d.
    """

    def __init__(self, dim: int, head_width: int = 64):
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm = nn.LayerNorm(dim, eps=EPS)
        heads = max(h for h in range(1, max(1, dim // head_width) + 1) if dim % h == 0)
        self.attend = nn.MultiheadAttention(dim, heads, batch_first=True)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        tokens, heads, dim = self.norm(tokens), self.attend.num_heads, self.attend.embed_dim
        to_query, to_key, to_value = self.attend.in_proj_weight.chunk(3)
        query_bias, _, value_bias = self.attend.in_proj_bias.chunk(3)  # a key's bias is the same for all tokens
        query = (self.query[0, 0] @ to_query.T + query_bias).view(heads, dim // heads)
        directions = torch.einsum("hc,hcd->hd", query, to_key.view(heads, dim // heads, dim)) * (dim // heads) ** -0.5
        shares = (tokens @ directions.T.to(tokens.dtype)).softmax(dim=1)  # b n h
        gathered = shares.transpose(1, 2) @ tokens  # b h d
        values = torch.einsum("bhd,hcd->bhc", gathered, to_value.view(heads, dim // heads, dim).to(tokens.dtype))
        return self.attend.out_proj(values.flatten(1) + value_bias.to(tokens.dtype))
