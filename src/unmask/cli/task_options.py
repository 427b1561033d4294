"""Joins the options of a command with those of the task that `--to` names, which lie in that task's own folder.

So a new task needs no edit here: `unmask transfer --to TASK --help` shows its options, and an option of another task is
refused with the name of the task that it belongs to.
"""

import dataclasses
import inspect
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from unmask.cli.settings_file import is_yaml, read_texts
from unmask.errors import UserError, closest
from unmask.files import Json, parse_json
from unmask.tasks.folders import task_folders, task_module

DEFAULT = "classify"


def task_options(task: str) -> type:
    """The dataclass beside a task that holds the options it alone takes."""
    settings = task_module(task, "settings")
    return getattr(settings, settings.__all__[0])


def joined(options: type, task: str) -> type:
    """A command's dataclass of options with those of a task. Raises UserError for a task that there is none of."""
    folders = task_folders()
    if task not in folders:
        raise UserError(f"--to {task}: no such task{closest(task, folders)} There are: {', '.join(folders)}")
    own = task_options(task)

    def check(self: object) -> None:
        for part in (own, options):
            if post_init := getattr(part, "__post_init__", None):
                post_init(self)

    derived = (*getattr(options, "DERIVED", ()), *task_module(task, "settings").DERIVED)
    tasks = "\n".join(f"  {name:<9} {str(task_options(name).__doc__).splitlines()[0]}" for name in folders)
    other = next((name for name in reversed(folders) if name != task), task)
    purpose, end = (
        inspect.cleandoc(options.__doc__ or ""),
        f"The options below are those of --to {task}; others: --to {other} --help.",
    )
    text = f"{purpose}\n\nTasks, by --to:\n{tasks}\n{end}"
    content = {"__doc__": text, "__module__": options.__module__, "__post_init__": check, "DERIVED": derived}
    return dataclasses.dataclass(frozen=True)(type(options.__name__, (own, options), content))


def chosen(options: type, arguments: Sequence[str]) -> type:
    """The dataclass to parse a command line with: for a command that goes by tasks, joined with that of its task."""
    if not getattr(options, "BY_TASK", False):
        return options
    task = _value(arguments, "to") or _task_of(_value(arguments, "config")) or DEFAULT
    flags = (argument[2:].partition("=")[0] for argument in arguments if argument.startswith("--"))
    refuse_other_tasks(options, task, (flag.removeprefix("no-").replace("-", "_") for flag in flags))
    return joined(options, task)


def chosen_by_name(options: type, given: Json) -> type:
    """As `chosen`, for a call from Python."""
    if not getattr(options, "BY_TASK", False):
        return options
    task = given.get("to") or _task_of(given.get("config")) or DEFAULT
    refuse_other_tasks(options, task, (name for name, value in given.items() if value not in (None, "auto", ())))
    return joined(options, task)


def refuse_other_tasks(options: type, task: str, given: Iterable[str]) -> None:
    """Raises UserError for an option that other tasks have and this one has not."""
    own = [field.name for field in dataclasses.fields(joined(options, task))]
    for name in given:
        having = [other for other in task_folders() if name in _names(other)]
        if name not in own and having:
            flag, near = name.replace("_", "-"), get_close_matches(name, own, n=1, cutoff=0.5)
            belongs = f"--{flag} is for --to {' and '.join(having)}; --to {task} has no such option, take it out"
            nearest = f" (the nearest that it has is --{near[0].replace('_', '-')})" if near else ""
            raise UserError(belongs + nearest)


def _names(task: str) -> list[str]:
    return [field.name for field in dataclasses.fields(task_options(task))]


def _value(arguments: Sequence[str], name: str) -> str | None:
    """What stands behind `--name`, or `--name=`."""
    for place, argument in enumerate(arguments):
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
        if argument == f"--{name}" and place + 1 < len(arguments):
            return arguments[place + 1]
    return None


def _task_of(config: str | Path | None) -> str | None:
    """The task of a saved run; None where there is none, or none that can be read: that is refused later."""
    if not config:
        return None
    if is_yaml(config):
        task = read_texts(config).get("to")
        return task if isinstance(task, str) else None
    path = Path(config) / "config.json" if Path(config).is_dir() else Path(config)
    try:
        task = parse_json(path.read_text(encoding="utf-8")).get("task")
        return task if isinstance(task, str) else None
    except (OSError, ValueError, AttributeError):
        return None
