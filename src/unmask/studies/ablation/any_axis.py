"""Axes of any option of pretraining, as people write them: `mask.ratio=0.5,0.75,0.9`, `model=A,B`, `target=pixels,ema`.

A name with a dot is an option of a part: of the baseline's own mask, target, decoder, method or model.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unmask.errors import UserError, closest, many
from unmask.models.encoder import create_encoder
from unmask.plain import sides
from unmask.planning.initial_weights import Start
from unmask.planning.plan import Plan
from unmask.planning.pretrain import Given, choose_parts
from unmask.planning.stages.divide import stages_of
from unmask.registry import parse, require
from unmask.runs.config import Config
from unmask.studies.ablation.axes import Axis, Changes, Value
from unmask.studies.same_part import defaults_of, same_part

PARTS = ("mask", "target", "decoder", "method", "model")
NUMBERS = {  # options whose values are numbers, and whether these are whole
    "batch": True, "masks_per_image": True, "patch_size": True, "views_per_image": True, "decoder_warmup": True,
    "lr": False, "weight_decay": False, "clip": False, "crop": False, "length": False,
}  # fmt: skip
TEXTS = ("crop_kind", "flip", "resize", "image_size", *PARTS)
PLANNED = ("model", "method", "image_size", "patch_size", "batch")  # other choices follow from these
WORDS = {"crop_kind": ("random", "fixed", "whole"), "flip": ("on", "off"), "resize": ("exact", "fast")}
LOGARITHMIC = 8.0  # times that the largest value is the smallest, from which an axis is drawn to a logarithmic scale


@dataclass(frozen=True)
class Text:
    """An axis as it was written."""

    name: str  # of an option, or part.option
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Text":
        """Raises UserError for what is no axis, with the nearest right name."""
        name, sign, rest = text.partition("=")
        name, values = name.strip().replace("-", "_"), tuple(_split(rest))
        if not sign or not name or not values or not all(values):
            raise UserError(f'--axis takes an option and its values: "mask.ratio=0.5,0.75,0.9"; got {text!r}')
        if twice := next((value for place, value in enumerate(values) if value in values[:place]), None):
            raise UserError(f"--axis {text!r} has the value {twice} twice")
        part, dot, option = name.partition(".")
        allowed = sorted((*NUMBERS, *TEXTS))
        if dot and part not in PARTS:
            raise UserError(f"--axis {name}: options of {', '.join(PARTS)} can be varied{closest(part, PARTS)}")
        if dot and not option.isidentifier():
            raise UserError(f"--axis {name}: write PART.OPTION, as in mask.ratio")
        if not dot and name not in allowed:
            raise UserError(
                f"--axis {name}: no option that can be varied{closest(name, allowed)} There are:"
                f" {', '.join(allowed)}, and options of parts, as in mask.ratio"
            )
        return cls(name, values)

    def changes(self, config: Config, value: str) -> Changes:
        """What a value changes in the baseline; nothing where it is the baseline's own."""
        part, dot, option = self.name.partition(".")
        own = config.options()
        if dot:
            if own.get(part) is None:
                raise UserError(f"--axis {self.name}: the baseline has no {part}")
            name, options = parse(own[part])
            _require_option(part, name, option, self.name)
            changed = _text(name, options | {option: _literal(value)})
            return {} if same_part(part, changed, own[part]) else {part: changed}
        if self.name in NUMBERS:
            number = _number(self.name, value)
            baseline = 1.0 if self.name == "length" else own.get(self.name)
            return {} if number == baseline else {self.name: number}
        if self.name == "image_size":
            size = sides("image_size", value)
            return {} if size == tuple(own["image_size"]) else {"image_size": size}
        allowed = WORDS.get(self.name)
        if allowed and value not in allowed:
            raise UserError(f"--axis {self.name}: {value!r} is none of {', '.join(allowed)}{closest(value, allowed)}")
        if self.name in PARTS:
            if self.name != "model":
                require(self.name, value)
            return {} if same_part(self.name, value, own[self.name]) else {self.name: value}
        return {} if value == own[self.name] else {self.name: value}

    def axis(self, config: Config) -> Axis:
        """The axis of a baseline, which is added in front where no value is its own."""
        values = []
        for text in self.values:
            changes = self.changes(config, text)
            values.append(Value(text, changes, self._place(config, changes, text)))
        if all(value.changes for value in values):
            own = self._own(config)
            values.insert(0, Value(own, {}, self._place(config, {}, own)))
        numbers = [value.x for value in values if value.x is not None]
        scaled = len(set(numbers)) == len(values)  # models of one size have no order
        values = sorted(values, key=lambda v: v.x or 0) if scaled else [replace(value, x=None) for value in values]
        unit = ("parameters of the encoder" if self.name.startswith("model") else self.name) if scaled else ""
        wide = scaled and min(numbers) > 0 and max(numbers) / min(numbers) >= LOGARITHMIC
        return Axis(self.name, self.name, values, unit, wide, published=False)

    def _own(self, config: Config) -> str:
        part, dot, option = self.name.partition(".")
        if self.name == "length":
            return "1"
        value = config.options()[part]
        if dot:
            name, options = parse(value)
            return str(options.get(option, defaults_of(part, name).get(option, "its default")))
        return "x".join(map(str, value)) if self.name == "image_size" else str(value)

    def _place(self, config: Config, changes: Changes, text: str) -> float | None:
        """On a scale of numbers: the value itself; of models, their parameters."""
        if self.name.split(".")[0] == "model":
            model, size = str(changes.get("model", config.model.name)), config.data.image_size
            patch, channels = config.model.patch_size, config.data.channels
            encoder = create_encoder(model, image_size=size, patch_size=patch, channels=channels)
            return float(sum(parameter.numel() for parameter in encoder.parameters()))
        try:
            return float(text)
        except ValueError:
            return None


