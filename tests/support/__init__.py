"""What tests share: makers of data, small models, the type checker of shapes."""

from support import tower  # the import hook of jaxtyping reads `support.tower.checked`  # noqa: F401
