"""What commands share: from a dataclass of options to a typed function, and checks of what was given.

A command is a frozen dataclass of options in `cli/options/` (the comment behind a field is its help text on the
command line) and a function of the same name in `cli/commands/`. Both the command line and `unmask.<command>` are made
from these. An options file imports nothing heavy: `unmask --help` reads them all.
"""

import dataclasses
import functools
import importlib.util
import inspect
import operator
import pkgutil
import types
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from unmask.cli.foreign_errors import in_our_words
from unmask.cli.help import choices_of, describe, place_on_page
from unmask.cli.settings_file import is_yaml, read_settings
from unmask.cli.shared_options import RuntimeOptions
from unmask.cli.synonyms import nearest_option, said_instead
from unmask.cli.task_options import chosen_by_name, task_options
from unmask.cli.wrong_words import in_words
from unmask.errors import UserError, closest, closest_place
from unmask.files import Json, parse_json
from unmask.plain import fits, settle
from unmask.registry import KINDS, given, is_foreign, parse, portable
from unmask.runtime.lock import Locks
from unmask.tasks.folders import task_folders

P = ParamSpec("P")
Options = TypeVar("Options")
Result = TypeVar("Result")
PARTS = (
    "parts",
    "model",
    "into",
    "to",
    "log_to",
    "evaluators",
    "methods",
    "views",
    *KINDS,
)  # options that name parts: what a person gives there may come from outside


def verb(options: Callable[P, Options]) -> Callable[[Callable[[Options], Result]], Callable[P, Result]]:
    """`@verb(Show)` over `def show(options: Show)` makes `show("run", "a.jpg", seed=1)`: the options, one by one."""

    kind = cast(type, options)

    def wrap(function: Callable[[Options], Result]) -> Callable[P, Result]:
        def run(given: Options) -> Result:
            require_parts(given)
            with Locks():
                try:
                    return function(given)
                except Exception as error:
                    if (ours := in_our_words(error)) is None:
                        raise
                    raise ours from error

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            if args and isinstance(args[0], kind):
                return run(_portable(cast(Options, args[0])))
            complete = chosen_by_name(kind, kwargs)
            names = [field.name for field in dataclasses.fields(complete)]
            for name in kwargs:
                if name not in names:
                    near, said = nearest_option(name, names), said_instead(name, names)
                    end = f", did you mean {near!r}?" if near else f": {said}" if said else "."
                    raise UserError(f"{function.__name__} has no option {name!r}{end}")
            places = dict(zip((field.name for field in dataclasses.fields(complete)), args))
            _refuse_wrong_types(function.__name__, complete, places | kwargs)
            with given(text for name in PARTS for text in _texts((places | kwargs).get(name))):
                return run(_portable(complete(*args, **_with_config(complete, args, kwargs))))

        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions:\n{describe(kind)}"
        for task in task_folders() if getattr(kind, "BY_TASK", False) else ():
            call.__doc__ += f"\n\nOptions of to={task!r}:\n{describe(task_options(task))}"
        returned = inspect.signature(function).return_annotation
        vars(call).update(options=kind, __signature__=_signature(kind).replace(return_annotation=returned))
        return call

    return wrap


def _refuse_wrong_types(command: str, options: type, values: Json) -> None:
    """Raises UserError for a text, number or truth value that its option cannot be; other objects are not judged."""
    hints = get_type_hints(options, include_extras=True)
    for name, value in values.items():
        if isinstance(value, str | int | float) and not fits(hints[name], value):
            near = closest(str(value), choices_of(hints[name])).rstrip(".")
            raise UserError(f"{command}: {name} takes {in_words(hints[name])}, got {value!r:.80}{near}")


def parts_in(arguments: Sequence[str]) -> list[str]:
    """What stands on a command line behind options that name parts; not what `--config FILE` says."""
    texts, name = [], ""
    for argument in arguments:
        if argument.startswith("--"):
            name, given_here, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            texts += [value] if given_here and name in PARTS else []
        elif name in PARTS:
            texts.append(argument)
    return texts


def require_parts(options: object) -> None:
    """Raises UserError where `--parts` names no part from outside, or a source that is not there."""
    for text in _texts(getattr(options, "parts", ())):
        name = parse(text)[0].partition(":")[0]
        if not is_foreign(name):
            raise UserError(
                f"--parts {text}: give a part from outside of unmask, as a file (./comb.py) or a module (my_lab.comb);"
                " unmask's own parts need not be given"
            )
        if name.endswith(".py") and not (path := Path(name).expanduser()).is_file():
            raise UserError(f"--parts {text}: there is no such file{closest_place(path)}")
        if not name.endswith(".py") and not _is_importable(name):
            raise UserError(f"--parts {text}: there is no such module; is its folder on PYTHONPATH? Or give its file")


