"""Settings files: `--config FILE.yaml` for every command, and the options of a command written down as YAML.

Keys are names of options, values what would stand on the command line: a text, a number or a list of these. They are
read as text, so that `off` is off and `1e-3` a number, whatever YAML thinks of them.
"""

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from unmask.cli.help import comments
from unmask.cli.wrong_words import in_words, read
from unmask.errors import UserError, closest, closest_place
from unmask.plain import Dataclass, Place

ENDINGS = (".yaml", ".yml")
MOST = 2**20  # bytes: more is no file of settings
YES, NO = ("true", "yes", "on"), ("false", "no", "off")


def is_yaml(path: Place) -> bool:
    """Whether a `--config` is a file of settings, and not the config.json of a run."""
    return Path(path).suffix.lower() in ENDINGS


def read_settings(options: type, path: Place) -> dict[str, Any]:
    """The values that a file gives to options of a dataclass. UserError for keys and values that it does not have."""
    fields = {field.name: field for field in dataclasses.fields(options) if field.name != "config"}
    hints, settings = get_type_hints(options, include_extras=True), {}
    for key, value in read_texts(path).items():
        name = key.replace("-", "_")
        if name not in fields:
            raise UserError(f"{path} has {key!r}, which is no option here{closest(name, fields)}")
        if value is not None:
            settings[name] = _typed(fields[name], hints[name], value, f"{path}: {key}")
    return settings


def read_texts(path: Place) -> dict[str, str | list[str] | None]:
    """A flat YAML file: texts and lists of texts by key, None where a value is left open.

    Bounded whatever the file holds: its nodes are not copied where aliases name them. Raises UserError.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise UserError(f"--config {path} does not exist{closest_place(path)}")
    if path.stat().st_size > MOST:
        raise UserError(f"--config {path} is larger than {MOST // 2**20} MB: that is no file of settings")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"--config {path} cannot be read: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise UserError(f"--config {path} is nested too deeply; it holds `option: value` lines") from error
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"--config {path} must hold `option: value` lines")
    settings: dict[str, str | list[str] | None] = {}
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in settings:
            raise UserError(f"--config {path} has {key.value!r} twice" if settings else f"--config {path}: odd key")
        inner = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(node, yaml.ScalarNode) for node in inner):
            raise UserError(f"{path}: {key.value} must be a value or a list of values")
        texts = [node.value for node in inner if not node.tag.endswith(":null")]
        settings[key.value] = texts if isinstance(value, yaml.SequenceNode) else next(iter(texts), None)
    return settings


def written_settings(command: str, options: Dataclass) -> str:
    """Options as a file for `--config`: those that differ from the defaults; the others as comments, explained."""
    import yaml

    texts, given, left = comments(type(options)), [], []
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        value = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        text = yaml.safe_dump([value], default_flow_style=True, width=10**6, allow_unicode=True).strip()
        line = f"{field.name}: {text[1:-1]}"  # without the brackets of a list that spares a document's marks
        is_default = field.default == getattr(options, field.name) or str(field.default) == str(value)
        if field.name != "config":
            (left if is_default else given).append(f"# {line}  # {texts.get(field.name, '')}" if is_default else line)
    return "\n".join([f"# unmask {command} --config FILE", *given, "", "# as by default:", *left])


def without_checks(options: type, values: dict[str, Any]) -> Any:
    """The defaults of a command line: an object of options that is not complete, and so is not checked yet."""
    incomplete = object.__new__(options)
    for field in dataclasses.fields(options):
        default = tyro.MISSING if field.default is dataclasses.MISSING else field.default
        object.__setattr__(incomplete, field.name, values.get(field.name, default))
    return incomplete


def _typed(field: dataclasses.Field, hint: object, value: str | list[str], where: str) -> Any:
    """A value as the command line would make it of text."""
    words = [value] if isinstance(value, str) else value
    if isinstance(field.default, bool):
        if words[0].lower() not in (*YES, *NO) or len(words) > 1:
            raise UserError(f"{where} is {value!r}; it is true or false")
        return words[0].lower() in YES
    value_read = read(field, hint, words)
    if value_read is None:
        raise UserError(f"{where} is {value!r}; it takes {in_words(hint)}")
    return value_read[0]
