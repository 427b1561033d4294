"""Turns the text `name(option=value)` into an object. The file name is the registry.

`build("mask", "blob(ratio=0.6)")` imports `masking/samplers/blob.py` and calls the one name in its `__all__`.

A dotted name, `my_lab.masks.comb`, or a file, `./comb.py`, is a part from outside of the package. It is imported only
within `given`, which `cli/verb.py` and `unmask.load` enter with what a person wrote on this command line or in this
call. Nobody else does: texts that were read from a disk can name such a part, and that alone never runs it. `:Name`
behind it, or a last name in capitals, `my_lab.nets.Tiny`, says which class is meant; else the one in `__all__` is.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from unmask.errors import NotGiven, UserError, closest
from unmask.files import read_json, write_atomically, write_json
from unmask.plain import check_options

KINDS = {  # kind -> the package whose files are its parts
    "annotations": "unmask.data.annotations.formats",
    "decoder": "unmask.models.decoders",
    "encoder": "unmask.models.encoders",
    "evaluator": "unmask.evaluation.frozen",
    "export": "unmask.export.formats",
    "head": "unmask.models.heads",
    "mask": "unmask.masking.samplers",
    "method": "unmask.methods",
    "modality": "unmask.data.modalities",
    "projection": "unmask.models.projections",
    "pyramid": "unmask.models.pyramids",
    "recipe": "unmask.planning.recipes",
    "source": "unmask.data.sources",
    "stream": "unmask.data.shards.formats",
    "target": "unmask.methods.targets",
    "tokenizer": "unmask.models.tokenizers",
    "tracker": "unmask.training.trackers",
    "transform": "unmask.data.transforms",
    "weights": "unmask.weights.formats",
}


def build(kind: str, spec: object, **context: object) -> Any:
    """The part that `spec` names, given its written options and whatever of `context` it has a parameter for.

    Anything that is not text is taken to be the part already. Raises UserError for an unknown name or option.
    """
    if spec is None or isinstance(spec, int | float | tuple | list | dict):
        raise UserError(f"a {kind} is named by text, name or name(option=value); got {spec!r}")
    if not isinstance(spec, str):
        return spec
    name, options = parse(spec)
    part = find(kind, name)
    allowed = inspect.signature(part).parameters
    check_options(part, name, options, context)
    try:
        return part(**options, **{key: value for key, value in context.items() if key in allowed})
    except (TypeError, ZeroDivisionError, OverflowError) as error:
        if not options:
            raise
        raise UserError(f"{spec!r} does not work: {error}") from error


_FILE = re.compile(r"""([^()'"]+\.py(?::\w+)?|[\w.]+:\w+)\s*(\(.*\))?""", re.DOTALL)
_CLASS = re.compile(r"^([\w.]+)\.([A-Z]\w*)(?=\(|$)")  # my_lab.nets.Tiny is the class Tiny of my_lab.nets


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Splits `name(option=value)` into the name and the options, which must be literals. The name may be a file's."""
    spec = _CLASS.sub(r"\1:\2", spec.strip())
    file = _FILE.fullmatch(spec)
    try:
        tree = ast.parse(f"part{file[2] or ''}" if file else spec, mode="eval").body
        if not isinstance(tree, ast.Call):
            return (file[1] if file else spec), {}
        name = file[1] if file else ast.unparse(tree.func)
        if tree.args:
            raise UserError(f"write options by name in {spec!r}, e.g. {name}(ratio=0.75)")
        return name, dict(_option(keyword, named=name == "multimodal") for keyword in tree.keywords)
    except SyntaxError as error:
        raise UserError(f"cannot read {spec!r}; write name or name(option=value), paths in quotes") from error
    except UserError:
        raise
    except (RecursionError, MemoryError) as error:
        raise UserError(f"cannot read {spec[:40]!r}...: it is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"options in {spec!r} must be plain values (numbers, text in quotes, tuples)") from error


def names(kind: str) -> list[str]:
    """The parts of a kind: the files of its folder, but for a contract, named like its parts' folder, and settings."""
    modules = list(pkgutil.iter_modules(importlib.import_module(KINDS[kind]).__path__))
    folders = {module.name for module in modules if module.ispkg}
    return sorted(m.name for m in modules if not m.ispkg and f"{m.name}s" not in folders and m.name != "settings")


def _option(keyword: ast.keyword, named: bool) -> tuple[str, Any]:
    """Name and value; parts, also with options, need no quotes: `mae(mask=block(ratio=0.6))`. named: any."""
    name, value = str(keyword.arg), keyword.value
    part = (named or name in (*KINDS, "predictor", "a", "b")) and isinstance(value, ast.Name | ast.Attribute | ast.Call)
    if not part and isinstance(value, ast.Name):
        raise UserError(f"options are plain values (numbers, texts in quotes, tuples): {name}={value.id!r}")
    return name, ast.unparse(value) if part else ast.literal_eval(value)


def require(kind: str, spec: str) -> None:
    """Raises UserError unless a part's text can be read and names a file of the package, or a dotted name. Imports
    nothing: for names that are refused before the parts, which bring torch, are there."""
    name, parts = parse(spec)[0], names(kind)
    if not is_foreign(name) and name not in parts:
        raise UserError(f"no {kind} {name!r}{closest(name, parts)} There are: {', '.join(parts)}")


def find(kind: str, name: str) -> Any:
    """The one public name of a part's file, or the one said. UserError for a part from outside that is not `given`."""
    require(kind, name)
    foreign, (name, _, member) = is_foreign(name), name.partition(":")
    module = _foreign_module(name) if foreign else importlib.import_module(f"{KINDS[kind]}.{name}")
    public = [member] if member else getattr(module, "__all__", [])
    if len(public) == 1 and hasattr(module, public[0]):
        return getattr(module, public[0])
    near = f"; there is no {member!r}{closest(member, vars(module))}" if member else f", it has {list(public)}"
    raise UserError(f"{module.__file__} must name its one public class in __all__{near}")


@dataclass(frozen=True)
class _Given:
    """What a person gave: the name by which files call a part -> a dotted name, or the path of a file."""

    targets: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, Path] = field(default_factory=dict)  # name -> its source, of those that were imported


_GIVEN: ContextVar[_Given] = ContextVar("parts given")
KEPT, HASHES = "parts", "parts.json"  # in a folder that a command writes: sources of such parts, and their SHA-256


@contextmanager
def given(texts: Iterable[str]) -> Iterator[None]:
    """Within it, the parts from outside that `texts` name may be imported, besides those given around it.

    texts: written by a person, here and now; never what a file says, since importing a part runs it. A file is known by
    its name without its folder. Raises UserError where two files have one name.
    """
    before = _now()
    targets = dict(before.targets)
    for name in (name for text in texts for name in _foreign_names(text)):
        target = str(Path(name).expanduser().resolve()) if name.endswith(".py") else name
        if targets.setdefault(_key(name), target) != target:
            raise UserError(f"{targets[_key(name)]} and {target} have the same name; rename one of them")
    token = _GIVEN.set(_Given(targets, before.loaded))
    try:
        yield
    finally:
        _GIVEN.reset(token)


def _now() -> _Given:
    return _GIVEN.get(None) or _Given()


def parts_given() -> tuple[str, ...]:
    """The parts from outside that may be imported here: for `given` at a later time."""
    return tuple(_now().targets.values())


def is_foreign(name: str) -> bool:
    """Whether a name is that of a part from outside of the package, or a class of one; not of a library's network."""
    return "." in name or "/" in name or (":" in name and not name.startswith(("timm:", "torchvision:")))


def is_given(name: str) -> bool:
    """Whether a part from outside may be imported here."""
    return is_foreign(name) and _target(name) is not None


def portable(text: str) -> str:
    """The same text without the folders of files, as a run writes it down: `comb.py(every=2)`."""
    for name in _foreign_names(text):
        text = text.replace(name, _key(name))
    return text


def keep_sources(folder: Path) -> None:
    """Copies the source of every part from outside that was used into a folder's `parts`, to look at; it is not run
    from there. What is kept already stays as it is."""
    saved = read_json(folder / KEPT / HASHES)
    for name, path in _now().loaded.items():
        if name not in saved:
            (folder / KEPT).mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            write_atomically(folder / KEPT / _kept(name), lambda part, content=content: part.write_bytes(content))
            write_json(folder / KEPT / HASHES, saved := saved | {name: hashlib.sha256(content).hexdigest()})


def remark_on_parts(folder: Path) -> None:
    """Says, on stderr, which parts from outside a folder was made with that are not given, or are others now."""
    parts = read_json(folder / KEPT / HASHES).items()
    for name, digest in (part for part in parts if re.fullmatch(r"[\w./-]+", part[0])):
        source, place = _source(name), folder / KEPT / _kept(name)
        if source is None:
            said = f"{folder} was made with {name}, a part from outside of unmask, which is not run: {_how(name)}"
        elif (now := _digest(source)) != digest:
            said = f"{source} (SHA-256 {now[:12]}) is not the {name} that {folder} was made with ({str(digest)[:12]})"
            said += f"; that one is kept in {place}"
        else:
            continue
        print(said, file=sys.stderr)


def _foreign_names(text: str) -> list[str]:
    """The names of parts from outside in a text, those in its options included; none in a text that cannot be read."""
    with suppress(UserError):
        name, options = parse(text)
        inner = [part for value in options.values() if isinstance(value, str) for part in _foreign_names(value)]
        return [name.partition(":")[0], *inner] if is_foreign(name) else inner
    return []


def _key(name: str) -> str:
    return Path(name).name if name.endswith(".py") else name


def _kept(name: str) -> str:
    return f"{name.removesuffix('.py').replace('/', '_')}.py"


def _target(name: str) -> str | None:
    """What was given for a name: itself, or the only part given that is called so but for its folder or package."""
    targets, short = _now().targets, _key(name).removesuffix(".py").split(".")[-1]
    alike = [target for key, target in targets.items() if key.removesuffix(".py").split(".")[-1] == short]
    return targets.get(_key(name)) or (alike[0] if len(alike) == 1 else None)


def _foreign_module(name: str) -> ModuleType:
    target = _target(name)
    if target is None:
        raise NotGiven(f"{name} is a part from outside of unmask, and what a file names is not run: {_how(name)}")
    try:
        module = _of_file(Path(target)) if target.endswith(".py") else importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name and target.startswith(error.name):
            remedy = f"is its folder on PYTHONPATH? Or give the file: ./{target.replace('.', '/')}.py"
            raise UserError(f"cannot import {target!r}: {error}; {remedy}") from error
        raise
    if module.__file__:
        _now().loaded[_key(name)] = Path(module.__file__)
    return module


def _of_file(path: Path) -> ModuleType:
    """A file as a module of its own, the same one as long as its content is the same."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; a part is a .py file with one public class")
    name = f"unmask_part_{path.stem}_{_digest(path)[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # its name ends in .py
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs, as import does: dataclasses look there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _source(name: str) -> Path | None:
    """The file of a part that is given, without importing it; None where it is not given or has none."""
    target = _target(name)
    if target is None or target.endswith(".py"):
        return None if target is None else Path(target)
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(target)
        return Path(spec.origin) if spec and spec.origin else None
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


def _how(name: str) -> str:
    file = f"./{_key(name).removesuffix('.py').split('.')[-1]}.py"
    dotted, python = ("", repr(file)) if name.endswith(".py") else (f"--parts {name}, or ", repr(name))
    look = f"look at it (a run keeps the source in its folder {KEPT})"
    return f"{look}, then give it with {dotted}--parts {file}; in Python parts={python}"
