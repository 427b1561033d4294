"""Rows of images that show an encoder's inside: patch features as colours, attention maps."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import interpolate

from unmask.evaluation.attention_maps import attention
from unmask.evaluation.features import judged
from unmask.evaluation.patch_pca import patch_colours
from unmask.models.encoder import Encoder
from unmask.report.panel import Row
from unmask.report.reconstruction import displayed, value_range

Images = Iterable[Shaped[Tensor, "c h w"]]  # raw pixels, where the encoder is
HEADS = 16  # at most this many heads are drawn separately
DIM = 0.35  # brightness of the image where the background was removed


def feature_rows(
    encoder: Encoder, names: Sequence[str], images: Images, block: int, background: bool
) -> tuple[list[Row], str]:
    """Each image beside a block's patch features, and a note for all. background: False removes it."""
    shown, maps = [], []
    with judged(encoder):
        for image in images:
            maps.append(encoder.features(image[None], layers=[block], norm=block == encoder.num_maps - 1)[0][0].cpu())
            shown.append(_shown(image))
    colours = patch_colours(maps, background)
    rows = []
    for name, image, patches, foreground in zip(names, shown, colours.images, colours.kept):
        cover = _enlarged(foreground.float()[..., None], image.shape[:2])
        painted = _enlarged(patches, image.shape[:2]) * cover + DIM * image * (1 - cover)
        rows.append(Row(name, {"input": image, "patch features": painted}))
    parts = ", ".join(f"{share:.0%}" for share in colours.explained)
    remark = "" if background else "; background taken off by the first component"
    note = f"red, green, blue: first three principal components over all images ({parts} of the variance){remark}"
    return rows, f"block {block} of 0 to {encoder.num_maps - 1}; {note}"


def attention_rows(encoder: Encoder, names: Sequence[str], images: Images, block: int) -> tuple[list[Row], str]:
    """Each image beside a block's attention, the mean and single heads, and a note for all."""
    rows, kind = [], ""
    for name, image in zip(names, images):
        result = attention(encoder, image[None], block)
        kind, maps = result.kind, result.maps[0].cpu()
        heads = {f"head {number}": head.numpy() for number, head in enumerate(maps[:HEADS])}
        rows.append(Row(name, {"input": _shown(image), "mean": maps.mean(dim=0).numpy()} | heads))
    last = encoder.num_maps - 1
    return rows, f"block {block} of 0 to {last}: attention {kind}; each map from its least to its greatest"


def _shown(image: Shaped[Tensor, "c h w"]) -> Float[np.ndarray, "h w 3"]:
    return displayed(image.cpu(), *value_range(image.cpu()))


def _enlarged(x: Float[Tensor, "rows columns c"], size: tuple[int, ...]) -> Float[np.ndarray, "h w c"]:
    """Enlarges each patch to a square."""
    return interpolate(x.permute(2, 0, 1)[None], size, mode="nearest")[0].permute(1, 2, 0).numpy()
