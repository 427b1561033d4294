"""How a run learns without labels: the method and its parts, each as text that the registry reads."""

from dataclasses import dataclass

from unmask.registry import parse

START = "init"  # in `handed`: the weights that training starts from, which is no option of a method


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    name: str  # also with options: "mae(symmetric=True)"
    mask: str | None = None  # these are None where the method has no such part
    target: str | None = None
    decoder: str | None = None
    masks_per_image: int | None = None
    decoder_warmup: int | None = None  # first steps that train only a fresh decoder; None: the decoder is not fresh
    handed: dict[str, str] | None = None  # by a stage before: option, or "init" -> the folder of that stage

    @property
    def text(self) -> str:
        """The method with its options, those that stages hand on among them."""
        name, options = parse(self.name)
        options |= {option: place for option, place in (self.handed or {}).items() if option != START}
        return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})" if options else name
