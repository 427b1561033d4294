"""The command `completion`: the commands, their options and the values of these, written down for a shell.

Everything stands in the script, so that no key press starts Python.
"""

import dataclasses
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_type_hints

from unmask import registry
from unmask.cli.help import choices_of, comments, is_positional, summary
from unmask.cli.options.completion import SHELLS, Completion
from unmask.cli.task_options import DEFAULT, joined
from unmask.cli.verb import commands, verb
from unmask.runtime.settings import DEVICES
from unmask.tasks.folders import task_folders

__all__ = ["completion"]
PARTS = {"mask": "mask", "target": "target", "decoder": "decoder", "method": "method", "head": "head"}
PARTS |= {"recipe": "recipe", "pyramid": "pyramid"}  # option -> kind of the registry


@dataclass(frozen=True)
class Flag:
    """One option as a shell knows it."""

    name: str  # without the dashes
    values: tuple[str, ...]  # that may follow; none: anything, such as a file
    takes_value: bool
    text: str


@verb(Completion)
def completion(options: Completion) -> str:
    """Prints the script and returns it."""
    flags = {name: flags_of(name, chosen) for name, chosen in commands().items()}
    texts = {name: summary(chosen) for name, chosen in commands().items()}
    script = {"bash": bash, "zsh": zsh, "fish": fish}[options.shell](flags, texts)
    print(script)
    return script


def flags_of(command: str, options: Any) -> list[Flag]:
    """The options of a command; where they depend on the task, those of all tasks."""
    by_task = getattr(options, "BY_TASK", False)
    variants = [joined(options, task) for task in (DEFAULT, *task_folders())] if by_task else [options]
    flags: dict[str, Flag] = {"help": Flag("help", (), False, "show all options")}
    for variant in variants:
        hints, texts = get_type_hints(variant, include_extras=True), comments(variant)
        for field in dataclasses.fields(variant):
            if is_positional(hints[field.name]):
                continue
            name, hint = field.name.replace("_", "-"), hints[field.name]
            is_switch = isinstance(field.default, bool)
            name = f"no-{name}" if field.default is True else name
            flags.setdefault(name, Flag(name, values_of(field.name, hint), not is_switch, texts.get(field.name, "")))
    if by_task:
        flags["to"] = dataclasses.replace(flags["to"], values=tuple(task_folders()))
    elif command == "export":
        flags["to"] = dataclasses.replace(flags["to"], values=tuple(registry.names("export")))
    return sorted(flags.values(), key=lambda flag: flag.name)


def values_of(name: str, hint: object) -> tuple[str, ...]:
    """What may follow an option, where that is a short list."""
    if name in PARTS:
        return tuple(registry.names(PARTS[name]))
    return DEVICES if name == "device" else choices_of(hint)


def bash(flags: dict[str, list[Flag]], texts: dict[str, str]) -> str:
    """For bash 3.2 and later."""
    lines = [
        "# bash completion of unmask",
        "_unmask() {",
        '  local current="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        '  local command="${COMP_WORDS[1]}" words=""',
        "  COMPREPLY=()",
        '  if [ "$current" = "=" ]; then current=""',  # --option=value is three words to bash
        '  elif [ "$before" = "=" ]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi',
        f'  if [ "$COMP_CWORD" -le 1 ]; then words="{" ".join([*flags, "--help", "--version"])}"',
        '  elif [ "${current:0:1}" = "-" ]; then case "$command" in',
        *(f'    {command}) words="{" ".join(f"--{flag.name}" for flag in own)}" ;;' for command, own in flags.items()),
        '  esac; else case "$command $before" in',
        f'    "completion completion") words="{" ".join(SHELLS)}" ;;',
    ]
    for command, own in flags.items():
        for values, names in _by_values(own):
            patterns = "|".join(f'"{command} --{name}"' for name in names)
            lines.append(f"    {patterns}) words={shlex.quote(' '.join(values))} ;;")
    lines += [
        "  esac; fi",
        '  [ -n "$words" ] && COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o bashdefault -o default -F _unmask unmask",  # files where there are no words
    ]
    return "\n".join(lines)


def zsh(flags: dict[str, list[Flag]], texts: dict[str, str]) -> str:
    """For zsh; it shows what the options do."""
    lines = ["#compdef unmask", "_unmask() {", "  local -a words_", "  if (( CURRENT == 2 )); then"]
    lines += [f"    words_=({' '.join(shlex.quote(f'{name}:{_plain(text)}') for name, text in texts.items())})"]
    lines += ["    _describe command words_; return", "  fi", '  case "$words[2] $words[CURRENT-1]" in']
    for command, own in flags.items():
        for values, names in _by_values(own):
            patterns = "|".join(f'"{command} --{name}"' for name in names)
            lines.append(f"    {patterns}) compadd -- {shlex.join(values)}; return ;;")
    lines += ["  esac", '  if [[ "$PREFIX" != -* ]]; then']
    lines += [f"    [[ $words[2] == completion ]] && compadd -- {' '.join(SHELLS)} || _files; return"]
    lines += ["  fi", "  case $words[2] in"]
    for command, own in flags.items():
        entries = " ".join(shlex.quote(f"--{flag.name}:{_plain(flag.text)}") for flag in own)
        lines.append(f"    {command}) words_=({entries}) ;;")
    lines += ["  esac", "  _describe -o option words_", "}"]
    lines += ["(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }", "compdef _unmask unmask"]
    return "\n".join(lines)


def fish(flags: dict[str, list[Flag]], texts: dict[str, str]) -> str:
    """For fish 3 and later; it shows what the options do."""
    lines = ["# fish completion of unmask"]
    for name, text in texts.items():
        lines.append(f"complete -c unmask -f -n __fish_use_subcommand -a {name} -d {_quoted(text)}")
    for command, own in flags.items():
        start = f"complete -c unmask -n '__fish_seen_subcommand_from {command}'"
        for flag in own:
            value = f" -x -a {_quoted(' '.join(flag.values))}" if flag.values else " -r" if flag.takes_value else ""
            lines.append(f"{start} -l {flag.name}{value} -d {_quoted(flag.text)}")
    lines.append(f"complete -c unmask -f -n '__fish_seen_subcommand_from completion' -a {_quoted(' '.join(SHELLS))}")
    return "\n".join(lines)


def _by_values(flags: Iterable[Flag]) -> list[tuple[tuple[str, ...], list[str]]]:
    """Options that take the same values, together."""
    names: dict[tuple[str, ...], list[str]] = {}
    for flag in flags:
        if flag.values:
            names.setdefault(flag.values, []).append(flag.name)
    return list(names.items())


def _plain(text: str) -> str:
    """A colon would end the name in zsh's list."""
    return text.replace(":", r"\:")


def _quoted(text: str) -> str:
    """In single quotes, as fish reads them."""
    return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"
