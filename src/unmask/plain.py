"""Small types and conversions of options: what callers may give, made plain; checks of ranges."""

import dataclasses
import functools
import inspect
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints, runtime_checkable

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt
from tyro.conf import arg

from unmask.errors import UserError, closest, closest_place
from unmask.files import Json


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Metadata of a field of text: the words it may hold. where: for which of several tasks, e.g. "to detect "."""

    words: tuple[str, ...]
    where: str = ""


@runtime_checkable
class Dataclass(Protocol):
    """Any dataclass, made."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field]]


class Exists:
    """Metadata of a field that names a file or a folder which must be there."""


# Metadata of fields that name things, which `cli/first_look.py` looks for before a command is imported:


@dataclasses.dataclass(frozen=True)
class Images:
    """Images: whatever `unmask.data.source` or a stream opens. or_words: words that say what they show, too."""

    or_words: bool = False


class TwoSides:
    """A number of pixels, or height and width: numbers, or as `480x640`."""


class Model:
    """A model of timm that encoders can be made of."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """A run, a file of weights, or a timm name. words: what else may stand there; or_images: images too."""

    words: tuple[str, ...] = ()
    or_images: bool = False


@dataclasses.dataclass(frozen=True)
class PartOf:
    """A part of a kind of `registry.KINDS`."""

    kind: str


# What Python callers may give, and what the command line makes of text for it.
Place = str | Path
Places = Annotated[str | Path | Sequence[str | Path], arg(constructor=tuple[str, ...])]
ImagePlaces = Annotated[str | Path | Sequence[str | Path], arg(constructor=tuple[str, ...]), Images()]
ImagePlace = Annotated[str | Path, Images()]
Queries = Annotated[str | Path | Sequence[str | Path], arg(constructor=tuple[str, ...]), Images(or_words=True)]
WeightsPlace = Annotated[str | Path, Weights()]
WeightsPlaces = Annotated[str | Sequence[str], arg(constructor=tuple[str, ...]), Weights()]
ModelName = Annotated[str | None, Model()]
Names = Annotated[str | Sequence[str], arg(constructor=tuple[str, ...])]
Size = Annotated[int | str | Sequence[int] | None, arg(constructor=tuple[int, ...] | None), TwoSides()]
Counts = Annotated[int | Sequence[int], arg(constructor=tuple[int, ...])]
Numbers = Annotated[float | Sequence[float], arg(constructor=tuple[float, ...])]

# Numbers within ranges: `lr: PositiveFloat | None = None`; `check_fields` holds values to them.
MOST = 10**12  # of whole numbers: more is a slip of the keyboard, and overflows somewhere below
PositiveInt = Annotated[int, Interval(gt=0, le=MOST)]
NonNegativeInt = Annotated[int, Interval(ge=0, le=MOST)]
SeveralInt = Annotated[int, Interval(ge=2, le=MOST)]
Batch = Annotated[int, Interval(gt=0, le=2**20)]  # images: a step of more would take days
Few = Annotated[int, Interval(gt=0, le=1000)]  # what is kept, drawn or repeated one by one
PositiveFloat = Annotated[float, Interval(gt=0)]
NonNegativeFloat = Annotated[float, Interval(ge=0)]
Share = Annotated[float, Interval(ge=0, le=1)]
PositiveShare = Annotated[float, Interval(gt=0, le=1)]
InnerShare = Annotated[float, Interval(gt=0, lt=1)]
BelowOne = Annotated[float, Interval(ge=0, lt=1)]


def plain(options: Dataclass) -> Json:
    """Options as plain values for JSON; not the file that they came from."""
    content = {name: value for name, value in dataclasses.asdict(options).items() if name != "config"}
    return {k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v for k, v in content.items()}


def settle(options: object, name: str, value: object) -> None:
    """Sets a field of a frozen dataclass while it is being made."""
    object.__setattr__(options, name, value)


def texts(value: str | Path | Sequence[str | Path]) -> tuple[str, ...]:
    """One path or several, as a tuple of text."""
    return (str(value),) if isinstance(value, str | Path) else tuple(str(v) for v in value)


def sides(name: str, value: Any, most: int = 2) -> tuple[int, ...]:
    """Height and width of what a size may be given as: 224, (480, 640) or "480x640"; up to `most` sides. Raises
    UserError."""
    parts = re.split(r"[xX*\u00d7]", value) if isinstance(value, str) else numbers(value)
    try:
        size = tuple(int(part) for part in parts)
        if not 1 <= len(size) <= most or any(side != float(part) for side, part in zip(size, parts)):
            raise ValueError(value)
    except (TypeError, ValueError) as error:
        flag = f"--{name.replace('_', '-')}"
        raise UserError(
            f"{flag} is one number of pixels, or height and width (480 640, or 480x640); got {value}"
        ) from error
    return size if len(size) > 1 else size * 2


def numbers(value: float | str | Sequence[float]) -> tuple:
    """One number or several, as a tuple; sizes are no text any more when their options have settled them."""
    return (value,) if isinstance(value, int | float) else tuple(value)


def call_text(name: str, options: Json) -> str:
    """`name(option=value)`, as `registry.parse` reads it; the name alone without options."""
    inside = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return f"{name}({inside})" if inside else name


def fits(hint: object, value: object) -> bool:
    """Whether a plain value, as JSON holds it, may be what an annotation says."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fits(arguments[0], value)
    if origin in (types.UnionType, typing.Union):
        return any(fits(part, value) for part in arguments)
    if origin is Literal:
        return value in arguments
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        inner = [part for part in arguments if part is not Ellipsis]
        if (
            origin is tuple
            and Ellipsis not in arguments
            and isinstance(value, list | tuple)
            and len(value) != len(inner)
        ):
            return False
        return isinstance(value, list | tuple) and all(any(fits(part, one) for part in inner) for one in value)
    if hint in (Any, None, type(None)):
        return hint is Any or value is None
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, {float: (int, float), Path: (str, Path)}.get(hint, hint))


