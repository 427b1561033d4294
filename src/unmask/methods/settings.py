"""How a run learns without labels: the method and its parts, each as text that the registry reads."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    name: str  # also with options: "mae(symmetric=True)"
    mask: str
    target: str
    decoder: str
    masks_per_image: int = 1
    decoder_warmup: int | None = None  # steps in which a fresh decoder learns alone; None: it is not fresh
