"""Corrupts one image: the interface between `unmask stress` and the functions in `corruptions/`.

The fifteen corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), at five severities.
"""

import zlib

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from unmask.errors import UserError, closest
from unmask.studies.robustness.corruptions import blur, digital, noise, weather

CORRUPTIONS = {name: getattr(group, name) for group in (noise, blur, weather, digital) for name in group.__all__}
SEVERITIES = (1, 2, 3, 4, 5)


def require_corruption(name: str) -> None:
    """Raises UserError for an unknown name."""
    if name not in CORRUPTIONS:
        raise UserError(f"no corruption {name!r}{closest(name, CORRUPTIONS)} There are: {', '.join(CORRUPTIONS)}")


def corrupt(
    image: Shaped[Tensor, "c h w"], name: str, severity: int, *, seed: int = 0, number: int = 0
) -> Shaped[Tensor, "c h w"]:
    """The corrupted image with its shape and dtype; values in 0..255, whole numbers if the dtype is uint8.

    Random numbers depend only on seed, number (of the image), name and severity. Raises UserError for an unknown name
    or severity, for other than 1 or 3 channels, and for values outside 0..255.
    """
    if severity not in SEVERITIES:
        raise UserError(f"severities are 1 (least) to 5; got {severity}")
    require_corruption(name)
    if image.shape[0] not in (1, 3):
        raise UserError(f"corruptions are defined for grey and colour images; these have {image.shape[0]} channels")
    if image.dtype != torch.uint8 and not 0 <= float(image.min()) <= float(image.max()) <= 255:
        low, high = float(image.min()), float(image.max())
        raise UserError(f"corruptions are defined for values in 0..255; an image has {low:.4g} to {high:.4g}")
    rng = np.random.default_rng([seed, number, zlib.crc32(name.encode()), severity])
    x = np.ascontiguousarray(image.permute(1, 2, 0).numpy().astype(np.float32) / 255)
    result = (
        torch.from_numpy(np.ascontiguousarray(CORRUPTIONS[name](x, severity, rng).transpose(2, 0, 1))).clamp(0, 1) * 255
    )
    return (result.round() if image.dtype == torch.uint8 else result).to(image.dtype)
