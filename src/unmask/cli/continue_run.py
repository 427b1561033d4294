"""Commands that write a folder: where, and whether what lies there may be continued."""

import dataclasses
from pathlib import Path
from typing import Any

from unmask.cli.options.pretrain import Pretrain
from unmask.errors import UserError
from unmask.plain import Place
from unmask.runs.run import CONFIG
from unmask.weights.open import require_known


def refuse_other_settings(asked: dict[str, Any], saved: dict[str, Any], out: Path) -> None:
    """A folder holds one run: what is asked now must be what was asked then, or what was chosen then."""
    fields = {field.name: field.default for field in dataclasses.fields(Pretrain)}
    then = {name: fields[name] for name in fields.keys() - saved["asked"].keys()} | saved["asked"]  # options new since
    differing = [
        f"  {name}: {_said(saved, name)} in the folder, {'chosen' if value is None else value} now"
        for name, value in asked.items()
        if name != "accumulate" and value != then.get(name) and value != saved["settings"].get(name)
    ]
    if differing:
        raise UserError(
            f"{out} holds a run with other settings:\n" + "\n".join(differing) + "\n"
            "Give the same settings to continue it, or another folder with --out (--init RUN starts from its weights)."
        )


def absolute(place: str) -> str:
    """The same place named from the root, if it is there: so that it is the same from any folder."""
    local = Path(place).exists() or ("{" in place and ":" not in place)  # a brace range of shards
    return str(Path(place).resolve()) if place != "demo" and local else place


def _said(saved: dict[str, Any], name: str) -> str:
    asked = saved["asked"].get(name)
    return f"{saved['settings'].get(name)} (chosen)" if asked is None else str(asked)


def results_folder(run: Place, asked: Place | None) -> Path:
    """The run folder, or the folder asked for; a place that cannot work is refused before the work."""
    require_known(run)
    if asked is None and not (Path(run) / CONFIG).exists():
        raise UserError(f"{run} is no run folder; say with --out where the results should go")
    out = Path(asked or run)
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; give a folder")
    return out