def read_axes(texts: Sequence[str], others: Sequence[str] = ()) -> list[Text]:
    """The axes that were written; UserError for one that is there twice. others: names of the paper's, beside them."""
    axes = [Text.parse(text) for text in texts]
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1 or name in others:
            raise UserError(f"the axis {name} is asked for twice: give all its values in one --axis")
    return axes


def replanned(given: Given, baseline: Config, changes: Changes) -> Config:
    """The configuration of a value whose model, method, size or batch is another: what follows from these is chosen
    anew, as `pretrain` would. Raises UserError for what cannot be built."""
    plain_changes = {name: list(value) if isinstance(value, tuple) else value for name, value in changes.items()}
    given = replace(given, asked=given.asked | plain_changes, options=given.options | plain_changes)
    draft = choose_parts(Plan(dict(given.options), dict(given.reasons)), given, Start())
    config = draft.config()
    if stages := stages_of(config.method.name):
        raise UserError(
            f"{config.method.name} needs {many(len(stages), 'training')} before its own, which an ablation does not"
            " make; unmask compare does"
        )
    record = replace(config.record, expected=baseline.record.expected)
    return replace(config, data=replace(config.data, workers=baseline.data.workers), record=record)


def needs_plan(changes: Changes) -> bool:
    return any(name in PLANNED for name in changes)


def _split(text: str) -> list[str]:
    """Splits at commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _literal(text: str) -> object:
    """A number, True, a tuple; any other word is text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UserError(f"--axis {name}: {text!r} is no number") from None
    whole = NUMBERS[name]
    if not number > 0 or number == float("inf") or (whole and number != int(number)):
        raise UserError(f"--axis {name} takes {'whole ' if whole else ''}numbers above 0; got {text}")
    return int(number) if whole else number


def _text(name: str, options: dict[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})" if options else name


def _require_option(part: str, name: str, option: str, axis: str) -> None:
    """Models take timm's arguments, which are checked when they are built."""
    if part == "model":
        return
    allowed = defaults_of(part, name)
    if option not in allowed:
        raise UserError(f"--axis {axis}: {name} has no option {option!r}{closest(option, allowed)}")