TYPES = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}


def check_fields(options: Dataclass) -> None:
    """Raises UserError where a field of a dataclass is outside of what its annotation allows.

    Understood are the bounds of annotated_types (for each number of a field that holds several), OneOf and Exists. None
    is always allowed: it stands for what is not given.
    """
    hints = get_type_hints(type(options), include_extras=True)
    for field in dataclasses.fields(options):
        value, flag = getattr(options, field.name), f"--{field.name.replace('_', '-')}"
        parts = metadata(hints[field.name])
        bounds = [bound for part in parts for bound in _bounds(part)]
        if value is None:
            continue
        if bounds:
            for number in value if isinstance(value, list | tuple) else (value,):
                _require_within(number, flag, bounds)
        for part in parts:
            if isinstance(part, OneOf) and value not in part.words:
                listed = f"{', '.join(part.words[:-1])} and {part.words[-1]}"
                raise UserError(f"{flag} {value}: {part.where}there are {listed}{closest(str(value), part.words)}")
            if isinstance(part, Exists) and not (place := Path(str(value))).exists():
                raise UserError(f"{flag} {value} does not exist{closest_place(place)}")


def check_options(
    part: Callable[..., object], name: str, options: Mapping[str, object], context: Collection[str] = ()
) -> None:
    """Raises UserError where an option, as written in a part's text, is none of the part's own, or not of the type or
    in the range that its annotation says. None stands for what is not given. context: names that are given to it."""
    takes = inspect.signature(part).parameters
    listed = ", ".join(_in_words(p) for key, p in takes.items() if key not in context) or "no options"
    for key in options:
        if key in context:
            raise UserError(f"{name}: {key} is chosen for it and is no option here. It takes: {listed}")
        if key not in takes and not any(p.kind is p.VAR_KEYWORD and key != p.name for p in takes.values()):
            raise UserError(f"{name} has no option {key!r}{closest(key, takes)} It takes: {listed}")
    try:
        hints = get_type_hints(part.__init__ if inspect.isclass(part) else part, include_extras=True)
    except (NameError, TypeError):  # annotations of a part from outside may name what is imported for checkers only
        return
    for key, value in options.items():
        hint = hints.get(key, Any)
        text = f"{name}({key}={value!r})"
        if value is None and key in takes and takes[key].default is None:
            continue
        if not fits(hint, value):
            raise UserError(f"{text}: {key} is {_type_in_words(hint)}; got {value!r}")
        bounds = [bound for extra in metadata(hint) for bound in _bounds(extra)]
        for number in value if isinstance(value, list | tuple) else (value,):
            if bounds and isinstance(number, int | float):
                _require_within(number, f"{text}: {key}", bounds)


