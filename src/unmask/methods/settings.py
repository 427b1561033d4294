"""How a run learns without labels: the method and its parts, each as text that the registry reads."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    name: str  # also with options: "mae(symmetric=True)"
    mask: str | None = None  # these are None where the method has no such part
    target: str | None = None
    decoder: str | None = None
    masks_per_image: int | None = None
    decoder_warmup: int | None = None  # first steps that train only a fresh decoder; None: the decoder is not fresh
