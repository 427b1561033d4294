"""Files of a run that must never be half written: written beside, flushed to disk, then renamed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unmask.errors import UserError

LAST = "last.ckpt"


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write` on a neighbouring name, then puts the result in the place of `path` in one step."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def write_json(path: Path, content: Any) -> None:
    """JSON for people and programs: indented, atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; empty where there is no such file. UserError for a damaged one."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object, it holds a {type(content).__name__}")
    return content


def read_last(out: Path) -> dict[str, Any] | None:
    """The last checkpoint of a run, on the CPU, or None. No code in the file is run."""
    path = out / LAST
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        lasting = ", ".join(sorted(p.name for p in out.glob("step_*.ckpt"))) or "none"
        raise UserError(
            f"{path} is damaged and cannot be read. Put one of the lasting checkpoints in its place (there: {lasting}),"
            " or start again in a new folder"
        ) from error


def save(
    out: Path, state: dict[str, Any], keep: bool, write: Callable[[Path, Any], Any] = lambda p, s: torch.save(s, p)
):
    """Writes `last.ckpt`; with `keep` also a lasting `step_<n>.ckpt`, which shares its bytes where the disk can."""
    write_atomically(out / LAST, lambda part: write(part, state))
    if keep:
        lasting = out / f"step_{state['step']:08d}.ckpt"
        lasting.unlink(missing_ok=True)
        try:
            os.link(out / LAST, lasting)
        except OSError:  # a file system without hard links
            write_atomically(lasting, lambda part: write(part, state))