def _in_words(parameter: inspect.Parameter) -> str:
    """A parameter as a signature shows it, without the bounds of its type."""
    return str(parameter.replace(annotation=unadorned(parameter.annotation)))


def unadorned(hint: object) -> Any:
    """A type without what `Annotated` says beyond it."""
    if get_origin(hint) is Annotated:
        return unadorned(get_args(hint)[0])
    if get_origin(hint) in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, map(unadorned, get_args(hint)))
    return hint


def _type_in_words(hint: object) -> str:
    hint = unadorned(hint)
    kinds = get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    words = []
    for kind in (kind for kind in kinds if kind is not type(None)):
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            words += [repr(value) for value in arguments]
        elif origin is tuple:
            words.append(f"a tuple of {len(arguments)}" if Ellipsis not in arguments else "a tuple")
        else:
            words.append(TYPES.get(kind, getattr(kind, "__name__", str(kind))))
    return " or ".join(words)


def metadata(hint: object) -> list[Any]:
    """All that annotations say, also inside of unions and tuples."""
    own = list(getattr(hint, "__metadata__", ()))
    inner = (getattr(hint, "__origin__", None),) if own else get_args(hint)
    return own + [part for inside in inner for part in metadata(inside)]


def _bounds(part: object) -> Iterable[Gt | Ge | Lt | Le]:
    parts = part if isinstance(part, GroupedMetadata) else (part,)
    return [part for part in parts if isinstance(part, Gt | Ge | Lt | Le)]


def _require_within(value: float, what: str, bounds: Sequence[Gt | Ge | Lt | Le]) -> None:
    low = next((bound for bound in bounds if isinstance(bound, Gt | Ge)), None)
    high = next((bound for bound in bounds if isinstance(bound, Lt | Le)), None)

    def allowed(number: Any) -> bool:
        above = low is None or (number > low.gt if isinstance(low, Gt) else number >= low.ge)
        return above and (high is None or (number < high.lt if isinstance(high, Lt) else number <= high.le))

    unsaid = isinstance(high, Le) and high.le == MOST and value <= MOST  # nobody asks how large a number may be
    require(value, what, allowed, _range_in_words(low, None if unsaid else high))


def _range_in_words(low: Gt | Ge | None, high: Lt | Le | None) -> str:
    """ "above 0 and at most 1", "between 0 and 1", "0 or more"."""
    if isinstance(low, Ge) and isinstance(high, Le):
        return f"between {low.ge:,} and {high.le:,}"
    if isinstance(low, Gt) and isinstance(high, Lt):
        return f"between {low.gt:,} and {high.lt:,}, both excluded"
    words = []
    if low is not None:
        words.append(f"above {low.gt:,}" if isinstance(low, Gt) else f"{low.ge:,} or more")
    if high is not None:
        words.append(f"below {high.lt:,}" if isinstance(high, Lt) else f"at most {high.le:,}")
    return " and ".join(words)


def require(value: float | None, what: str, allowed: Callable[[float], bool], words: str) -> None:
    """Raises UserError unless a value, where there is one, is allowed."""
    if value is not None and not (math.isfinite(value) and allowed(value)):
        finite = "" if math.isfinite(value) else "finite and "
        raise UserError(f"{what} must be {finite}{words}, got {value}")