def _is_importable(name: str) -> bool:
    with suppress(ImportError, ValueError):
        return importlib.util.find_spec(name) is not None
    return False


def _texts(value: object) -> list[str]:
    """The texts among one value or several."""
    return [text for text in (value if isinstance(value, list | tuple) else [value]) if isinstance(text, str)]


def _portable(options: Options) -> Options:
    """The same options, with files of parts named without their folders."""
    for name in PARTS:
        if name != "parts" and (value := getattr(options, name, None)):
            named = [portable(part) if isinstance(part, str) else part for part in _texts(value)]
            if named:
                settle(options, name, named[0] if isinstance(value, str) else tuple(named))
    return options


def _signature(options: type) -> inspect.Signature:
    """That of the dataclass; where options depend on a task, with those of every task."""
    own = signature(options)
    if not getattr(options, "BY_TASK", False):
        return own
    parameters = dict(own.parameters)
    for task in task_folders():
        parameters = dict(signature(task_options(task)).parameters) | parameters
    ordered = sorted(parameters.values(), key=lambda parameter: parameter.kind)  # positional ones first
    return own.replace(parameters=ordered)


def signature(options: type) -> inspect.Signature:
    """That of a dataclass of options, with the types that Python callers may give; not what tyro and ranges note.
    Options by name are in the order of the help."""
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        p.replace(annotation=_plain_type(hints[p.name])) for p in inspect.signature(options).parameters.values()
    ]
    return inspect.Signature(
        sorted(parameters, key=lambda p: (p.kind, place_on_page(p.name) if p.kind is p.KEYWORD_ONLY else 0))
    )


def _plain_type(hint: Any) -> Any:
    if get_origin(hint) is Annotated:
        return _plain_type(get_args(hint)[0])
    inner, origin = tuple(_plain_type(part) for part in get_args(hint)), get_origin(hint)
    if origin in (Union, types.UnionType):
        return functools.reduce(operator.or_, inner)
    generic: Any = origin
    return generic[inner] if origin in (tuple, list, Sequence) else hint


def commands() -> dict[str, type]:
    """The options of every command by its name: the one class of each file of `cli/options/`."""
    package = importlib.import_module("unmask.cli.options")
    return {
        module.name: _public(f"unmask.cli.options.{module.name}") for module in pkgutil.iter_modules(package.__path__)
    }


def command(name: str) -> Callable:
    """The function of a command, with whatever it imports."""
    return _public(f"unmask.cli.commands.{name}")


def _public(module: str) -> Any:
    loaded = importlib.import_module(module)
    return getattr(loaded, loaded.__all__[0])


def saved(options: type, path: str | Path) -> Json:
    """The settings of a saved run that `options` has fields for, from its config.json (or the folder that holds it)."""
    if is_yaml(path):
        return read_settings(options, path)
    if not issubclass(options, RuntimeOptions):
        raise UserError(
            f"--config {path}: give a file that ends in .yaml; settings of runs are for pretrain and transfer"
        )
    from unmask.runs.config import Config

    path = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        settings = content["settings"] if "task" in content else Config.from_plain(content, str(path)).options()
        items = list(settings.items())
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no configuration of a run: {str(error)[:200]!r}") from error
    names, derived = {field.name for field in dataclasses.fields(options)}, getattr(options, "DERIVED", ())
    hints = get_type_hints(options, include_extras=True)
    for name, value in items:
        if name not in names and name not in derived:
            raise UserError(f"{path} has a setting {name!r} that there is none of{closest(name, names)}")
        if name in names and not fits(hints[name], value):
            raise UserError(f"{path}: {name} is {value!r:.80}, which --{name.replace('_', '-')} cannot be")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in names}


def _with_config(options: type, args: tuple, kwargs: Json) -> Json:
    """`config=FILE` supplies what is not given otherwise."""
    if not kwargs.get("config"):
        return kwargs
    places = [field for field in dataclasses.fields(options) if not field.kw_only]
    given = {field.name for field, _ in zip(places, args)}
    return {k: v for k, v in saved(options, kwargs["config"]).items() if k not in given} | kwargs
